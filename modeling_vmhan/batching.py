"""Posts as `VMHANProcessor.encode` leaves them, and the tensors of a batch of them that are not of text.

Shapes are in modeling_vmhan.py's notation.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .hyperedges import MEMBERSHIP_OF, PAIR_FAMILIES
from .post_graph import PostGraph
from .posts import pad_rows
from .words import Span


__all__ = ["EncodedPair", "EncodedPost", "given_incidence", "has_same_rows", "of_like_length", "visual_tensors"]

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
    """An encoded post, for `VMHANProcessor.collate` to pad: no tensor has a batch axis."""

    name: str
    rows: list[dict[str, list[int]]]
    pairs: list[EncodedPair]
    image: Tensor | None = None  # (V,), the given features
    objects: Tensor | None = None  # (O, V)
    pixels: Tensor | None = None  # (1 + O, 3, S, S), or (1, 3, S, S) for an encoder that takes boxes
    boxes: Tensor | None = None  # (O, 4), relative, with pixels
    graph: PostGraph | None = None  # of a model whose hypergraphs are of posts
    # for a model that finds mentions: the words' characters, and of each row (word, its first token's position)
    words: list[Span] = field(default_factory=list)
    word_places: list[list[tuple[int, int]]] = field(default_factory=list)

    @property
    def num_objects(self) -> int:
        regions = self.objects if self.objects is not None else self.boxes
        return 0 if regions is None else len(regions)


def has_same_rows(sentence: EncodedPost, encoded: EncodedPost) -> bool:
    """Whether a post has one encoder row, and the same with its pairs' markers behind as without."""
    ids = [[row["input_ids"] for row in post.rows] for post in (sentence, encoded)]
    return len(ids[0]) == len(ids[1]) == 1 and ids[1][0][: len(ids[0][0])] == ids[0][0]


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


def given_incidence(pairs: list[EncodedPair], *, has_regions: bool) -> Tensor:
    """The hyperedges of the data, (P, N, 5) bool, and those of equations 1 to 3 for pairs whose post has none."""
    memberships = [pair.membership or _usual_membership(pair, has_regions) for pair in pairs]
    bits = torch.cat([pad_rows(list(group), 0) for group in zip(*memberships)], dim=1)  # (P, N)
    return (bits.unsqueeze(-1) >> torch.arange(len(PAIR_FAMILIES)) & 1).bool()


def _usual_membership(pair: EncodedPair, has_regions: bool) -> list[list[int]]:
    regions = 1 + len(pair.objects) if has_regions else 0
    slots = [["head", "tail" if pair.tail_object < 0 else "visual tail"], ["textual"] * len(pair.text_phrases)]
    slots += [["visual"] * count for count in (regions, len(pair.chosen_phrases))]
    return [[MEMBERSHIP_OF[slot] for slot in group] for group in slots]


def visual_tensors(posts: list[EncodedPost], size: int, *, takes_boxes: bool) -> dict[str, Tensor]:
    """Features of this size or pixels once per post: (B, ...), padded to the most objects of a post."""

    def stacked(tensors: list[Tensor | None], *shape: int) -> Tensor:  # zeros of `shape` where there is none
        return pad_sequence([torch.zeros(shape) if x is None else x.float() for x in tensors], batch_first=True)

    given = [tensor for post in posts for tensor in (post.image, post.objects) if tensor is not None]
    seen = [post for post in posts if post.pixels is not None]
    if given and seen:
        which = f"{seen[0].name} has an image but no image_features, and others of the batch have features"
        raise ValueError(f"{which}: give features for all, of one encoder, or pixels for all.")
    counts = torch.tensor([post.num_objects for post in posts])
    has_image = torch.tensor([post.image is not None or post.pixels is not None for post in posts])
    masks = {"image_mask": has_image, "object_mask": torch.arange(int(counts.max())) < counts.unsqueeze(1)}
    if not seen:
        is_half = given and all(tensor.dtype == torch.float16 for tensor in given)
        dtype = torch.float16 if is_half else torch.float32
        images = stacked([post.image for post in posts], size).to(dtype)  # (B, V)
        objects = stacked([post.objects for post in posts], 0, size).to(dtype)  # (B, O, V)
        return {"image_features": images, "object_features": objects, **masks}
    # (B, 1 + O, 3, S, S), or (B, 1, 3, S, S) for an encoder that takes boxes
    masks["pixel_values"] = stacked([post.pixels for post in posts], 1, *seen[0].pixels.shape[1:])
    if takes_boxes:
        masks["boxes"] = stacked([post.boxes for post in posts], 0, 4)  # (B, O, 4)
    return masks
