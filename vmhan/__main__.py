import sys

from vmhan.cli import main


__all__ = []

if __name__ == "__main__":
    sys.exit(main())
