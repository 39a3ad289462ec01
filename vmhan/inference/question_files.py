"""Questions to the pipeline out of a file: JSONL, CSV or Parquet, one row after the other.

A row of JSONL or Parquet is a question as `MultimodalRelationClassificationPipeline.__call__` takes it, with one pair
or several. A row of CSV is one pair: text, head, tail, and where wanted image, caption, id. CSV cells of the other
columns are JSON (boxes: [[0, 0, 64, 48]]), and so are spans and boxes in head and tail ([0, 3]). What is empty is left
out. Rows are counted from 1; blank lines and the CSV header are not rows.

No more of a file is held than a row (Parquet: `PARQUET_ROWS` of them, and what pyarrow needs to decode a row group).
"""

import csv
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from modeling_vmhan.fetching import is_url
from modeling_vmhan.posts import POST_KEYS
from modeling_vmhan.questions import PAIR_KEYS


__all__ = ["QUESTION_SUFFIXES", "count_questions", "read_questions"]

logger = logging.getLogger(__name__)

QUESTION_SUFFIXES = (".jsonl", ".csv", ".parquet")
COLUMNS = POST_KEYS | set(PAIR_KEYS)
TEXT_COLUMNS = {"id", "text", "image", "image_id", "caption"}  # of CSV: never JSON
PARQUET_ROWS = 64
MAX_CELL = 1 << 24  # characters of a CSV cell; features of 4096 numbers need about 90,000


def read_questions(path: Path, *, image_root: Path, skip: int = 0) -> Iterator[dict[str, Any] | ValueError]:
    """Yield a file's questions, lazily.

    Args:
        path: of a file whose suffix is one of QUESTION_SUFFIXES.
        image_root: what relative paths of images are relative to. URLs and bytes stay as they are.
        skip: leave out so many rows at the start, unread.

    Yields:
        a question; or, for a row that cannot be read, the ValueError that says why, so that the next can be.

    Raises:
        ValueError: the file as a whole cannot be read: see `count_questions`.
    """
    rows, parse = _open(path, skip)
    for raw in rows:
        try:
            yield _question(parse(raw), image_root)
        except RecursionError:
            yield ValueError("expected a row that can be read, received JSON nested too deeply.")
        except ValueError as error:
            yield error


def count_questions(path: Path) -> int:
    """How many rows `read_questions` gives; reads the whole file (of Parquet, its footer).

    Raises:
        ValueError: another suffix, no Parquet file, or a table without a column text or tokens.
    """
    rows, _ = _open(path)
    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as file:
            return file.metadata.num_rows
    return sum(1 for _ in rows)


def _open(path: Path, skip: int = 0) -> tuple[Iterator[Any], Callable[[Any], Any]]:
    """The raw rows behind the first `skip`, and what makes one a dict, or raises ValueError."""
    if path.suffix == ".jsonl":
        return islice(_lines(path), skip, None), json.loads
    if path.suffix == ".csv":
        return islice(_records(path, _known_columns(path, _csv_header(path))), skip, None), _parse_record
    if path.suffix == ".parquet":
        try:
            names = parquet.read_schema(path).names
        except pyarrow.ArrowException as error:
            raise ValueError(f"{path}: expected a Parquet file, received another or a damaged one: {error}") from error
        return _places(path, _known_columns(path, names), skip), _parse_place
    raise ValueError(f"{path}: expected a file that ends in {', '.join(QUESTION_SUFFIXES)}, received {path.suffix!r}.")


def _known_columns(path: Path, names: Sequence[str]) -> list[str]:
    """Those of a table's columns that a question can have; the others are named in a warning."""
    known = [name for name in names if name in COLUMNS]
    if not {"text", "tokens"} & set(known):
        raise ValueError(
            f"{path}: expected a column text or tokens (and head, tail, or pairs), received the columns "
            f"{list(names)}. The first line of a CSV file names them, with commas between."
        )
    if ignored := [name for name in names if name not in COLUMNS]:
        logger.warning("%s: no question has %s: these columns are ignored", path, ignored)
    return known


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from (line for line in lines if line.strip())


def _csv_reader(file: Any) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CELL)
    return csv.reader(file)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(_csv_reader(file), [])


def _records(path: Path, known: list[str]) -> Iterator[tuple[list[str], list[str], list[str] | csv.Error]]:
    """(header, known columns, cells), or an error of the csv module in place of the cells."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = _csv_reader(file)
        header = next(reader, [])
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield header, known, error
                continue
            if cells:
                yield header, known, cells


def _parse_record(record: tuple[list[str], list[str], list[str] | csv.Error]) -> dict[str, Any]:
    header, known, cells = record
    if isinstance(cells, csv.Error):
        raise ValueError(f"expected a line of CSV, received one that cannot be read: {cells}.")
    if len(cells) != len(header):
        raise ValueError(
            f"expected {len(header)} cells, one for each of {header}, received {len(cells)}. Put a cell with commas "
            "or line breaks into double quotes."
        )
    "".join(cells).encode("utf-8")  # a UnicodeEncodeError, which is a ValueError, where the file is not UTF-8
    filled = {name: cell for name, cell in zip(header, cells) if cell.strip() and name in known}
    return {name: _value(name, cell) for name, cell in filled.items()}


def _value(name: str, cell: str) -> Any:
    if name in TEXT_COLUMNS:
        return cell
    try:
        value = json.loads(cell)
    except ValueError as error:
        if name in ("head", "tail"):
            return cell
        raise ValueError(
            f"column {name}: expected JSON, such as [[0, 4]], received {cell[:80]!r} ({error})."
        ) from None
    is_mention = name in ("head", "tail") and not (isinstance(value, list) and len(value) in (2, 4))
    return cell if is_mention else value


def _places(path: Path, columns: list[str], skip: int) -> Iterator[tuple[pyarrow.RecordBatch, int]]:
    """(batch, index of the row in it); a row is decoded only when it is parsed, and no row group that is skipped."""
    with parquet.ParquetFile(path) as file:
        groups = list(range(file.num_row_groups))
        while groups and (rows := file.metadata.row_group(groups[0]).num_rows) <= skip:
            skip, groups = skip - rows, groups[1:]
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, row_groups=groups, columns=columns):
            for index in range(min(skip, batch.num_rows), batch.num_rows):
                yield batch, index
            skip = max(skip - batch.num_rows, 0)


def _parse_place(place: tuple[pyarrow.RecordBatch, int]) -> dict[str, Any]:
    batch, index = place
    return batch.slice(index, 1).to_pylist()[0]


def _question(row: Any, image_root: Path) -> dict[str, Any]:
    """The row without what is null, with an image that can be opened from anywhere."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object like {{'text': ...}}, received {type(row).__name__}: {str(row)[:80]!r}.")
    question = {name: value for name, value in row.items() if value is not None}
    str(question.get("id")).encode("utf-8")  # lone surrogates, which JSON can hold, are a ValueError here
    image = question.get("image")
    if isinstance(image, dict):  # datasets.Image stores {"bytes": ..., "path": ...}
        image = image["bytes"] if image.get("bytes") is not None else image.get("path")
    if isinstance(image, str) and not is_url(image):
        image = str(image_root / image)
    if image is not None:
        question["image"] = image
    return question
