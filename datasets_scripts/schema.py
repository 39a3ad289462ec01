"""One row of every data set here: a post, that is a sentence, its image and all its entity pairs.

Splits are named train, validation and test. Spans are [start, end) over `tokens`; boxes are xyxy in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, List, Value

from modeling_vmhan.hyperedges import hypergraph_of


__all__ = [
    "group_into_posts",
    "has_text",
    "new_pair",
    "new_post",
    "object_columns",
    "post_features",
    "with_hypergraph",
]


def post_features(
    labels: Sequence[str],
    *,
    images: bool,
    visual_feature_size: int | None,
    depth_size: int | None = None,
    object_scores: bool = False,
    gold_objects: bool = False,
) -> Features:
    """The columns of a data set of posts, with an `image` column (None where there is none) if `images`.

    `labels` are the relations' names, order = id. A pair's tail is a span (`tail_object` is -1), or the object
    `tail_object` (an index into `boxes`; `tail` is []). Its `image_phrases` and `objects` are indices into those of
    the post, the most relevant to the pair first. None means that nobody was asked: the post's first ones count, and a
    selector may choose. [] is a choice: none. It is so with `text_phrases`, but a post has no list of them. `text` is
    the sentence as it was written, which is what a tokenizer reads, None where the source gives tokens alone; spans
    count `tokens` nevertheless. `image_features` is (V,), None when the post has no image; `object_features` is
    (num_objects, V); both are float16, and left out where V, `visual_feature_size`, is None. `object_depths`, a depth
    map for each object, is left out without `depth_size`, and a detector's `object_scores` unless they are asked
    for. So is `gold_objects`, of each pair the object that decides it, -1 for none: evaluation compares the attention
    with it, and no model reads it. `hypergraph` is what `modeling_vmhan.hyperedges.hypergraph_of` makes of the others.
    """
    span, text, index = List(Value("int32"), length=2), Value("string"), Value("int32")
    vector = List(Value("float16"), length=visual_feature_size or 0)
    pair = {
        "head": span,
        "tail": List(index),  # [] when the tail is an object, so of no fixed length
        "tail_object": index,
        "relation": ClassLabel(names=list(labels)),
        "text_phrases": List(span),
        "image_phrases": List(index),
        "objects": List(index),
    }
    hyperedge = {"family": text, "pair": index, "nodes": List(index)}
    columns = {
        "id": text,
        "tokens": List(text),
        "text": text,
        "image_id": text,
        "image": Image(),
        "image_features": vector,
        "boxes": List(List(Value("float32"), length=4)),
        "object_labels": List(text),
        "object_scores": List(Value("float32")),
        "object_features": List(vector),
        "object_depths": List(List(Value("float16"), length=depth_size or 0)),
        "caption": text,
        "image_phrases": List(text),
        "pairs": List(pair),
        "gold_objects": List(index),
        "hypergraph": {
            "nodes": List({"kind": text, "span": span, "index": index}),
            "pair_hyperedges": List(hyperedge),
            "post_hyperedges": List(hyperedge | {"roles": List(text)}),
        },
    }
    left_out = [] if images else ["image"]
    left_out += ["image_features", "object_features"] if visual_feature_size is None else []
    left_out += ["object_depths"] if depth_size is None else []
    left_out += [] if object_scores else ["object_scores"]
    left_out += [] if gold_objects else ["gold_objects"]
    return Features({name: column for name, column in columns.items() if name not in left_out})


def has_text(split: Dataset | IterableDataset) -> bool:
    """Whether any post of a split has its `text`; of a stream, whether it has the column, which prepare leaves out."""
    if "text" not in (split.column_names or ()):
        return False
    return isinstance(split, IterableDataset) or split.data["text"].null_count < len(split.data)


def new_post(post_id: str, tokens: Sequence[str], image_id: str | None, pairs: list[dict], **fields: Any) -> dict:
    """A row of `post_features` with no node but those in `fields`."""
    empty = {"text": None, "boxes": [], "object_labels": [], "caption": None, "image_phrases": []}
    return {"id": post_id, "tokens": list(tokens), "image_id": image_id, "pairs": pairs, **empty, **fields}


def object_columns(detections: Iterable[Any]) -> dict[str, list]:
    """What a detector found in an image (`detection.base.Detection`), as columns of its post."""
    found = list(detections)
    return {
        "boxes": [list(detection.box) for detection in found],
        "object_labels": [detection.label for detection in found],
        "object_scores": [detection.score for detection in found],
    }


def with_hypergraph(post: dict[str, Any]) -> dict[str, Any]:
    """The post with its hypergraph, made of what it holds now: to be called again after a node or a choice changed."""
    return post | {"hypergraph": hypergraph_of(post)}


def new_pair(head: Sequence[int], tail: Sequence[int], relation: str | None = None, **fields: Any) -> dict[str, Any]:
    """A pair of `post_features` for which no node was chosen but those in `fields`; `tail` is [] where `tail_object`
    is given.
    """
    empty = {"tail_object": -1, "text_phrases": None, "image_phrases": None, "objects": None}
    return {"head": list(head), "tail": list(tail), "relation": relation, **empty, **fields}


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
