"""What all commands have in common: a user's mistake is one line and exit code 2, never a traceback."""

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import Any


__all__ = ["nearest", "run_command"]


def run_command(name: str, main: Callable[[], Any]) -> int:
    """The exit code of `main`: what it returns if that is a whole number, else 0; 2 for an error that is the user's.

    Those are ValueError, OSError and ImportError, whose messages name the value and the fix.
    """
    try:
        code = main()
    except (ValueError, OSError, ImportError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word that is most like `word`, or "" if none is.

    Example:
        >>> nearest("trian", ["train", "score"])
        "; did you mean 'train'?"
    """
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
