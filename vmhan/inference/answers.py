"""Turn the pipeline's answers into flat rows, one for each pair, and write those as JSONL, Parquet, triples or a
graph.
"""

import csv
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import networkx
import pyarrow
from pyarrow import parquet


__all__ = [
    "ANSWER_SCHEMA", "TRIPLE", "answer_rows", "triples_of", "write_csv", "write_graph", "write_jsonl", "write_parquet",
]  # fmt: skip

ROWS_IN_GROUP = 1024  # of Parquet
TRIPLE = ("head", "relation", "tail", "confidence", "source")
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

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

Rows = Iterable[dict[str, Any]]


def answer_rows(number: int, question: dict[str, Any], answers: dict | list[dict]) -> list[dict[str, Any]]:
    """One row a pair, with the columns of ANSWER_SCHEMA; `number` is that of the input's row."""
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


def write_csv(rows: Rows, target: Path) -> None:
    """Write triples as CSV with a header."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, TRIPLE)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(rows: Rows, target: Path) -> None:
    """Write answers group by group, so that memory does not grow with them."""
    rows = iter(rows)
    with parquet.ParquetWriter(target, ANSWER_SCHEMA) as writer:
        while group := list(itertools.islice(rows, ROWS_IN_GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=ANSWER_SCHEMA))


def write_graph(triples: Rows, target: Path) -> None:
    """The triples as GraphML: a directed multigraph that `networkx.read_graphml` and Gephi open.

    A node is a name of the `kind` "entity" or "object"; an edge is a triple. Runs of white space are one space, and
    characters that XML does not have are U+FFFD. The graph is held in memory.
    """
    graph = networkx.MultiDiGraph()
    for triple in triples:
        head, tail, relation, source = (
            NOT_IN_XML.sub("\ufffd", " ".join(triple[name].split())) for name in ("head", "tail", "relation", "source")
        )
        graph.add_node(head, kind="entity")
        graph.add_node(tail, kind="object" if triple["tail_is_object"] else "entity")
        values = {"relation": relation, "confidence": float(triple["confidence"]), "source": source}
        graph.add_edge(head, tail, key=f"e{graph.number_of_edges()}", **values)  # the key is the edge's id in GraphML
    with target.open("wb") as file:
        networkx.write_graphml_xml(graph, file, named_key_ids=True)
