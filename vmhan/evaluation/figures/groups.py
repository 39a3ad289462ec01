"""Into which group each pair of a split falls: how often its head occurs, how many pairs its sentence has, and so on.

Rows are those of predictions.jsonl, all of one split. A grouping looks at gold labels, words and spans, never at
predictions, so that every run of the same data has the same groups; a pair that it says nothing about has none.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


__all__ = ["GROUPINGS", "Grouping", "detection_rows", "typed_label"]

Rows = Sequence[dict[str, Any]]
TYPED_LABEL = re.compile(r"/(\w+)/(\w+)/.+")


@dataclass(frozen=True)
class Grouping:
    """A way to divide the pairs of a split.

    Attributes:
        title: what is counted, for a picture's axis.
        groups: all names, in the order to show them.
        assign: (rows, none label) -> the group of each row, or None for a pair that belongs to none.
        note: what to know before reading the scores; "" where nothing.
    """

    title: str
    groups: tuple[str, ...]
    assign: Callable[[Rows, str], list[str | None]]
    note: str = ""


def typed_label(relation: str) -> tuple[str, str] | None:
    """(head type, tail type) of a label named as MNRE's are, "/per/org/member_of"; None of any other name."""
    match = TYPED_LABEL.fullmatch(relation)
    return match.groups() if match else None


def by_repetition(rows: Rows, none_label: str) -> list[str | None]:
    """How many pairs of the split the head's words take part in, as head or tail, none pairs included."""
    pairs = Counter(words for row in rows for words in {_words(row, "head"), _words(row, "tail")} - {None})
    return [_binned(pairs[_words(row, "head")], (1, 2, 3, 6)) for row in rows]


def by_entity_types(rows: Rows, none_label: str) -> list[str | None]:
    """How many entity types the gold relations of the split give the head's words; None where they give none."""
    types: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        of_label = typed_label(row["relation"]) if row["relation"] != none_label else None
        for role, entity_type in zip(("head", "tail"), of_label or ()):
            types[_words(row, role)].add(entity_type)
    counts = [len(types[_words(row, "head")]) for row in rows]
    return [_binned(count, (1, 2)) if count else None for count in counts]


def by_pairs_of_sentence(rows: Rows, none_label: str) -> list[str | None]:
    """How many pairs the post has."""
    pairs = Counter(row["id"] for row in rows)
    return [_binned(pairs[row["id"]], (1, 2, 3)) for row in rows]


def by_overlap(rows: Rows, none_label: str) -> list[str | None]:
    """Whether head and tail share a token; None for a tail in the image and where no spans were written."""
    spans = [_spans(row) for row in rows]
    return [s and ("overlapping" if s[0][0] < s[1][1] and s[1][0] < s[0][1] else "apart") for s in spans]


def by_order(rows: Rows, none_label: str) -> list[str | None]:
    """Whether the head begins, or at the same token ends, before the tail; None as in `by_overlap`."""
    spans = [_spans(row) for row in rows]
    return [s and ("head after tail" if s[0] > s[1] else "head before tail") for s in spans]


GROUPINGS = {
    "repetition": Grouping("pairs that the head's words take part in", ("1", "2", "3-5", "6+"), by_repetition),
    "entity types": Grouping(
        "entity types of the head's words, by gold relations",
        ("1", "2+"),
        by_entity_types,
        "The types come from gold relations, so that a pair with no relation counts only where another pair gives its "
        "head a type: compare the rows of a group, not these scores with others.",
    ),
    "pairs of the sentence": Grouping("pairs of the sentence", ("1", "2", "3+"), by_pairs_of_sentence),
    "overlap": Grouping("mentions of head and tail", ("apart", "overlapping"), by_overlap),
    "order": Grouping("order of the mentions", ("head before tail", "head after tail"), by_order),
}


def detection_rows(rows: Rows, none_label: str, *, positive: str) -> list[dict[str, Any]]:
    """The rows with every relation called `positive`: is there a relation at all?"""
    named = {none_label: none_label}
    names = ("relation", "predicted")
    return [row | {name: named.get(row[name], positive) for name in names} for row in rows]


def _words(row: dict[str, Any], role: str) -> str | None:
    """The mention's words; None of a tail in the image, which has none."""
    is_object = role == "tail" and (row.get("tail_object", -1) >= 0 or row["tail"] == "[object]")
    return None if is_object else row[role]


def _spans(row: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    head, tail = row.get("head_span"), row.get("tail_span")
    return (tuple(head), tuple(tail)) if head and tail else None


def _binned(count: int, starts: tuple[int, ...]) -> str:
    """The bin of `count` when bins begin at these numbers: (1, 2, 3, 6) are "1", "2", "3-5" and "6+"."""
    index = max(i for i, start in enumerate(starts) if start <= count)
    start = starts[index]
    if index + 1 == len(starts):
        return f"{start}+"
    end = starts[index + 1] - 1
    return str(start) if start == end else f"{start}-{end}"
