"""What all commands have in common: a user's mistake is one line and exit code 2, never a traceback."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from model_cards.secrets import without_secrets
from modeling_vmhan.needs import Need, unmet


__all__ = [
    "aligned", "check_folder_or_hub_name", "check_needs", "nearest", "nearest_file", "parse_dataclasses",
    "run_command",
]  # fmt: skip

LONGEST, MANY = 80, 1000  # characters and number of names that are compared; difflib's time grows with their square
USER_ERRORS = (ValueError, OSError, ImportError, yaml.YAMLError)


def run_command(name: str, main: Callable[[], Any]) -> int:
    """The exit code of `main`: what it returns if that is a whole number, else 0; 2 for a user error; 130 for Ctrl-C.

    A user error is one of `USER_ERRORS`, or is caused by one (as what `datasets` raises where a builder fails), or is
    what argparse finds; it becomes one line on stderr, without passwords and tokens. Commands raise it with the
    argument, the value and the fix.
    """
    own, argparse.ArgumentParser.error = argparse.ArgumentParser.error, _refuse  # its own prints the usage and exits
    try:
        code = main()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, USER_ERRORS):
            cause = cause.__cause__
        if cause is None:
            raise
        message = without_secrets(" ".join(str(cause).split()))
        print(f"{name}: {message or type(cause).__name__}", file=sys.stderr)
        return 2
    finally:
        argparse.ArgumentParser.error = own
    return code if isinstance(code, int) else 0


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose cells are texts: the first and last column to the left, those between to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(between, widths[1:])), last]
        ).rstrip()
        for first, *between, last in rows
    ]


def nearest_file(path: str | Path) -> str:
    """What `nearest` says of the names beside a path that is not there."""
    path = Path(path)
    return nearest(path.name, (other.name for other in path.parent.iterdir())) if path.parent.is_dir() else ""


def check_folder_or_hub_name(argument: str, name: str) -> None:
    """ValueError for a name that can only be a folder's, and is not there: without it the Hub would be asked.

    What is absolute, has more than two parts, or is nearly the name of what lies in its place is no name on the Hub.
    """
    path = Path(name)
    near = "" if path.exists() else nearest_file(path)
    if near or (not path.exists() and (path.is_absolute() or len(path.parts) > 2)):
        raise ValueError(f"{argument}: there is no folder {name}{near}")


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word that is most like `word`, or "" if none is.

    Example:
        >>> nearest("trian", ["train", "score"])
        "; did you mean 'train'?"
    """
    short = [name for name in islice(known, MANY) if len(name) <= LONGEST]
    found = difflib.get_close_matches(word, short, n=1) if len(word) <= LONGEST else []
    return f"; did you mean {found[0]!r}?" if found else ""


def check_needs(parser: argparse.ArgumentParser, arguments: argparse.Namespace, needs: Iterable[Need]) -> None:
    """An error of the parser for a flag with another value than its default that lacks what it needs."""
    values = vars(arguments)
    given = {name for name, value in values.items() if value != parser.get_default(name)}
    for message in unmet(needs, values, given, flag="--"):
        parser.error(message)


def parse_dataclasses(parser: Any, argv: Sequence[str]) -> tuple:
    """The dataclasses of a `transformers.HfArgumentParser`, whose own message about an unknown flag suggests none."""
    *parsed, unknown = parser.parse_args_into_dataclasses(
        args=list(argv), look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        _refuse(parser, f"unrecognized arguments: {' '.join(unknown)}")
    return tuple(parsed)


def _refuse(parser: argparse.ArgumentParser, message: str) -> None:
    """Raises argparse's message, with the known flag that is most like an unknown one."""
    wrong = re.search(r"unrecognized arguments:.*?(--[^\s=]+)", message)
    raise ValueError(message + (nearest(wrong[1], parser._option_string_actions) if wrong else ""))
