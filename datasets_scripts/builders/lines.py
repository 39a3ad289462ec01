"""Reading the folders people download by hand: files of Python literals, label files, folders of images.

Every error names the file, the line and the field, since these files get edited and cut by hand.
"""

import ast
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


__all__ = [
    "MISSING_IMAGES",
    "data_folder",
    "first_existing",
    "list_images",
    "mention_span",
    "no_records",
    "open_text",
    "read_json",
    "read_label_file",
    "read_literals",
    "read_pth",
]

MISSING_IMAGES = ("error", "none")  # what the builders that look for each image may make of one that is not there


def data_folder(data_dir: str | Path | None, *, how_to_get: str) -> Path:
    """The user's folder as an absolute path, without "..".

    Raises:
        ValueError: `data_dir` is None.
        FileNotFoundError: it is not a folder. Both say how to get the data.
    """
    if data_dir is None:
        raise ValueError(f"data_dir: expected the folder that holds the data, received None. {how_to_get}")
    folder = Path(os.path.abspath(Path(data_dir).expanduser()))
    if not folder.is_dir():
        raise FileNotFoundError(f"data_dir: expected an existing folder, received {folder}. {how_to_get}")
    return folder


def first_existing(paths: Sequence[Path]) -> Path | None:
    """The first of `paths` that is a file, or None."""
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def open_text(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """A UTF-8 file opened for reading, without the byte order mark some editors put at its start.

    Raises:
        ValueError: while it is read, other bytes; names file and line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        with path.open("rb") as lines:  # text is decoded in blocks: the error knows no line
            number = next(i for i, line in enumerate(lines, start=1) if line.decode(errors="ignore").encode() != line)
        raise ValueError(
            f"{path}, line {number}: expected UTF-8, received other bytes (0x{error.object[error.start]:02x}, "
            f"{error.reason}). Save it as UTF-8"
        ) from None


def no_records(path: Path) -> ValueError:
    """The error of a split's file that has no record, of which `datasets` could make no split."""
    return ValueError(f"{path}: expected at least one record, received none. Remove the file to leave the split out")


def read_literals(path: Path, *, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, record) for each line of a file with one Python dict literal a line; blank lines are skipped.

    Args:
        path: a UTF-8 text file.
        fields: the fields that each record must have; others are let through.

    Returns:
        `place` reads "FILE, line NUMBER" and begins every error about that record.

    Raises:
        ValueError: a line is no literal, no dict, or lacks a field, or the file is not UTF-8.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                record = ast.literal_eval(line.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise ValueError(
                    f"{place}: expected one Python dict literal, received {line[:80]!r} ({error})"
                ) from None
            if type(record) is not dict:
                raise ValueError(f"{place}: expected a dict, received {type(record).__name__}: {line[:80]!r}")
            missing = [field for field in fields if field not in record]
            if missing:
                raise ValueError(f"{place}: expected the fields {list(fields)}, missing {missing}")
            yield place, record


def mention_span(mention: Any, tokens: Any, *, place: str, field: str) -> tuple[list[int], bool]:
    """The span of a text mention {'name': str, 'pos': [start, end)} and whether its name equals the span's text.

    Raises:
        ValueError: `tokens` is no list of strings, `mention` has not this form, or the span is outside the sentence.
    """
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"{place}, field 'token': expected a list of strings, received {tokens!r}")
    if not isinstance(mention, dict) or "name" not in mention or "pos" not in mention:
        raise ValueError(
            f"{place}, field {field!r}: expected {{'name': ..., 'pos': [start, end]}}, received {mention!r}"
        )
    span = mention["pos"]
    if not isinstance(span, (list, tuple)) or len(span) != 2 or not all(type(border) is int for border in span):
        raise ValueError(f"{place}, field {field!r}: expected 'pos' to be two ints [start, end), received {span!r}")
    start, end = span
    if not 0 <= start < end <= len(tokens):
        raise ValueError(
            f"{place}, field {field!r}: expected a span inside the sentence, 0 <= start < end <= {len(tokens)} "
            f"tokens, received [{start}, {end})"
        )
    return [start, end], mention["name"] == " ".join(tokens[start:end])


def read_json(path: Path, *, expected: str) -> Any:
    """What a JSON file holds; `expected` says in the error what it should.

    Raises:
        ValueError: it is no JSON, or not UTF-8.
    """
    with open_text(path) as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: expected {expected}, received no JSON ({error})") from None


def read_label_file(path: Path) -> list[str]:
    """The labels of a JSON file {relation: id}, ordered by id.

    Raises:
        ValueError: it is not such a JSON object, or its ids are not 0, 1, ..., n - 1.
    """
    ids = read_json(path, expected="one JSON object {relation: id}")
    if not isinstance(ids, dict) or not ids or sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise ValueError(f"{path}: expected a JSON object {{relation: id}} with the ids 0 to n - 1, received {ids!r}")
    return sorted(ids, key=lambda relation: int(ids[relation]))


def list_images(folder: Path) -> dict[str, Path]:
    """{file name: path} of the files in `folder` but hidden ones; {} if it is not there. One listing, no stats."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path for path in paths if not path.name.startswith(".")}


def read_pth(path: Path) -> Any:
    """What torch.save wrote into a file, loaded without running any code of it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or holds more than dicts, lists, strings, numbers and tensors.
    """
    import torch  # here, since most of the files that people download are text

    try:
        return torch.load(path, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a damaged file torch's unpickler raises anything: struct.error, KeyError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: expected what torch.save wrote, only dicts, lists, strings and numbers, received something else "
            f"({reason})"
        ) from error
