"""Questions to the pipeline out of a file: JSONL, CSV, TSV or Parquet, read one row after the other as needed; or out
of a folder of raw posts (`question_folders`).

A row of JSONL or Parquet is a question as `MultimodalRelationClassificationPipeline.__call__` takes it. A row of CSV
or TSV is one pair: text, head, tail, and where wanted image, caption and id; without head and tail it is a raw post,
or one with `mentions`. The cells of a question's other columns
are JSON (boxes: [[0, 0, 64, 48]]), and so are spans and boxes in head and tail ([0, 3]); empty ones are left out.
Keys that no question has go to the answers as they are, under PASSED. Rows are counted from 1; blank lines and the
header are not rows.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_scripts.tables import csv_names, csv_rows, json_lines, parse_row, row_values
from model_cards.files import sha256_of
from modeling_vmhan.addresses import is_url
from modeling_vmhan.questions import PASSED, QUESTION_KEYS
from modeling_vmhan.words import close_matches
from vmhan.inference.question_folders import folder_digest, folder_rows


if TYPE_CHECKING:
    import pyarrow

__all__ = ["PASSED", "QUESTION_SUFFIXES", "count_questions", "digest_of_questions", "read_questions"]

logger = logging.getLogger(__name__)

COLUMNS = QUESTION_KEYS
TEXTS = ("text", "caption", "image_id")
MAX_LEVELS = 100  # of lists and objects in a value that is passed on: Python writes JSON of less than a thousand
PARQUET_ROWS = 64

Row = Callable[[], dict[str, Any]]  # gives the row, or raises a ValueError that says why it cannot be read


def read_questions(
    path: Path, *, image_root: Path, skip: int = 0, with_post: bool = False
) -> Iterator[dict[str, Any] | ValueError]:
    """Yield the questions of a file or folder after the first `skip`; for a row that cannot be read, the ValueError
    that says why. Images' relative paths are put under `image_root`. Under PASSED a question has what else its row
    holds and, `with_post`, its text and image, as JSON can hold them. Raises as `count_questions` does.
    """
    for row in islice(_reader(path), skip, None):
        try:
            yield _question(path.name, row(), image_root, with_post)
        except ValueError as error:
            yield error


def count_questions(path: Path) -> int:
    """How many rows `read_questions` gives; reads a whole file (of Parquet, its footer). ValueError for another
    suffix, for no Parquet file, and for a table without a column text or tokens.
    """
    rows = _reader(path)
    if path.suffix != ".parquet" or path.is_dir():
        count = sum(1 for _ in rows)
    else:
        from pyarrow import parquet  # late, here and below: other files do without

        next(rows, None)  # raises what is wrong with the file
        count = parquet.read_metadata(path).num_rows
    if count == 0:
        logger.warning("%s: no question is in it", path)
    return count


def digest_of_questions(path: Path) -> str:
    """The SHA-256 of the file, or of a folder's names and texts; images do not count."""
    return folder_digest(path) if path.is_dir() else sha256_of(path)


def _reader(path: Path) -> Iterator[Row]:
    if path.is_dir():
        return folder_rows(path)
    if path.suffix not in READERS:
        suffixes = ", ".join(READERS)
        raise ValueError(f"{path}: expected a file that ends in {suffixes}, received {path.suffix!r}.")
    return READERS[path.suffix](path)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in json_lines(path):
        yield partial(_at_line, number, parse_row, line)


def _csv_rows(path: Path) -> Iterator[Row]:
    _check_columns(path, csv_names(path))
    for number, row in csv_rows(path):
        yield partial(_at_line, number, _csv_row, row)


def _at_line(number: int, read: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}.") from None


def _csv_row(row: dict[str, str] | ValueError) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise row
    others = {name: cell for name, cell in row.items() if name not in COLUMNS}
    return others | row_values({name: cell for name, cell in row.items() if name not in others})


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            _check_types(path, file.schema_arrow)
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                for i in range(batch.num_rows):
                    yield lambda batch=batch, i=i: batch.slice(i, 1).to_pylist()[0]
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a Parquet file, received another or a damaged one: {error}") from error


def _check_types(path: Path, schema: "pyarrow.Schema") -> None:
    """ValueError for a column that is there twice, or of a type that could be taken for another value."""
    from pyarrow import types

    for name in schema.names:
        if len(found := schema.get_all_field_indices(name)) > 1:
            raise ValueError(f"{path}, column {name}: expected one column of this name, received {len(found)}.")
        kind = schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        if not (is_text or types.is_null(kind)) and (name in TEXTS or (name == "id" and types.is_nested(kind))):
            raise ValueError(f"{path}, column {name}: expected the type string, received {kind}.")


READERS = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".tsv": _csv_rows, ".parquet": _parquet_rows}
QUESTION_SUFFIXES = tuple(READERS)


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if not {"text", "tokens"} & set(names):
        raise ValueError(
            f"{path}: expected a column text or tokens (and head, tail, or pairs), received the columns "
            f"{list(names)}. The first line of a CSV or TSV file names them."
        )


def _question(file: str, row: Any, image_root: Path, with_post: bool) -> dict[str, Any]:
    """Return the row without what is null, with an image that can be opened from anywhere."""
    if not isinstance(row, dict):
        raise ValueError(f"expected an object like {{'text': ...}}, received {type(row).__name__}: {str(row)[:80]!r}.")
    question = {name: value for name, value in row.items() if value is not None and name in COLUMNS}
    image = question.get("image")
    path = image.get("path") if isinstance(image, dict) else image  # datasets.Image stores {"bytes": ..., "path": ...}
    passed = {name: value for name, value in row.items() if name not in COLUMNS}
    for name in passed:
        _warn_if_misspelt(file, name)
    if with_post:
        passed |= {name: row[name] for name in ("text", "tokens") if name in question} | {"image": path}
    if passed:
        question[PASSED] = _as_json(passed)
    if isinstance(path, str) and path.strip() and not is_url(path):  # a blank one is said where it is opened
        path = str(image_root / path)
        question["image"] = {**image, "path": path} if isinstance(image, dict) else path
    return question


def _as_json(passed: dict[str, Any]) -> dict[str, Any]:
    """What Parquet has and JSON has not becomes text (a time, a decimal) or null (NaN, bytes)."""
    for name, value in passed.items():
        if _has_levels(value, MAX_LEVELS):
            raise ValueError(
                f"{name}: expected less than {MAX_LEVELS} lists and objects in each other, received more."
            )
    text = json.dumps(passed, default=lambda value: None if isinstance(value, bytes) else str(value))
    return json.loads(text, parse_constant=lambda _: None)


def _has_levels(value: Any, count: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return count == 0 or any(_has_levels(each, count - 1) for each in inner)


@lru_cache(maxsize=1000)
def _warn_if_misspelt(file: str, name: str) -> None:
    if near := close_matches(name, COLUMNS - {"length"}):  # which nobody writes, and "lang" is near to
        logger.warning("%s: %r is no key of a question, and goes to the answers. Did you mean %r?", file, name, *near)
