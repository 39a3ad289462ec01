"""The posts that the benchmarks read: real sentences of MNRE-2, or drawn postcards, with random visual features.

What a feature says costs nothing, what it weighs does: V numbers in float16 for the image and each object, on disk.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.postcards import Postcards
from datasets_scripts.schema import post_features, with_hypergraph
from vmhan.training.posts.data import FEATURE_COLUMNS


__all__ = ["load_posts", "spread_over_lengths", "text_alone", "with_features", "with_pairs"]

NUM_OBJECTS = 3  # the paper's K
BOX = (0.0, 0.0, 10.0, 10.0)

Post = dict[str, Any]


def load_posts(data_dir: str | None, batch_size: int, batches: int) -> tuple[list[Post], list[str]]:
    """Posts of MNRE's training split for so many batches, or all if there are fewer, and the relations; without
    `data_dir` drawn postcards. They are chosen as `spread_over_lengths` says and have no image, caption and features.
    """
    if data_dir is None:
        sizes = {"num_train": batch_size * batches, "num_validation": 1, "num_test": 1}
        posts = build(Postcards, config_name="postcards", **sizes)
    else:
        posts = build(MNRE, config_name="mnre", data_dir=data_dir, images=False)
    train = posts["train"].select_columns(["id", "tokens", "image_id", "pairs"])
    relations = train.features["pairs"].feature["relation"].names
    chosen = spread_over_lengths([len(tokens) for tokens in train["tokens"]], batch_size, batches)
    rows = list(train.select(chosen).shuffle(seed=0))
    for row in rows:
        for pair in row["pairs"]:
            pair |= {"objects": None, "image_phrases": None}  # the first objects; there is no caption
    return rows, relations


def spread_over_lengths(lengths: Sequence[int], batch_size: int, batches: int) -> list[int]:
    """Rows of `batches` times `batch_size` posts that are neighbours when all are sorted by length, evenly over the
    lengths, so that they can be put into batches of like length as a whole training split can.
    """
    order = list(range(len(lengths)))
    random.Random(0).shuffle(order)  # among those of one length
    order.sort(key=lambda row: lengths[row])
    if len(order) <= batch_size * batches:
        return order
    part = len(order) / batches
    starts = [int(part * i + (part - batch_size) / 2) for i in range(batches)]
    return [row for start in starts for row in order[start : start + batch_size]]


def with_features(
    posts: Sequence[Post], relations: Sequence[str], folder: Path, *, feature_size: int, count: int | None = None
) -> Dataset:
    """Store `count` rows, the posts again and again, each with random features of its own, mapped into memory."""
    columns = post_features(relations, images=False, visual_feature_size=feature_size)
    count = len(posts) if count is None else count

    def rows() -> Iterator[Post]:
        numbers = np.random.default_rng(0)
        fixed = {"boxes": [BOX] * NUM_OBJECTS, "object_labels": [""] * NUM_OBJECTS, "caption": None}
        for i, post in zip(range(count), itertools.cycle(posts)):
            vectors = numbers.random((1 + NUM_OBJECTS, feature_size), dtype=np.float32).astype(np.float16)
            given = {"image_features": vectors[0], "object_features": list(vectors[1:]), "image_phrases": []}
            yield with_hypergraph({**post, **fixed, **given, "id": str(i)})

    made = Dataset.from_generator(rows, features=columns, cache_dir=str(folder / f"cache-{count}-{feature_size}"))
    return made.with_format("numpy", columns=list(FEATURE_COLUMNS), output_all_columns=True)


def with_pairs(post: Post, count: int) -> Post:
    """Give the post `count` pairs, its own again and again: two pairs of the same mentions cost what others do."""
    return with_hypergraph({**post, "pairs": list(itertools.islice(itertools.cycle(post["pairs"]), count))})


def text_alone(post: Post) -> Post:
    """The post with nothing but its sentence and its pairs."""
    return {
        "tokens": post["tokens"],
        "pairs": [{role: pair[role] for role in ("head", "tail")} for pair in post["pairs"]],
    }
