"""Questions to the pipeline out of a file: JSONL, CSV or Parquet, read one row after the other as they are needed.

A row of JSONL or Parquet is a question as `MultimodalRelationClassificationPipeline.__call__` takes it. A row of CSV
is one pair: text, head, tail, and where wanted image, caption and id. The cells of its other columns are JSON (boxes:
[[0, 0, 64, 48]]), and so are spans and boxes in head and tail ([0, 3]). Empty cells are left out. Rows are counted
from 1; blank lines and the CSV header are not rows.
"""

import csv
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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

COLUMNS = POST_KEYS | set(PAIR_KEYS)
TEXT_COLUMNS = {"id", "text", "image", "image_id", "caption"}  # of CSV: never JSON
PARQUET_ROWS = 64
MAX_CELL = 1 << 24  # characters of a CSV cell; features of 4096 numbers need about 90,000

Row = Callable[[], dict[str, Any]]  # gives the row, or raises a ValueError that says why it cannot be read


def read_questions(path: Path, *, image_root: Path, skip: int = 0) -> Iterator[dict[str, Any] | ValueError]:
    """Yield the questions of a file after the first `skip`; for a row that cannot be read, the ValueError that says
    why. Images' relative paths are put under `image_root`. Raises as `count_questions` does.
    """
    for row in islice(_reader(path), skip, None):
        try:
            yield _question(row(), image_root)
        except RecursionError:
            yield ValueError("expected a row that can be read, received JSON nested too deeply.")
        except ValueError as error:
            yield error


def count_questions(path: Path) -> int:
    """How many rows `read_questions` gives; reads the whole file (of Parquet, its footer). ValueError for another
    suffix, for no Parquet file, and for a table without a column text or tokens.
    """
    rows = _reader(path)
    if path.suffix != ".parquet":
        return sum(1 for _ in rows)
    next(rows, None)  # raises what is wrong with the file
    return parquet.read_metadata(path).num_rows


def _reader(path: Path) -> Iterator[Row]:
    if path.suffix not in READERS:
        suffixes = ", ".join(READERS)
        raise ValueError(f"{path}: expected a file that ends in {suffixes}, received {path.suffix!r}.")
    return READERS[path.suffix](path)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        yield from (partial(json.loads, line) for line in lines if line.strip())


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL)
    # surrogateescape: a row that is not UTF-8 fails alone, when it is encoded again
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        known = _known_columns(path, reader.fieldnames or [])
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                row = ValueError(f"expected a line of CSV, received one that cannot be read: {error}.")
            if row is None:
                return
            yield partial(_csv_row, row, known)


def _csv_row(row: dict | ValueError, known: list[str]) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    extra = row.pop(None, [])  # DictReader's name for cells without a column; columns without a cell have None
    cells = [cell for cell in row.values() if cell is not None]
    if extra or len(cells) < len(row):
        raise ValueError(
            f"expected {len(row)} cells, one for each of {list(row)}, received {len(cells) + len(extra)}. Put a cell "
            "with commas or line breaks into double quotes."
        )
    "".join(cells).encode("utf-8")  # a UnicodeEncodeError is a ValueError
    return {name: _value(name, row[name]) for name in known if row[name].strip()}


def _value(name: str, cell: str) -> Any:
    """Return a cell's text, or in columns that are not text its JSON. A mention is JSON if it is a span or a box."""
    if name in TEXT_COLUMNS:
        return cell
    is_mention = name in ("head", "tail")
    try:
        value = json.loads(cell)
    except ValueError as error:
        if is_mention:
            return cell
        raise ValueError(
            f"column {name}: expected JSON, such as [[0, 4]], received {cell[:80]!r} ({error})."
        ) from None
    return cell if is_mention and not (isinstance(value, list) and len(value) in (2, 4)) else value


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: expected a Parquet file, received another or a damaged one: {error}") from error
    with file:
        known = _known_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=known):
            for i in range(batch.num_rows):
                yield lambda batch=batch, i=i: batch.slice(i, 1).to_pylist()[0]


READERS = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
QUESTION_SUFFIXES = tuple(READERS)


def _known_columns(path: Path, names: Sequence[str]) -> list[str]:
    """Return those of a table's columns that a question can have; a warning names the others."""
    known = [name for name in names if name in COLUMNS]
    if not {"text", "tokens"} & set(known):
        raise ValueError(
            f"{path}: expected a column text or tokens (and head, tail, or pairs), received the columns "
            f"{list(names)}. The first line of a CSV file names them, with commas between."
        )
    if len(known) < len(names):
        logger.warning("%s: no question has %s: ignored", path, [name for name in names if name not in COLUMNS])
    return known


def _question(row: Any, image_root: Path) -> dict[str, Any]:
    """Return the row without what is null, with an image that can be opened from anywhere."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object like {{'text': ...}}, received {type(row).__name__}: {str(row)[:80]!r}.")
    question = {name: value for name, value in row.items() if value is not None}
    str(question.get("id")).encode("utf-8")  # lone surrogates, which JSON can hold, are a ValueError here
    image = question.get("image")
    if isinstance(image, dict):  # datasets.Image stores {"bytes": ..., "path": ...}
        image = image["bytes"] if image.get("bytes") is not None else image.get("path")
    if isinstance(image, str) and image.strip() and not is_url(image):  # a blank one is said where it is opened
        image = str(image_root / image)
    return question if image is None else {**question, "image": image}
