import sys

from datasets_scripts.audit.command import main


__all__ = []

if __name__ == "__main__":
    sys.exit(main())
