"""The command of a benchmark: its help, which is the docstring of its file, and what a report says of a call.

`module` is the file's `__spec__.name`: under `python -m`, `__name__` is "__main__".
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from vmhan.training.environment import describe_environment


__all__ = ["about_call", "new_parser"]


def new_parser(module: str, doc: str) -> argparse.ArgumentParser:
    """A parser without arguments, which prints `doc` as it stands."""
    kind = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m {module}", description=doc, formatter_class=kind)


def about_call(module: str, argv: Sequence[str] | None, **more: Any) -> dict[str, Any]:
    """The command as it was typed (`argv` None: of this process), `more`, and the machine and the code."""
    command = shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])
    return {"command": command, **more, **describe_environment()}
