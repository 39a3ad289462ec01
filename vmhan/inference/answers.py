"""The pipeline's answers as flat rows, one a pair, and those rows as JSONL or Parquet."""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet


__all__ = ["ANSWER_SCHEMA", "answer_rows", "read_answers", "write_jsonl", "write_parquet"]

ROWS_IN_GROUP = 1024  # of Parquet

ANSWER_SCHEMA = pyarrow.schema(
    {
        "row": pyarrow.int64(),  # of the input, from 1
        "id": pyarrow.string(),
        "pair": pyarrow.int64(),  # of the row, from 0
        "head": pyarrow.string(),
        "tail": pyarrow.string(),  # null where the tail is a box
        "tail_box": pyarrow.list_(pyarrow.float64()),
        "tail_is_object": pyarrow.bool_(),
        "relation": pyarrow.string(),  # null where abstained
        "score": pyarrow.float64(),
        "abstained": pyarrow.bool_(),
        "none_score": pyarrow.float64(),
        "top_k": pyarrow.list_(pyarrow.struct({"relation": pyarrow.string(), "score": pyarrow.float64()})),
        "uncertainty": pyarrow.struct(
            {name: pyarrow.float64() for name in ("monte_carlo_score", "entropy", "mutual_information")}
        ),
    }
)


def answer_rows(number: int, question: dict[str, Any], answers: dict | list[dict]) -> list[dict[str, Any]]:
    """One row a pair, with the columns of ANSWER_SCHEMA.

    Args:
        number: of the input's row. question: what the pipeline was asked. answers: what it gave: a dict for a question
            of one pair, a list for one with `pairs`.
    """
    rows = []
    identity = str(question["id"]) if question.get("id") is not None else None
    pairs = question["pairs"] if "pairs" in question else [question]
    for i, (pair, answer) in enumerate(zip(pairs, answers if isinstance(answers, list) else [answers], strict=True)):
        tail, index = answer["tail"], pair.get("tail_object")
        is_box = isinstance(tail, list)
        of_tail = {"tail": None if is_box else tail, "tail_box": tail if is_box else None}
        of_tail["tail_is_object"] = is_box or (index is not None and index >= 0)
        own = {"row": number, "id": identity, "pair": i, "head": answer["head"], **of_tail}
        rows.append({**own, **{name: value for name, value in answer.items() if name not in ("head", "tail")}})
    return rows


def read_answers(part: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of them, one at a time."""
    with part.open("rb") as lines:
        yield from map(json.loads, lines)


def write_jsonl(part: Path, target: Path) -> None:
    shutil.copyfile(part, target)


def write_parquet(part: Path, target: Path) -> None:
    """Row group by row group, so that memory stays the same however many rows there are."""
    rows = read_answers(part)
    with parquet.ParquetWriter(target, ANSWER_SCHEMA) as writer:
        while group := list(itertools.islice(rows, ROWS_IN_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=ANSWER_SCHEMA))
