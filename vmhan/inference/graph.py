"""Answers as triples (head, relation, tail, confidence, source), and the triples as a graph."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import networkx

from vmhan.inference.answers import read_answers


__all__ = ["triples_of", "write_graph", "write_triples_csv", "write_triples_jsonl"]

FIELDS = ("head", "relation", "tail", "confidence", "source")
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def triples_of(rows: Iterable[dict[str, Any]], *, none_label: str, input_name: str) -> Iterator[dict[str, Any]]:
    """The triples of answers that name a relation: not none, and not abstained.

    Args:
        rows: as `answer_files.answer_rows` makes them. none_label: of the model.
        input_name: the source of a row without an id is "INPUT_NAME:ROW".

    Yields:
        head, relation, tail: words; a tail that is an image's object is "SOURCE [x1, y1, x2, y2]", or
        "SOURCE object INDEX" where boxes were not given, since it is an object of that image alone.
        confidence: the relation's calibrated probability. source: the post's id. tail_is_object.
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


def write_triples_jsonl(part: Path, target: Path, **options: str) -> None:
    """The triples of a file of answers, one JSON object a line. Options as for `triples_of`."""
    with target.open("w", encoding="utf-8") as file:
        for triple in triples_of(read_answers(part), **options):
            file.write(json.dumps({name: triple[name] for name in FIELDS}) + "\n")


def write_triples_csv(part: Path, target: Path, **options: str) -> None:
    """Likewise, as CSV with a header."""
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(triples_of(read_answers(part), **options))


def write_graph(part: Path, target: Path, **options: str) -> None:
    """The triples as GraphML: a directed multigraph that `networkx.read_graphml` and Gephi open.

    A node is a name, so that mentions spelt alike in several posts are one node; its `kind` is "entity" or "object".
    An edge is a triple, with relation, confidence and source. Runs of white space are one space, and characters that
    XML does not have are U+FFFD. The graph, unlike all else here, is held in memory.
    """
    graph = networkx.MultiDiGraph()
    for triple in triples_of(read_answers(part), **options):
        head, tail = _name(triple["head"]), _name(triple["tail"])
        graph.add_node(head, kind="entity")
        graph.add_node(tail, kind="object" if triple["tail_is_object"] else "entity")
        edge = {name: _name(triple[name]) for name in ("relation", "source")}
        graph.add_edge(head, tail, confidence=float(triple["confidence"]), **edge)
    with target.open("wb") as file:
        networkx.write_graphml_xml(graph, file, named_key_ids=True)


def _name(text: str) -> str:
    return NOT_IN_XML.sub("\ufffd", " ".join(text.split()))
