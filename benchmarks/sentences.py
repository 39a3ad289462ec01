"""The posts that the benchmarks read: real sentences of MNRE-2, or drawn postcards; their visual features are drawn.

What a feature says costs nothing, what it weighs does: V numbers in float16 for the image and each object, on disk.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.postcards import Postcards
from datasets_scripts.schema import post_features
from vmhan.training.data import FEATURE_COLUMNS


__all__ = ["load_sentences", "spread_over_lengths", "with_features", "with_pairs", "with_pixels"]

KEPT = ("id", "tokens", "image_id", "pairs")
NUM_OBJECTS = 3  # the paper's K
BOX = (0.0, 0.0, 10.0, 10.0)

Post = dict[str, Any]


def load_sentences(
    data_dir: str | None, batch_size: int, batches: int, *, seed: int = 0
) -> tuple[list[Post], list[str], str]:
    """So many batches of posts of the training split, or all if there are fewer; the relations; what they are.

    The posts come in random order and have no image, caption or feature. They are drawn as `spread_over_lengths` says,
    so that they can be put into batches of like length as a whole training split can.
    """
    count = batch_size * batches
    if data_dir is None:
        sizes = {"num_train": count, "num_validation": 1, "num_test": 1}
        posts, source = build(Postcards, config_name="postcards", **sizes), "drawn postcards, not real sentences"
    else:
        posts = build(MNRE, config_name="mnre", data_dir=data_dir, images=False)
        source = "sentences of MNRE-2's training split"
    train = posts["train"].select_columns(KEPT)
    relations = train.features["pairs"].feature["relation"].names
    chosen = spread_over_lengths([len(tokens) for tokens in train["tokens"]], batch_size, batches, seed=seed)
    rows = list(train.select(chosen).shuffle(seed=seed))
    for row in rows:
        for pair in row["pairs"]:
            pair |= {"objects": [], "image_phrases": []}  # the first objects; there is no caption
    return rows, relations, source


def spread_over_lengths(lengths: Sequence[int], batch_size: int, batches: int, *, seed: int) -> list[int]:
    """`batches` times `batch_size` posts next to each other when all are sorted by length, evenly over the lengths.

    Example:
        >>> spread_over_lengths([80, 10, 20, 70, 60, 50, 30, 40], 2, 2, seed=0)
        [2, 6, 4, 3]
    """
    order = list(range(len(lengths)))
    random.Random(seed).shuffle(order)  # among those of one length
    order.sort(key=lambda row: lengths[row])
    if len(order) <= batch_size * batches:
        return order
    part = len(order) / batches
    starts = [int(part * i + (part - batch_size) / 2) for i in range(batches)]
    return [row for start in starts for row in order[start : start + batch_size]]


def with_features(
    posts: Sequence[Post], relations: Sequence[str], folder: Path, *, feature_size: int, count: int | None = None
) -> Dataset:
    """`count` rows on disk, the posts again and again, each with random features of its own; mapped into memory."""
    columns = post_features(relations, images=False, visual_feature_size=feature_size)
    count = len(posts) if count is None else count

    def rows() -> Iterator[Post]:
        numbers = np.random.default_rng(0)
        fixed = {"boxes": [BOX] * NUM_OBJECTS, "object_labels": [""] * NUM_OBJECTS, "caption": None}
        for i, post in zip(range(count), itertools.cycle(posts)):
            vectors = numbers.random((1 + NUM_OBJECTS, feature_size), dtype=np.float32).astype(np.float16)
            given = {"image_features": vectors[0], "object_features": list(vectors[1:]), "image_phrases": []}
            yield {**post, **fixed, **given, "id": str(i)}

    made = Dataset.from_generator(rows, features=columns, cache_dir=str(folder / f"cache-{count}-{feature_size}"))
    return made.with_format("numpy", columns=list(FEATURE_COLUMNS), output_all_columns=True)


def with_pairs(post: Post, count: int) -> Post:
    """The post with `count` pairs: its own again and again, as two pairs of the same mentions cost what others do."""
    pairs = list(itertools.islice(itertools.cycle(post["pairs"]), count))
    return {**post, "pairs": pairs}


def with_pixels(post: Post, side: int) -> Post:
    """The post with a picture of noise and three boxes in it, instead of features."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    kept = {name: value for name, value in post.items() if name not in FEATURE_COLUMNS}
    boxes = [[0, 0, side // 2, side // 2], [side // 4, 0, side, side // 2], [0, side // 2, side, side]]
    return {**kept, "image": Image.fromarray(noise), "boxes": boxes}
