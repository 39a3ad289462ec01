"""A question to the pipeline turned into a post: strings become spans, a tail's box an object, the image is opened."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .posts import check_post, has_rows, sentence_of
from .words import Span, find_mention, widened


__all__ = ["PAIR_KEYS", "Question", "read_question"]

# Keys that a question about one pair has itself; a question about several has them in each of its pairs.
PAIR_KEYS = ("head", "tail", "tail_object", "text_phrases", "objects")

EMPTY_PLACE = -1  # among a pair's objects; without any the first ones of the post are taken


@dataclass(frozen=True)
class Question:
    """A post for the processor, its name in errors, and whether one answer or a list of answers was asked for."""

    post: dict[str, Any]
    name: str
    single: bool


def read_question(question: Mapping[str, Any], open_image: Callable[[Any], Image.Image]) -> Question:
    """Make a question, which stays as it is, a post; `open_image` makes an RGB image of `question["image"]`."""
    if not isinstance(question, Mapping):
        raise ValueError(f"a question must be a dict, received {type(question).__name__}: {str(question)[:80]!r}.")
    post = dict(question)
    name = f"post {post['id']!r}" if post.get("id") is not None else "the post"
    single = "pairs" not in post
    own = {key: post.pop(key) for key in PAIR_KEYS if key in post}
    if own and not single:
        raise ValueError(f"{name} has pairs and also {sorted(own)}: put these into the pairs.")
    post["pairs"] = [own] if single else post["pairs"]
    check_post(post, name)
    post["pairs"] = [dict(pair) for pair in post["pairs"]]
    sentence = sentence_of(post, name)
    num_boxes = len(post["boxes"]) if post.get("boxes") is not None else 0
    for number, pair in enumerate(post["pairs"]):
        _read_pair(pair, post, sentence, name if single else f"{name}, pair {number}")
    if post.get("boxes") is not None and len(post["boxes"]) > num_boxes:
        for pair in post["pairs"]:  # a box that is the tail of one pair is no object of the others
            if not has_rows(pair.get("objects")):
                tail = pair.get("tail_object")
                own = [tail] if tail is not None and tail >= num_boxes else []
                pair["objects"] = [*range(num_boxes), *own] or [EMPTY_PLACE]
    if post.get("image") is not None:
        try:
            post["image"] = open_image(post["image"])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Question(post, name, single)


def _read_pair(pair: dict[str, Any], post: dict[str, Any], sentence: tuple[str, list[Span]], name: str) -> None:
    """Replace, in place, a pair's strings by spans and its tail box by an object."""
    tail = pair.get("tail")
    if pair.get("head") is None or (tail is None and pair.get("tail_object") is None):
        raise ValueError(f"{name} needs head and tail, or pairs of them, received {sorted(pair)}.")
    if not isinstance(tail, str) and hasattr(tail, "__len__") and len(tail) == 4:
        pair["tail_object"] = _object_of_box([float(value) for value in pair.pop("tail")], post, name)
    for role in ("head", "tail"):
        if pair.get(role) is not None:
            pair[role] = _as_span(pair[role], sentence, f"{name}, {role}")
    phrases = pair.get("text_phrases")
    if phrases is not None:
        pair["text_phrases"] = [_as_span(phrase, sentence, f"{name}, text phrase") for phrase in phrases]


def _as_span(mention: Any, sentence: tuple[str, list[Span]], name: str) -> tuple[int, ...]:
    """A string -> where it stands; a span (of any sequence type) -> a tuple, for the processor to check."""
    if isinstance(mention, str):
        return find_mention(mention, *sentence, name)
    try:
        span = tuple(operator.index(value) for value in mention)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a string or a span (start, end), received {mention!r}.") from None
    text, units = sentence
    is_inside = len(units) == len(text) and len(span) == 2 and 0 <= span[0] < span[1] <= len(text)
    if is_inside and widened(span, text) != span:
        cut = f"cuts a character of several code points, use {widened(span, text)}"
        raise ValueError(f"{name}: the span {span} {cut}.")
    return span


def _object_of_box(box: list[float], post: dict[str, Any], name: str) -> int:
    """The index of `box` among the post's boxes, to whose end it is put if it is not one of them."""
    boxes = [[float(value) for value in other] for other in post["boxes"]] if has_rows(post.get("boxes")) else []
    if box in boxes:
        return boxes.index(box)
    if post.get("image_features") is not None:
        raise ValueError(f"{name}: the tail {box} must be one of boxes={boxes}, for object_features to have its row.")
    if post.get("image") is None:
        raise ValueError(f"{name}: the tail is a box, {box}, but the post has no image to look at. Give image=...")
    post["boxes"] = [*boxes, box]
    return len(boxes)
