"""Turn the pipeline's answers into flat rows, one for each pair, and write those as JSONL, Parquet or triples."""

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeling_vmhan.questions import PAIR_KEYS, PASSED


if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "TRIPLE", "Rows", "answer_rows", "answer_schema", "triples_of", "write_csv", "write_jsonl", "write_parquet",
]  # fmt: skip

ROWS_IN_GROUP = 1024  # of Parquet
TRIPLE = ("head", "relation", "tail", "confidence", "source")
# What spreadsheets run, and what is written for that, so that one "'" less gives back every cell that this fits.
FORMULA = re.compile("'*[-=+@\t\r]")

OF_FACTS = ("head_span", "tail_span", "head_type", "tail_type")  # None where the question names its pairs

Rows = Iterable[dict[str, Any]]


def answer_schema() -> "pyarrow.Schema":
    """The columns of a table of answers."""
    import pyarrow  # late, here and below: JSONL and CSV do without

    return pyarrow.schema(
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
                dict.fromkeys(
                    ("least_confidence", "entropy", "monte_carlo_score", "mutual_information"), pyarrow.float64()
                )
            ),
            "head_span": pyarrow.list_(pyarrow.int64()),  # of facts, in the question's characters or tokens; else null
            "tail_span": pyarrow.list_(pyarrow.int64()),
            "head_type": pyarrow.string(),  # null where it is not known
            "tail_type": pyarrow.string(),
            PASSED: pyarrow.string(),  # JSON of an object
        }
    )


def answer_rows(number: int, question: dict[str, Any], answers: dict | list[dict]) -> list[dict[str, Any]]:
    """One row a pair, or a fact of a question that names no pair, with columns of `answer_schema`; `number` is that of
    the input's row.
    """
    rows = []
    identity = str(question["id"]) if question.get("id") is not None else None
    answers = answers if isinstance(answers, list) else [answers]
    is_pair = any(question.get(key) is not None for key in PAIR_KEYS)
    pairs = question.get("pairs", [question] if is_pair else [{}] * len(answers))
    for i, (pair, answer) in enumerate(zip(pairs, answers, strict=True)):
        tail, index = answer["tail"], pair.get("tail_object")
        is_box = isinstance(tail, list)
        of_tail = {"tail": None if is_box else tail, "tail_box": tail if is_box else None}
        of_tail["tail_is_object"] = is_box or (index is not None and index >= 0)
        own = {"row": number, "id": identity, "pair": i, "head": answer["head"], **of_tail}
        of_pipeline = {name: value for name, value in answer.items() if name not in ("head", "tail")}
        of_fact = {name: answer.get(name) for name in OF_FACTS}
        rows.append({**own, **of_pipeline, **of_fact, PASSED: question.get(PASSED, {})})
    return rows


def triples_of(rows: Rows, *, none_label: str, input_name: str) -> Iterator[dict[str, Any]]:
    """The triples of answers that name a relation: not the none label, and not abstained.

    A row without an id has the source "INPUT_NAME:ROW". A tail that is an object is an object of its image alone:
    "SOURCE [x1, y1, x2, y2]", or "SOURCE object INDEX" where boxes were not given.
    """
    for row in rows:
        if row["abstained"] or row["relation"] == none_label:
            continue
        source = row["id"] if row["id"] is not None else f"{input_name}:{row['row']}"
        tail = row["tail"] if row["tail_box"] is None else row["tail_box"]
        yield {
            "head": row["head"],
            "relation": row["relation"],
            "tail": f"{source} {tail}" if row["tail_is_object"] else tail,
            "confidence": row["score"],
            "source": source,
            "tail_is_object": row["tail_is_object"],
        }


def write_jsonl(rows: Rows, target: Path) -> None:
    with target.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def write_csv(rows: Rows, target: Path, names: Sequence[str] = TRIPLE) -> None:
    """CSV with a header, for people too: a "'" stands before text that a spreadsheet would run as a formula."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {name: f"'{of}" if isinstance(of, str) and FORMULA.match(of) else of for name, of in row.items()}
            )


def write_parquet(rows: Rows, target: Path) -> None:
    """Write answers group by group, so that memory does not grow with them."""
    import pyarrow
    from pyarrow import parquet

    rows, schema = iter(rows), answer_schema()
    with parquet.ParquetWriter(target, schema) as writer:
        while group := [{**row, PASSED: json.dumps(row[PASSED])} for row in itertools.islice(rows, ROWS_IN_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
