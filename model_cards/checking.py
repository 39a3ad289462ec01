"""Does a card say what the files say?

    python -m model_cards.checking OUTPUT_DIR ...

makes the card of each OUTPUT_DIR anew from its files and compares all lines with a number or a leak mark; exit 1 if
one differs. Other lines may be edited.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_cards.cards import model_card


__all__ = ["check_card", "main"]

CLAIM = re.compile(r"\d|leak", re.IGNORECASE)


def check_card(folder: str | Path, run: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with the folder's README.md, a sentence for each line of it; ValueError if a file is missing.

    `run` may stand for run.json, which a run writes after its card.
    """
    path = Path(folder) / "README.md"
    if not path.is_file():
        raise ValueError(f"{folder}: expected a README.md, received none. Run `python -m model_cards.cards {folder}`.")
    card = path.read_text(encoding="utf-8")
    named = re.search(r'^repo_id = (".*")$', card, flags=re.MULTILINE)
    stated, expected = (
        Counter(line.strip() for line in text.splitlines() if CLAIM.search(line))
        for text in (card, str(model_card(folder, named and json.loads(named[1]), run)))
    )
    return [
        *(f"`{line}` stands in the card and comes from no file" for line in stated - expected),
        *(f"`{line}` comes from the files and is missing in the card" for line in expected - stated),
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare cards with the files that they are made from.")
    parser.add_argument("output_dirs", nargs="*", metavar="OUTPUT_DIR", help="a finished --output_dir of run_mmre.py")
    problems = [
        f"{folder}/README.md: {said}" for folder in parser.parse_args(argv).output_dirs for said in check_card(folder)
    ]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
