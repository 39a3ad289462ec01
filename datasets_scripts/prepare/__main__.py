import sys

from datasets_scripts.commands import run_command
from datasets_scripts.prepare.command import main


__all__ = []

if __name__ == "__main__":
    sys.exit(run_command("prepare", main))
