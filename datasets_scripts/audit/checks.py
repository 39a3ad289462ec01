"""What must hold exactly, or a field is keyed by something else than the image and the pair's own words.

No label is read here: a violation says that a field could carry one, whatever the probes found.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from datasets_scripts.audit.table import Column, PairTable


__all__ = ["Check", "invariants"]

OF_IMAGE = ("boxes", "object_labels", "image_features", "object_features", "caption", "image_phrases", "image")
BY_SPANS = ("pairs.text_phrases", "pairs.objects")
OWN_PLACE = ("pairs of the post", "pairs.tail_object")


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
    - The same sentence, image and words of head and tail have the same image phrases, wherever they stand; text
      phrases, which are spans, and objects, which are ranked by them, the same where the mentions stand at the same
      place.
    - `objects` are distinct indices of boxes.
    """
    posts = [i for i, post in enumerate(table.post) if i == 0 or post != table.post[i - 1]]  # one pair of each
    chosen = table.column("pairs.image_phrases")
    of_image = set(OF_IMAGE) - ({"image_phrases"} if chosen is not None and any(chosen.values) else set())
    for column in map(partial(_as_phrases, table), table.columns):
        if column.level == "post" and column.name in of_image or by_line and isinstance(column.values[0], list):
            rows = posts if column.level == "post" else range(len(table.relation))
            yield _one_value(column, rows, lambda i: table.images[i], "one image, one value")
        if column.level == "pair" and column.name not in OWN_PLACE:
            spans = column.name in BY_SPANS

            def key(i: int, about: list[Any] = table.spans if spans else table.mentions) -> Hashable:
                return table.sentences[i], table.images[i], about[i]

            rule = "one sentence, image and pair of " + ("spans" if spans else "mentions") + ", one value"
            yield _one_value(column, range(len(table.relation)), key, rule)
    yield from _objects_point_at_boxes(table)


def _as_phrases(table: PairTable, column: Column) -> Column:
    """Image phrases that a pair chose by index into its post's list as the phrases themselves."""
    listed = table.column("image_phrases")
    if column.name != "pairs.image_phrases" or listed is None:
        return column
    values = [
        [of_post[i] if isinstance(i, int) and 0 <= i < len(of_post) else i for i in chosen or []]
        for chosen, of_post in zip(column.values, listed.values, strict=True)
    ]
    return replace(column, values=values)


def _one_value(column: Column, rows: Any, key: Callable[[int], Hashable], rule: str) -> Check:
    """Rows of one key must hold equal values; `compared` counts the keys that stand in several rows."""
    first: dict[Hashable, Any] = {}
    repeated: set[Hashable] = set()
    broken: dict[Hashable, str] = {}
    for i in rows:
        of_row, value = key(i), column.values[i]
        if of_row is None:
            continue
        if of_row in first:
            repeated.add(of_row)
            if of_row not in broken and not _same(first[of_row], value):
                broken[of_row] = f"{_shown(of_row)}: {_shown(first[of_row])} and {_shown(value)}"
        first.setdefault(of_row, value)
    return Check(column.name, rule, len(repeated), len(broken), next(iter(broken.values()), None))


def _objects_point_at_boxes(table: PairTable) -> Iterator[Check]:
    objects, boxes = table.column("pairs.objects"), table.column("boxes")
    if objects is None or boxes is None:
        return
    broken = [
        f"pair {i}: objects {chosen} of {len(of_post or [])} boxes"
        for i, (chosen, of_post) in enumerate(zip(objects.values, boxes.values, strict=True))
        if len(set(chosen or [])) != len(chosen or []) or not set(chosen or []) <= set(range(len(of_post or [])))
    ]
    yield Check(
        "pairs.objects", "distinct indices of boxes", len(objects.values), len(broken), next(iter(broken), None)
    )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):  # projections: equal up to float rounding
        return one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-3)
    return type(one) is type(other) and one == other


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
