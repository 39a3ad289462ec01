"""Reading the files that people download, edit and cut by hand: every error names the file and the line."""

import ast
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from datasets_scripts.checking import Record, checked
from datasets_scripts.paths import inner_file
from modeling_vmhan.labels import find_none_label


__all__ = ["first_existing", "list_images", "no_records", "none_label_first", "open_text"]
__all__ += ["read_json", "read_label_file", "read_literals", "read_pth"]


def first_existing(paths: Sequence[Path]) -> Path | None:
    """The first of `paths` that is a file, or None."""
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def open_text(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """A UTF-8 file opened for reading, without the byte order mark that some editors put at its start.

    Other bytes raise a ValueError that names file and line while it is read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        with path.open("rb") as lines:  # text is decoded in blocks: the error knows no line
            number = next(i for i, line in enumerate(lines, start=1) if line.decode(errors="ignore").encode() != line)
        byte = error.object[error.start]
        raise ValueError(f"{path}, line {number}: expected UTF-8, received the byte 0x{byte:02x}") from None


def no_records(path: Path) -> ValueError:
    """The error for a split's file without a record, of which `datasets` could make no split."""
    return ValueError(f"{path}: expected at least one record, received none. Remove the file to leave the split out")


def read_literals(path: Path, form: type[Record]) -> Iterator[tuple[str, Any]]:
    """Yield (place, record) for each line of a file with one Python dict literal a line; blank lines are skipped."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                place = f"{path}, line {number}"
                try:
                    record = ast.literal_eval(line.strip())
                except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                    raise ValueError(
                        f"{place}: expected one Python dict literal, received {line[:80]!r} ({error})"
                    ) from None
                yield place, checked(form, record, place)


def read_json(path: Path, form: Any) -> Any:
    """What a JSON file holds, as `form` has it; ValueError if it is no JSON, not UTF-8, or does not fit."""
    with open_text(path) as file:
        try:
            content = json.load(file)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # of a number of 5,000 digits it is a ValueError
            raise ValueError(f"{path}: expected JSON ({error})") from None
    return checked(form, content, str(path))


def read_label_file(path: Path) -> list[str]:
    """The labels of a JSON file, ordered by id: {relation: id}, or a list of relations.

    ValueError if it is neither, a label stands twice, or the ids are not 0, 1, ..., n - 1.
    """
    labels = read_json(path, dict[str, int | str] | list[str])
    if isinstance(labels, dict):
        is_right = sorted(map(str, labels.values())) == sorted(map(str, range(len(labels))))
    else:
        is_right = len(set(labels)) == len(labels)
    if not labels or not is_right:
        raise ValueError(f"{path}: expected distinct relations, or {{relation: id}}, 0 to n - 1, received {labels}")
    return labels if isinstance(labels, list) else sorted(labels, key=lambda relation: int(labels[relation]))


def none_label_first(labels: Iterable[str]) -> list[str]:
    """The labels by name, after the one that means "no relation"; ValueError if not exactly one does."""
    labels = sorted(labels)
    none_label = find_none_label(labels)
    return [none_label, *(label for label in labels if label != none_label)]


def list_images(folder: Path, *, inside: Path) -> dict[str, Path]:
    """{file name: path} of the files in `folder` but hidden ones; {} if it is not there. ValueError for a link that
    leaves `folder` and the data folder `inside`.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        if path.is_symlink():
            inner_file("data_dir", path.name, [folder], inside=inside)
    return {path.name: path for path in paths if not path.name.startswith(".")}


def read_pth(path: Path, form: Any) -> Any:
    """What torch.save wrote into a file, as `form` has it; it is loaded without running any code of the file.

    ValueError if it is damaged, holds more than dicts, lists, strings, numbers and tensors, or does not fit `form`.
    """
    import torch  # here, since most of the files that people download are text

    try:
        content = torch.load(path, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of a damaged file torch's unpickler raises anything: struct.error, KeyError, ...
        raise ValueError(
            f"{path}: expected only dicts, lists and numbers that torch.save wrote ({repr(error)[:200]})"
        ) from error
    return checked(form, content, str(path))
