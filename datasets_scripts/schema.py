"""One row of every data set here: a post, that is a sentence, its image and all its entity pairs.

Splits are named train, validation and test. Spans are [start, end) over `tokens`; boxes are xyxy in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import ClassLabel, Features, Image, List, Value


__all__ = ["group_into_posts", "post_features"]


def post_features(labels: Sequence[str], *, images: bool, visual_feature_size: int | None) -> Features:
    """The columns of a data set of posts.

    Args:
        labels: relation names, order = id; read them back with `features["pairs"].feature["relation"].names`.
        images: whether there is an `image` column (a row of it may still be None).
        visual_feature_size: V, the length of a visual feature vector; None leaves out both columns of features.

    Returns:
        `pairs` is a list of {head, tail, tail_object, relation, text_phrases, image_phrases, objects}: the tail is
        either a span (`tail_object` is -1) or the object `tail_object` (an index into `boxes`, `tail` is []);
        `image_phrases` and `objects` are indices into the post's `image_phrases` and `boxes` of those most relevant to
        the pair, best first, [] where no selector chose any: then the first ones count. `image_features` is (V,), None
        when the post has no image; `object_features` is (num_objects, V); both are float16.

    Raises:
        ValueError: `labels` is empty or holds a label twice, or `visual_feature_size` is not positive.
    """
    labels = list(labels)
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"labels: expected distinct relation names, at least one, received {labels}")
    if visual_feature_size is not None and visual_feature_size < 1:
        raise ValueError(f"visual_feature_size: expected a positive int or None, received {visual_feature_size}")
    span = List(Value("int32"), length=2)
    pair = {
        "head": span,
        "tail": List(Value("int32")),  # [] when the tail is an object, so of no fixed length
        "tail_object": Value("int32"),
        "relation": ClassLabel(names=labels),
        "text_phrases": List(span),
        "image_phrases": List(Value("int32")),
        "objects": List(Value("int32")),
    }
    columns: dict[str, Any] = {"id": Value("string"), "tokens": List(Value("string")), "image_id": Value("string")}
    if images:
        columns["image"] = Image()
    if visual_feature_size is not None:
        columns["image_features"] = List(Value("float16"), length=visual_feature_size)
    columns["boxes"] = List(List(Value("float32"), length=4))
    columns["object_labels"] = List(Value("string"))
    if visual_feature_size is not None:
        columns["object_features"] = List(List(Value("float16"), length=visual_feature_size))
    columns |= {"caption": Value("string"), "image_phrases": List(Value("string")), "pairs": List(pair)}
    return Features(columns)


def group_into_posts(
    facts: Iterable[tuple[list[str], str, dict[str, Any]]],
) -> dict[tuple[tuple[str, ...], str], list[dict[str, Any]]]:
    """Group facts (tokens, image_id, pair) by (tokens, image_id): posts by first appearance, pairs in file order.

    A pair that stands twice is kept twice: the official counts and scores are over lines.
    """
    posts: dict[tuple[tuple[str, ...], str], list[dict[str, Any]]] = {}
    for tokens, image_id, pair in facts:
        posts.setdefault((tuple(tokens), image_id), []).append(pair)
    return posts
