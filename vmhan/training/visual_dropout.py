"""A random part of a post's visual nodes taken away: what Figure 5 of the paper varies, at evaluation or in training.

A visual node is the image, an object (a box) or an image phrase. Each has its own draw, a function of (seed, post id,
node), and stays when the draw is below the share: order and batches do not matter, and what stays at a share stays at
every larger one. A node that goes leaves its place empty, so that no other one moves up into it.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any


__all__ = ["VisualDropoutCollator", "check_share", "kept_nodes", "drop_visual_nodes", "visual_nodes"]

Node = tuple[str, int]  # ("image", 0), ("object", index into boxes) or ("image phrase", index into image_phrases)
EMPTY = -1  # in a pair's `objects` and `image_phrases`: a place that no node takes


def check_share(share: float) -> float:
    """`share` itself; ValueError unless it is a fraction from 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(
            f"share of visual nodes kept: expected a fraction from 0 to 1, received {share!r}. Write 0.25 for 25 %."
        )
    return share


def visual_nodes(post: dict[str, Any]) -> list[Node]:
    """All visual nodes that a post offers; a caption without phrases is one phrase, blank phrases are none."""
    has_image = post.get("image_features") is not None or post.get("image") is not None
    objects = [("object", index) for index in range(_num_objects(post))]
    phrases = [("image phrase", index) for index, phrase in enumerate(_phrases(post)) if phrase.strip()]
    return [("image", 0)] * has_image + objects + phrases


def kept_nodes(post: dict[str, Any], share: float, *, seed: int = 0) -> set[Node]:
    """Those of `visual_nodes(post)` that stay at this share.

    An object that is a pair's tail always stays. So does an image that comes as pixels, not as features, while one of
    its objects stays, for these are cut out of it.

    Raises:
        ValueError: a share outside [0, 1], or a post without id, to which the draws belong.
    """
    check_share(share)
    if post.get("id") is None:
        raise ValueError(
            "visual nodes are dropped by draws that belong to the post's id: expected post['id'], received none."
        )
    tails = {("object", pair.get("tail_object", -1)) for pair in post["pairs"]}
    kept = {node for node in visual_nodes(post) if node in tails or _draw(seed, post["id"], node) < share}
    if post.get("image_features") is None and post.get("image") is not None and any(n == "object" for n, _ in kept):
        kept.add(("image", 0))
    return kept


def drop_visual_nodes(post: dict[str, Any], share: float, *, seed: int = 0) -> dict[str, Any]:
    """The post with about `share` of its visual nodes; a new dict, nothing of the given one is changed.

    Objects keep their places in `boxes`, and `tail_object` its meaning: a pair's own choice among them reads -1 where
    one went. A phrase that goes is blank at its place, and its words leave the caption; with the last phrase the
    caption goes, too, since the text encoder would read it.

    Raises:
        ValueError: as `kept_nodes`.

    Example:
        >>> post = {"id": "a", "object_features": [[0.5]], "pairs": [{"head": [0, 1], "tail": [1, 2], "objects": []}]}
        >>> drop_visual_nodes(post, 0.0)["pairs"][0]["objects"]
        [-1]
    """
    kept = kept_nodes(post, share, seed=seed)
    gone = [node for node in visual_nodes(post) if node not in kept]
    if not gone:
        return dict(post)
    changed, pairs = dict(post), [dict(pair) for pair in post["pairs"]]
    if ("image", 0) in gone:
        changed |= {name: None for name in ("image", "image_features") if name in post}
    objects = {index for kind, index in gone if kind == "object"}
    if objects:
        for pair in pairs:
            chosen = pair.get("objects") or range(_num_objects(post))
            pair["objects"] = [EMPTY if index in objects else index for index in chosen]
    phrases = {index for kind, index in gone if kind == "image phrase"}
    if phrases:
        changed |= _without_phrases(post, phrases)
        if not changed["image_phrases"]:
            pairs = [pair | {"image_phrases": []} for pair in pairs]
    return changed | {"pairs": pairs}


class VisualDropoutCollator:
    """A collator whose posts lose visual nodes before another one encodes them.

    Args:
        collator: called with these posts. share, seed: as in `drop_visual_nodes`.

    Raises:
        ValueError: a share outside [0, 1].
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], share: float, *, seed: int = 0):
        self.collator, self.share, self.seed = collator, check_share(share), seed

    def __call__(self, posts: Iterable[dict[str, Any]]) -> Any:
        return self.collator([drop_visual_nodes(post, self.share, seed=self.seed) for post in posts])


def _draw(seed: int, post_id: str, node: Node) -> float:
    """In [0, 1), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{post_id}/{node[0]}/{node[1]}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _num_objects(post: dict[str, Any]) -> int:
    """As the processor counts them: of the features or, where a post has none, of the boxes of its image."""
    features = post.get("object_features")
    objects = post.get("boxes") if features is None and post.get("image") is not None else features
    return 0 if objects is None else len(objects)


def _phrases(post: dict[str, Any]) -> list[str]:
    phrases = list(post.get("image_phrases") or [])
    return phrases if any(phrase.strip() for phrase in phrases) else [post.get("caption") or ""]


def _without_phrases(post: dict[str, Any], gone: set[int]) -> dict[str, Any]:
    """`image_phrases` and `caption` when the phrases at these indices go."""
    phrases = ["" if index in gone else phrase for index, phrase in enumerate(_phrases(post))]
    if not any(phrase.strip() for phrase in phrases):
        return {"image_phrases": [], "caption": None}
    caption = post.get("caption") or ""
    for index in sorted(gone, key=lambda index: -len(_phrases(post)[index])):
        words = re.escape(_phrases(post)[index].strip())
        caption = re.sub(rf"(?<!\w){words}(?!\w)", " ", caption)
    return {"image_phrases": phrases, "caption": " ".join(caption.split()) or None}
