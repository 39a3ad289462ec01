"""Posts as `PostEncoder.encode` leaves them, and the arrays of a batch of them that are not of text.

Shapes are in modeling_vmhan.py's notation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .hyperedges import MEMBERSHIP_OF, PAIR_FAMILIES
from .post_slots import PostGraph
from .posts import pad_rows
from .words import Span


__all__ = [
    "EncodedPair",
    "EncodedPost",
    "given_incidence",
    "has_same_rows",
    "of_like_length",
    "region_masks",
    "visual_arrays",
]

PADDING_A_PASS = 64  # tokens, for the rows of posts that share a pass; on a CPU a pass of its own costs about as much
TOKENS_A_PASS = 2**14  # with their padding: what bounds memory


@dataclass
class EncodedPair:
    """One pair: its encoder row, and token positions in that row, [] for a node without any."""

    row: int  # of the post's
    entities: list[list[int]]  # head and tail
    text_phrases: list[list[int]]
    image_phrases: list[list[int]]  # all of the post's
    chosen_phrases: list[int] = field(default_factory=list)  # the pair's choice of them, -1 for an empty place
    objects: list[int] = field(default_factory=list)  # and of the post's objects
    tail_object: int = -1
    label: int | None = None
    is_turned: bool = False  # its tail was given as its head
    membership: list[list[int]] | None = None  # of its nodes in hyperedges of the data, where they have any


@dataclass
class EncodedPost:
    """An encoded post, for `PostEncoder.collate` to pad: no array has a batch axis."""

    name: str
    rows: list[dict[str, list[int]]]
    pairs: list[EncodedPair]
    image: np.ndarray | None = None  # (V,), the given features
    objects: np.ndarray | None = None  # (O, V)
    pixels: Any = None  # a tensor, (1 + O, 3, S, S), or (1, 3, S, S) for an encoder that takes boxes
    boxes: Any = None  # (O, 4), relative, with pixels
    graph: PostGraph | None = None  # of a model whose hypergraphs are of posts
    # for a model that finds mentions: the words' characters, and of each row (word, its first token's position)
    words: list[Span] = field(default_factory=list)
    word_places: list[list[tuple[int, int]]] = field(default_factory=list)

    @property
    def num_objects(self) -> int:
        regions = self.objects if self.objects is not None else self.boxes
        return 0 if regions is None else len(regions)


def has_same_rows(sentence: EncodedPost, encoded: EncodedPost) -> bool:
    """Whether a sentence is one encoder row, and each row of its post is that one with markers of pairs behind it."""
    (first, *others), rows = ([row["input_ids"] for row in post.rows] for post in (sentence, encoded))
    return not others and all(row[: len(first)] == first for row in rows)


def of_like_length(posts: list[EncodedPost], *, padding: float = PADDING_A_PASS) -> list[list[int]]:
    """Indices of the posts in groups of like length, shortest first: one pass each, with at most so much `padding`
    and `TOKENS_A_PASS`, unless one post alone has more.
    """
    lengths = [[len(row["input_ids"]) for row in post.rows] for post in posts]
    groups, rows, real = [], 0, 0
    for i in sorted(range(len(posts)), key=lambda i: max(lengths[i])):
        padded = (rows + len(lengths[i])) * max(lengths[i])
        if not groups or padded - real - sum(lengths[i]) > padding or padded > TOKENS_A_PASS:
            groups.append([])
            rows = real = 0
        groups[-1].append(i)
        rows, real = rows + len(lengths[i]), real + sum(lengths[i])
    return groups


def given_incidence(pairs: list[EncodedPair], *, has_regions: bool) -> np.ndarray:
    """The hyperedges of the data, (P, N, 5) bool, and those of equations 1 to 3 for pairs whose post has none."""
    memberships = [pair.membership or _usual_membership(pair, has_regions) for pair in pairs]
    bits = np.concatenate([pad_rows(list(group), 0) for group in zip(*memberships)], axis=1)  # (P, N)
    return (bits[..., None] >> np.arange(len(PAIR_FAMILIES)) & 1).astype(bool)


def _usual_membership(pair: EncodedPair, has_regions: bool) -> list[list[int]]:
    regions = 1 + len(pair.objects) if has_regions else 0
    slots = [["head", "tail" if pair.tail_object < 0 else "visual tail"], ["textual"] * len(pair.text_phrases)]
    slots += [["visual"] * count for count in (regions, len(pair.chosen_phrases))]
    return [[MEMBERSHIP_OF[slot] for slot in group] for group in slots]


def visual_arrays(posts: Sequence[EncodedPost], size: int) -> dict[str, np.ndarray]:
    """Features of this size once per post: (B, ...), padded to the most objects of a post."""
    given = [array for post in posts for array in (post.image, post.objects) if array is not None]
    is_half = given and all(array.dtype == np.float16 for array in given)
    dtype = np.float16 if is_half else np.float32
    masks = region_masks(posts)
    images = np.zeros((len(posts), size), dtype)  # (B, V)
    objects = np.zeros((*masks["object_mask"].shape, size), dtype)  # (B, O, V)
    for i, post in enumerate(posts):
        if post.image is not None:
            images[i] = post.image
        if post.objects is not None:
            objects[i, : len(post.objects)] = post.objects
    return {"image_features": images, "object_features": objects, **masks}


def region_masks(posts: Sequence[EncodedPost]) -> dict[str, np.ndarray]:
    """Which posts have an image, (B,), and which objects are there, (B, O)."""
    counts = np.array([post.num_objects for post in posts])
    has_image = np.array([post.image is not None or post.pixels is not None for post in posts])
    return {"image_mask": has_image, "object_mask": np.arange(counts.max()) < counts[:, None]}
