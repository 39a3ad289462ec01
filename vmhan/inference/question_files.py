"""Questions to the pipeline out of a file: JSONL, CSV or Parquet, read one row after the other as they are needed.

A row of JSONL or Parquet is a question as `MultimodalRelationClassificationPipeline.__call__` takes it. A row of CSV
is one pair: text, head, tail, and where wanted image, caption and id. The cells of its other columns are JSON (boxes:
[[0, 0, 64, 48]]), and so are spans and boxes in head and tail ([0, 3]). Empty cells are left out. Rows are counted
from 1; blank lines and the CSV header are not rows.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from datasets_scripts.tables import csv_names, csv_rows, json_lines, parse_row, row_values
from modeling_vmhan.addresses import is_url
from modeling_vmhan.posts import POST_KEYS
from modeling_vmhan.questions import PAIR_KEYS


__all__ = ["QUESTION_SUFFIXES", "count_questions", "read_questions"]

logger = logging.getLogger(__name__)

COLUMNS = POST_KEYS | set(PAIR_KEYS)
TEXTS = ("text", "caption", "image_id")
PARQUET_ROWS = 64

Row = Callable[[], dict[str, Any]]  # gives the row, or raises a ValueError that says why it cannot be read


def read_questions(path: Path, *, image_root: Path, skip: int = 0) -> Iterator[dict[str, Any] | ValueError]:
    """Yield the questions of a file after the first `skip`; for a row that cannot be read, the ValueError that says
    why. Images' relative paths are put under `image_root`. Raises as `count_questions` does.
    """
    for row in islice(_reader(path), skip, None):
        try:
            yield _question(row(), image_root)
        except ValueError as error:
            yield error


def count_questions(path: Path) -> int:
    """How many rows `read_questions` gives; reads the whole file (of Parquet, its footer). ValueError for another
    suffix, for no Parquet file, and for a table without a column text or tokens.
    """
    rows = _reader(path)
    if path.suffix != ".parquet":
        count = sum(1 for _ in rows)
    else:
        next(rows, None)  # raises what is wrong with the file
        count = parquet.read_metadata(path).num_rows
    if count == 0:
        logger.warning("%s: no question is in it", path)
    return count


def _reader(path: Path) -> Iterator[Row]:
    if path.suffix not in READERS:
        suffixes = ", ".join(READERS)
        raise ValueError(f"{path}: expected a file that ends in {suffixes}, received {path.suffix!r}.")
    return READERS[path.suffix](path)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in json_lines(path):
        yield partial(_at_line, number, parse_row, line)


def _csv_rows(path: Path) -> Iterator[Row]:
    known = _known_columns(path, csv_names(path))
    for number, row in csv_rows(path):
        yield partial(_at_line, number, _csv_row, row, known)


def _at_line(number: int, read: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}.") from None


def _csv_row(row: dict[str, str] | ValueError, known: list[str]) -> dict[str, Any]:
    return row_values(row if isinstance(row, ValueError) else {name: row[name] for name in known})


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with parquet.ParquetFile(path) as file:
            known = _known_columns(path, file.schema_arrow.names)
            _check_types(path, file.schema_arrow, known)
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=known):
                for i in range(batch.num_rows):
                    yield lambda batch=batch, i=i: batch.slice(i, 1).to_pylist()[0]
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file, received another or a damaged one: {error}") from error


def _check_types(path: Path, schema: pyarrow.Schema, names: Sequence[str]) -> None:
    """ValueError for a column that is there twice, or of a type that could be taken for another value."""
    for name in names:
        if len(found := schema.get_all_field_indices(name)) > 1:
            raise ValueError(f"{path}, column {name}: expected one column of this name, received {len(found)}.")
        kind = schema.field(name).type
        kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        types = pyarrow.types
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        if not (is_text or types.is_null(kind)) and (name in TEXTS or (name == "id" and types.is_nested(kind))):
            raise ValueError(f"{path}, column {name}: expected the type string, received {kind}.")


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
    image = question.get("image")
    path = image.get("path") if isinstance(image, dict) else image  # datasets.Image stores {"bytes": ..., "path": ...}
    if isinstance(path, str) and path.strip() and not is_url(path):  # a blank one is said where it is opened
        path = str(image_root / path)
        question["image"] = {**image, "path": path} if isinstance(image, dict) else path
    return question
