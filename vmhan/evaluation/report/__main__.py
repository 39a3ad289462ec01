import sys

from vmhan.evaluation.report.command import main


__all__ = []

if __name__ == "__main__":
    sys.exit(main())
