"""What node selection chooses for a pair of mentions; every other file here builds on this. The rules themselves,
which prediction follows too, are in `modeling_vmhan.selection`.

A post is a row of `schema.post_features`. Its `relation`s are never read here.
"""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from modeling_vmhan.words import Span


__all__ = ["FIELDS", "PairSelection", "PostAndImage", "check_whole_numbers", "node_numbers", "shorten"]

PostAndImage = tuple[dict[str, Any], Image.Image | None]
FIELDS = ("text_phrases", "image_phrases", "objects")


@dataclass
class PairSelection:
    """What was chosen for one pair, best first; [] if nothing was, None if nothing was asked."""

    text_phrases: list[Span] | None = None  # [start, end) of the post's tokens
    image_phrases: list[str] | None = None
    objects: list[int] | None = None  # indices into the post's `boxes`
    reasons: dict[str, str] = field(default_factory=dict)  # {field: why it is empty, or what was left out of it}


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
