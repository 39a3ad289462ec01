"""Where things are: this checkout, and the folder beside it whose data may not be redistributed."""

from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
MNRE_DATA = SHARED / "data" / "mnre"
PAPER = SHARED / "paper" / "000_6e0ff5f9ff7f92b0.txt"
