import sys

from vmhan.evaluation.browser.command import main


__all__ = []

if __name__ == "__main__":
    sys.exit(main())
