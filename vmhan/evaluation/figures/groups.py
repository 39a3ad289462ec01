"""Into which group each pair of a split falls: how often its head occurs, how many pairs its sentence has, and so on.

Rows are those of predictions.jsonl, all of one split. A grouping looks at gold labels, words and spans, never at
predictions, so that every run of the same data has the same groups.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from modeling_vmhan.argument_types import argument_types
from vmhan.scoring.predictions import Predictions


__all__ = ["GROUPINGS", "Grouping", "of_group"]

Rows = Sequence[dict[str, Any]]
Groups = list[str | None]


class Grouping(NamedTuple):
    """A way to divide the pairs of a split."""

    title: str  # what is counted, for a picture's axis
    groups: tuple[str, ...]  # all names, in the order to show them
    assign: Callable[[Rows, str], Groups]  # rows, none label -> the group of each row, None for a pair without one
    note: str = ""  # what to know before reading the scores


def by_repetition(rows: Rows, none_label: str) -> Groups:
    """How many pairs of the split the head's words take part in, as head or tail, none pairs included."""
    pairs = Counter(words for row in rows for words in {row["head"], _tail_words(row)} - {None})
    return [_binned(pairs[row["head"]], (1, 2, 3, 6)) for row in rows]


def by_entity_types(rows: Rows, none_label: str) -> Groups:
    """How many entity types the gold relations of the split give the head's words; None where they give none."""
    types: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        of_label = argument_types(row["relation"]) if row["relation"] != none_label else None
        for words, entity_type in zip((row["head"], _tail_words(row)), of_label or ()):
            types[words].add(entity_type)
    counts = [len(types[row["head"]]) for row in rows]
    return [_binned(count, (1, 2)) if count else None for count in counts]


def by_pairs_of_sentence(rows: Rows, none_label: str) -> Groups:
    """How many pairs the post has."""
    pairs = Counter(row["id"] for row in rows)
    return [_binned(pairs[row["id"]], (1, 2, 3)) for row in rows]


def by_overlap(rows: Rows, none_label: str) -> Groups:
    """Whether head and tail share a token; None for a tail in the image and where no spans were written."""
    spans = [(row.get("head_span"), row.get("tail_span")) for row in rows]
    return [("overlapping" if h[0] < t[1] and t[0] < h[1] else "apart") if h and t else None for h, t in spans]


def by_order(rows: Rows, none_label: str) -> Groups:
    """Whether the head begins, or at the same token ends, before the tail; None as in `by_overlap`."""
    spans = [(row.get("head_span"), row.get("tail_span")) for row in rows]
    return [("head after tail" if h > t else "head before tail") if h and t else None for h, t in spans]


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


def of_group(run: Predictions, grouping: str, group: str) -> Predictions:
    """The pairs of one group; ValueError for a grouping or a group that is not, or has no pair."""
    if grouping not in GROUPINGS:
        raise ValueError(f"--only: expected a grouping of {list(GROUPINGS)}, received {grouping!r}.")
    groups = GROUPINGS[grouping].assign(run.rows, run.none_label)
    if group not in groups:
        raise ValueError(f"--only {grouping!r}: expected a group of {sorted({*groups} - {None})}, received {group!r}.")
    return replace(run, rows=[row for row, of_row in zip(run.rows, groups, strict=True) if of_row == group])


def _tail_words(row: dict[str, Any]) -> str | None:
    """The tail's words; None of a tail in the image, which has none."""
    return None if row.get("tail_object", -1) >= 0 or row["tail"] == "[object]" else row["tail"]


def _binned(count: int, starts: tuple[int, ...]) -> str:
    """The bin of `count` when bins begin at these numbers: (1, 2, 3, 6) are "1", "2", "3-5" and "6+"."""
    index = max(i for i, start in enumerate(starts) if start <= count)
    if index + 1 == len(starts):
        return f"{starts[index]}+"
    start, end = starts[index], starts[index + 1] - 1
    return str(start) if start == end else f"{start}-{end}"
