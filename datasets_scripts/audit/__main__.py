import sys

from datasets_scripts.audit.command import main
from datasets_scripts.commands import run_command


__all__ = []

if __name__ == "__main__":
    sys.exit(run_command("audit", main))
