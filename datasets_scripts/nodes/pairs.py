"""What node selection knows of a pair of mentions, and what it chooses for one; every other file here builds on this.

A post is a row of `schema.post_features`. Its `relation`s are never read here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image


__all__ = ["FIELDS", "PairSelection", "PostAndImage", "Span", "candidate_objects", "check_whole_numbers", "distance"]
__all__ += ["folded", "mention_spans", "node_numbers", "object_labels", "shorten", "tail_object", "values_of_boxes"]

Span = tuple[int, int]
PostAndImage = tuple[dict[str, Any], Image.Image | None]
FIELDS = ("text_phrases", "image_phrases", "objects")


@dataclass
class PairSelection:
    """What was chosen for one pair, best first; [] if nothing was, None if nothing was asked."""

    text_phrases: list[Span] | None = None  # [start, end) of the post's tokens
    image_phrases: list[str] | None = None
    objects: list[int] | None = None  # indices into the post's `boxes`
    reasons: dict[str, str] = field(default_factory=dict)  # {field: why it is empty, or what was left out of it}


def mention_spans(pair: dict[str, Any]) -> list[Span]:
    """The spans of the pair's mentions: head and tail, or the head alone when the tail is an image object."""
    mentions = [pair["head"]] if tail_object(pair) is not None else [pair["head"], pair["tail"]]
    return [(start, end) for start, end in mentions]


def tail_object(pair: dict[str, Any]) -> int | None:
    """The index of the object that is the pair's tail, None when the tail is a mention."""
    index = pair.get("tail_object")
    return None if index is None or index < 0 else index


def distance(span: Span, mentions: Sequence[Span]) -> int:
    """The number of tokens between a span and each of the mentions, summed over the mentions."""
    return sum(max(span[0] - end, start - span[1], 0) for start, end in mentions)


def values_of_boxes(post: dict[str, Any], key: str, *, missing: Any) -> list[Any]:
    """The values of `key`, one for each box, else a ValueError; `missing` for every box where the post has none."""
    boxes = post.get("boxes") or []
    values = post.get(key) or [missing] * len(boxes)
    if len(values) != len(boxes):
        raise ValueError(
            f"post {post.get('id')!r}, {key}: expected one for each of its {len(boxes)} boxes, received {len(values)}"
        )
    return list(values)


def object_labels(post: dict[str, Any]) -> list[str]:
    """The label of each of the post's boxes, "" for a box without one."""
    return [label or "" for label in values_of_boxes(post, "object_labels", missing="")]


def candidate_objects(post: dict[str, Any], pair: dict[str, Any]) -> list[tuple[int, str]]:
    """(index, label) of the objects that may be chosen: all but the pair's own tail, which is a node already."""
    return [(index, label) for index, label in enumerate(object_labels(post)) if index != tail_object(pair)]


def folded(phrase: str) -> str:
    """The phrase with single blanks and without case: two phrases that are equal so count as one."""
    return " ".join(phrase.split()).casefold()


def check_whole_numbers(least: int, **numbers: int) -> None:
    """Raise a ValueError that names the first of `numbers` that is no int of at least `least`."""
    for name, number in numbers.items():
        if type(number) is not int or number < least:
            raise ValueError(f"{name}: expected an int of at least {least}, received {number!r}")


def node_numbers(*numbers: int) -> dict[str, int]:
    """How many nodes of each of FIELDS a pair gets at most, checked."""
    check_whole_numbers(0, **{f"num_{field}": number for field, number in zip(FIELDS, numbers)})
    return dict(zip(FIELDS, numbers))


def shorten(text: str, length: int = 300) -> str:
    """The beginning of a text on one line, for messages."""
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[:length]} ..."
