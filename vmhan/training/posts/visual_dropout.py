"""A random part of a post's visual nodes taken away: what Figure 5 of the paper varies, at evaluation or in training.

A visual node is the image, an object (a box) or an image phrase. Each has its own draw, a function of (seed, post id,
node), and stays when the draw is below the share: order and batches do not matter, and what stays at a share stays at
every larger one. A node that goes leaves its place empty, so that no other one moves up into it.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from modeling_vmhan.selection import rank_objects
from modeling_vmhan.words import find_words


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
    its objects stays, for these are cut out of it. ValueError for a share outside [0, 1], or a post without id.
    """
    check_share(share)
    if post.get("id") is None:
        raise ValueError("the draws of visual node dropout need a post's id: expected post['id'], received none.")

    def draw(node: Node) -> float:
        """In [0, 1), the same on every machine."""
        digest = hashlib.sha256(f"{seed}/{post['id']}/{node[0]}/{node[1]}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    tails = {("object", pair.get("tail_object", -1)) for pair in post["pairs"]}
    kept = {node for node in visual_nodes(post) if node in tails or draw(node) < share}
    if post.get("image_features") is None and post.get("image") is not None and any(n == "object" for n, _ in kept):
        kept.add(("image", 0))
    return kept


def drop_visual_nodes(post: dict[str, Any], share: float, *, seed: int = 0) -> dict[str, Any]:
    """The post with about `share` of its visual nodes; a new dict, nothing of the given one is changed.

    Objects keep their places in `boxes`, and `tail_object` its meaning: a pair's own choice among them reads -1 where
    one went. A phrase that goes is blank at its place, and its words leave the caption; with the last phrase the
    caption goes, too, since the text encoder would read it. Raises as `kept_nodes`.

    Example:
        >>> post = {"id": "a", "object_features": [[0.5]], "pairs": [{"head": [0, 1], "tail": [1, 2]}]}
        >>> drop_visual_nodes(post, 0.0)["pairs"][0]["objects"]
        [-1]
    """
    gone = set(visual_nodes(post)) - kept_nodes(post, share, seed=seed)
    changed, pairs = dict(post), [dict(pair) for pair in post["pairs"]]
    if ("image", 0) in gone:
        changed |= {name: None for name in ("image", "image_features") if name in post}
    if any(kind == "object" for kind, _ in gone):
        for pair in pairs:
            chosen = rank_objects(post, pair) if pair.get("objects") is None else pair["objects"]
            pair["objects"] = [EMPTY if ("object", index) in gone else index for index in chosen]
    phrases = _phrases(post)
    lost = [phrase for index, phrase in enumerate(phrases) if ("image phrase", index) in gone]
    if lost:
        left = ["" if ("image phrase", index) in gone else phrase for index, phrase in enumerate(phrases)]
        caption = (post.get("caption") or "") if any(phrase.strip() for phrase in left) else ""
        for phrase in sorted(lost, key=len, reverse=True):
            while place := find_words(phrase, caption):
                caption = f"{caption[: place[0]]} {caption[place[1] :]}"
        if not any(phrase.strip() for phrase in left):
            left, pairs = [], [pair | {"image_phrases": []} for pair in pairs]
        changed |= {"image_phrases": left, "caption": " ".join(caption.split()) or None}
    return changed | {"pairs": pairs}


class VisualDropoutCollator:
    """`collator`, called with posts that lost visual nodes; `share`, `seed` and errors as in `drop_visual_nodes`."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], Any], share: float, *, seed: int = 0):
        self.collator, self.share, self.seed = collator, check_share(share), seed

    def __call__(self, posts: Iterable[dict[str, Any]]) -> Any:
        return self.collator([drop_visual_nodes(post, self.share, seed=self.seed) for post in posts])


def _num_objects(post: dict[str, Any]) -> int:
    """As the processor counts them: of the features or, where a post has none, of the boxes of its image."""
    features = post.get("object_features")
    objects = post.get("boxes") if features is None and post.get("image") is not None else features
    return 0 if objects is None else len(objects)


def _phrases(post: dict[str, Any]) -> list[str]:
    phrases = list(post.get("image_phrases") or [])
    return phrases if any(phrase.strip() for phrase in phrases) else [post.get("caption") or ""]
