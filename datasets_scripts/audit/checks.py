"""What must hold exactly, or a field is keyed by something else than the image and the pair's own words.

No label is read here: a violation says that a field could carry one, whatever the probes found.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasets_scripts.audit.table import Column, PairTable


__all__ = ["Check", "invariants"]

OF_IMAGE = {"boxes", "object_labels", "image_features", "object_features", "object_depths"}
OF_IMAGE |= {"object_scores", "caption", "image_phrases", "image"}
BY_SPANS = ("pairs.text_phrases", "pairs.objects", "pairs.hyperedges")
OWN_PLACE = ("pairs of the post", "pairs.tail_object", "mentions: ")
SHOWN = 120  # characters of a value in an example


@dataclass(frozen=True)
class Check:
    """`violations` of the `compared` things break `rule` for `field`; `example` shows one."""

    field: str
    rule: str
    compared: int
    violations: int
    example: str | None


def invariants(table: PairTable, *, by_line: bool = False) -> Iterator[Check]:
    """The rules of a table; `by_line` for files keyed by line, whose lists are candidate objects of the image.

    - One image has one list of boxes, labels, features, one caption, for all its posts; and one list of image phrases,
      unless pairs choose among them: a language model was then asked for each pair.
    - The same sentence, image and words of head and tail have the same image phrases, wherever they stand. Text
      phrases, which are spans, and objects, which are ranked by them, are compared where the spans are the same.
    - `objects` are distinct indices of boxes.
    """
    posts = [i for i, post in enumerate(table.post) if i == 0 or post != table.post[i - 1]]  # one pair of each
    pairs = range(len(table.relation))
    chosen = table.column("pairs.image_phrases")
    of_image = OF_IMAGE - ({"image_phrases"} if chosen is not None and any(chosen.values) else set())
    for column in table.columns:
        column = _as_phrases(table, column)
        if column.level == "post" and column.name in of_image or by_line and isinstance(column.values[0], list):
            keyed = [(table.images[i], i) for i in (posts if column.level == "post" else pairs)]
            yield _one_value(column, [(key, i) for key, i in keyed if key is not None], "one image, one value")
        if column.level == "pair" and not column.name.startswith(OWN_PLACE):
            by_spans = column.name in BY_SPANS
            about: list[Any] = table.spans if by_spans else table.mentions
            keys = [((table.sentences[i], table.images[i], about[i]), i) for i in pairs]
            rule = f"one sentence, image and pair of {'spans' if by_spans else 'mentions'}, one value"
            yield _one_value(column, keys, rule)
    yield from _objects_point_at_boxes(table)


def _as_phrases(table: PairTable, column: Column) -> Column:
    """Image phrases that a pair chose by index into its post's list as the phrases themselves."""
    listed = table.column("image_phrases")
    if column.name != "pairs.image_phrases" or listed is None:
        return column
    values = [
        [of_post[i] if isinstance(i, int) and 0 <= i < len(of_post) else i for i in chosen or []]
        for chosen, of_post in zip(column.values, listed.values)
    ]
    return replace(column, values=values)


def _one_value(column: Column, keyed: Iterable[tuple[Hashable, int]], rule: str) -> Check:
    """Rows of one key must hold equal values; `compared` counts the keys that stand in several rows."""
    values: dict[Hashable, list[Any]] = {}
    for key, row in keyed:
        values.setdefault(key, []).append(column.values[row])
    repeated = {key: of_key for key, of_key in values.items() if len(of_key) > 1}
    broken = {
        key: others for key, (first, *rest) in repeated.items() if (others := [v for v in rest if not _same(first, v)])
    }
    shown = [f"{repr(k)[:SHOWN]}: {repr(values[k][0])[:SHOWN]} and {repr(v[0])[:SHOWN]}" for k, v in broken.items()]
    return Check(column.name, rule, len(repeated), len(broken), next(iter(shown), None))


def _objects_point_at_boxes(table: PairTable) -> Iterator[Check]:
    objects, boxes = table.column("pairs.objects"), table.column("boxes")
    if objects is not None and boxes is not None:
        pointed = [(chosen or [], len(of_post or [])) for chosen, of_post in zip(objects.values, boxes.values)]
        broken = [
            f"pair {i}: objects {chosen} of {count} boxes"
            for i, (chosen, count) in enumerate(pointed)
            if len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(count))
        ]
        yield Check(objects.name, "distinct indices of boxes", len(pointed), len(broken), next(iter(broken), None))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):  # projections: equal up to float rounding
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-3)
    return type(one) is type(other) and one == other
