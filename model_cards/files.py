"""The one way in which this project writes files: a reader sees the old file or the new one, never a part of one."""

import contextlib
import glob
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


__all__ = ["json_text", "remove_leftovers", "remove_leftovers_inside", "sha256_of", "whole_file"]
__all__ += ["write_json", "write_text"]

TEMPORARY = f".{'[0-9a-f]' * 8}-"  # how the name of a file begins that is being written, as a pattern


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path for the block to write; it takes the name `path` when the block ends without an error.

    It lies in the same folder, which is made if need be, and has the same suffix, as libraries tell the format by it.
    Before, its content is on the disk: otherwise a power cut could leave an empty file of this name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of `path` that kills have left; nobody else may be writing it."""
    _unlink(path.parent.glob(f"{TEMPORARY}{glob.escape(path.name)}"))


def remove_leftovers_inside(folder: Path) -> None:
    """Delete the temporary files of all files in a folder and in those in it; nobody else may be writing there."""
    _unlink(folder.rglob(f"{TEMPORARY}*"))


def _unlink(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole text file in UTF-8, with its line ends as they are."""
    with whole_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write a whole file of indented JSON that ends with a line end; ValueError for NaN and infinity."""
    write_text(path, json_text(value, str(path), indent=2) + "\n")


def json_text(value: Any, name: str, **options: Any) -> str:
    """JSON, which has neither NaN nor Infinity: a ValueError says that `name` would hold them, and where."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError as error:
        received = _not_finite(value) or str(error)
        raise ValueError(f"{name}: expected what JSON can hold, and no NaN, received {received}") from None


def _not_finite(value: Any, path: str = "") -> str:
    """Where nan or infinity stands: "test_loss = nan"."""
    if isinstance(value, dict):
        return next(filter(None, (_not_finite(of, f"{path}.{key}".strip(".")) for key, of in value.items())), "")
    if isinstance(value, (list, tuple)):
        return next(filter(None, (_not_finite(of, f"{path}[{i}]") for i, of in enumerate(value))), "")
    return f"{path} = {value}" if isinstance(value, float) and not math.isfinite(value) else ""


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content in hexadecimal digits, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
