"""A question to the pipeline turned into a post: strings become spans, a tail's box an object, the image is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .posts import post_name, read_post, sentence_of
from .values import MAPPING, read_value, shown
from .words import Span, find_mention, widened


__all__ = ["PAIR_KEYS", "Question", "read_question"]

# Keys that a question about one pair has itself; a question about several has them in each of its pairs.
PAIR_KEYS = ("head", "tail", "tail_object", "text_phrases", "objects")


@dataclass(frozen=True)
class Question:
    """A post for the processor, its name in errors, and whether one answer or a list of answers was asked for."""

    post: dict[str, Any]
    name: str
    single: bool


def read_question(question: Mapping[str, Any], open_image: Callable[[Any], Image.Image]) -> Question:
    """Make a question, which stays as it is, a post; `open_image` makes an RGB image of `question["image"]`."""
    post = read_value(question, MAPPING, "a question")
    name = post_name(post, "the post")
    single = post.get("pairs") is None
    own = {key: value for key in PAIR_KEYS if (value := post.pop(key, None)) is not None}
    if own and not single:
        raise ValueError(f"{name} has pairs and also {sorted(own)}: put these into the pairs.")
    post["pairs"] = [own] if single else post["pairs"]
    post = read_post(post, name, is_question=True)
    sentence, num_boxes = sentence_of(post, name), len(post.get("boxes", []))
    for number, pair in enumerate(post["pairs"]):
        _read_pair(pair, post, sentence, name if single else f"{name}, pair {number}")
    if len(post.get("boxes", [])) > num_boxes:
        for pair in post["pairs"]:  # a box that is the tail of one pair is no object of the others
            tail = pair.get("tail_object", -1)
            pair.setdefault("objects", [*range(num_boxes), *[tail][: tail >= num_boxes]])
    if "image" in post:
        try:
            post["image"] = open_image(post["image"])
        except (OSError, ValueError) as error:
            kinds = (FileNotFoundError, TimeoutError, OSError, ValueError)
            kind = next(kind for kind in kinds if isinstance(error, kind))
            raise kind(f"{name}: {str(error)[:1000]}") from None
    return Question(post, name, single)


def _read_pair(pair: dict[str, Any], post: dict[str, Any], sentence: tuple[str, list[Span]], name: str) -> None:
    """Replace, in place, a pair's strings by spans and its tail box by an object."""
    if isinstance(pair.get("tail"), list):
        pair["tail_object"] = _object_of_box(pair.pop("tail"), post, name)

    for role in ("head", "tail"):
        if role in pair:
            pair[role] = _as_span(pair[role], sentence, f"{name}, {role}")
    if "text_phrases" in pair:
        pair["text_phrases"] = [_as_span(of, sentence, f"{name}, text phrase") for of in pair["text_phrases"]]


def _as_span(mention: str | Span, sentence: tuple[str, list[Span]], name: str) -> Span:
    """Where a string stands; a span as it is, if it is of whole characters."""
    if isinstance(mention, str):
        return find_mention(mention, *sentence, name)
    text, units = sentence
    is_inside = len(units) == len(text) and 0 <= mention[0] < mention[1] <= len(text)
    if is_inside and widened(mention, text) != mention:
        cut = f"cuts a character of several code points, use {widened(mention, text)}"
        raise ValueError(f"{name}: the span {mention} {cut}.")
    return mention


def _object_of_box(box: list[float], post: dict[str, Any], name: str) -> int:
    """The index of `box` among the post's boxes, to whose end it is put if it is not one of them."""
    boxes = post.get("boxes", [])
    if box in boxes:
        return boxes.index(box)
    if "image_features" in post or "object_features" in post:
        raise ValueError(
            f"{name}: the tail {box} must be one of boxes={shown(boxes)}, with its row of object_features."
        )
    if "image" not in post:
        raise ValueError(f"{name}: the tail is a box, {box}, but the post has no image to look at. Give image=...")
    post["boxes"] = [*boxes, box]
    return len(boxes)
