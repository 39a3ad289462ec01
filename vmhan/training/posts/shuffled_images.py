"""The control of every claim about pictures: each post gets what the data know of another post's picture.

A model that scores as well so does not read the picture: what it gained came from its size, or from there being some
image phrases at all. Words, mentions, relations and text phrases stay.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import datasets
import numpy as np
from datasets.fingerprint import Hasher

from datasets_scripts.splits import count_filled, is_filled


__all__ = ["VISUAL_COLUMNS", "another_post", "with_shuffled_images"]

VISUAL_COLUMNS = ("image_features", "object_features", "object_depths", "object_scores", "image", "boxes")
VISUAL_COLUMNS += ("object_labels", "caption", "image_phrases")
CHOICES = ("image_phrases", "objects", "crops")  # of a pair; crops are those of the published files


def another_post(images: Sequence[Hashable], seed: int) -> list[int]:
    """For each post the number of the one whose picture it gets: of another image, by a random cycle of all images.

    Posts of one image get all the posts of their next one in turn. A post without an image (None) keeps its own
    number. ValueError for less than two images.
    """
    of_image: dict[Hashable, list[int]] = defaultdict(list)
    for post, image in enumerate(images):
        if image is not None:
            of_image[image].append(post)
    if len(of_image) < 2:
        raise ValueError(
            f"--shuffled_images {seed}: expected at least 2 different images, to exchange them, received "
            f"{len(of_image)} among {len(images)} posts. Leave it out, or the flags that leave out the pictures."
        )
    found = list(range(len(images)))
    cycle = np.random.default_rng(seed).permutation(np.arange(len(of_image)))
    posts = list(of_image.values())
    for own, other in zip(cycle, np.roll(cycle, -1)):
        for i, post in enumerate(posts[own]):
            found[post] = posts[other][i % len(posts[other])]
    return found


def with_shuffled_images(posts: datasets.DatasetDict, seed: int) -> datasets.DatasetDict:
    """Each split with the VISUAL_COLUMNS and image_id of other posts of the split, by `another_post`.

    A pair's choice among image phrases and objects comes along: its first pair gets that of the other post's first
    pair, and so on. `hypergraph` is left out, since it is true no longer: the processor makes it. ValueError for a
    split with less than two images, a tail that is an object of the image, and a stream.
    """
    for split, rows in posts.items():
        if isinstance(rows, datasets.IterableDataset):
            raise ValueError(
                f"--shuffled_images {seed}: expected posts that are stored, received --streaming: leave one out."
            )
        if regions := count_filled(rows.data.table, "pairs.tail_object")[0]:
            raise ValueError(
                f"--shuffled_images {seed}: expected tails that are words, received {regions} pairs of {split} whose "
                "tail is an object of the image, which no other image has: leave it out for such data."
            )
    return datasets.DatasetDict({split: _exchanged(rows, seed, split) for split, rows in posts.items()})


def _exchanged(rows: datasets.Dataset, seed: int, split: str) -> datasets.Dataset:
    visual = [name for name in VISUAL_COLUMNS if name in rows.column_names]
    try:
        others = rows.select(another_post(_images(rows, visual), seed))
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from error
    moving = [name for name in (*visual, "image_id") if name in rows.column_names]
    staying = [name for name in rows.column_names if name not in (*moving, "pairs", "hypergraph")]
    pairs = [rows.select_columns("pairs"), others.select_columns("pairs").rename_column("pairs", "others")]
    pairs = datasets.concatenate_datasets(pairs, axis=1).map(
        _with_choices_of_others, remove_columns="others", features=pairs[0].features
    )
    parts = [rows.select_columns(staying), pairs, others.select_columns(moving)]
    exchanged = datasets.concatenate_datasets([part for part in parts if part.column_names], axis=1)
    exchanged = exchanged.select_columns([name for name in rows.column_names if name != "hypergraph"])
    exchanged.info.description, exchanged.info.config_name = rows.info.description, rows.info.config_name
    return exchanged


def _with_choices_of_others(row: dict[str, Any]) -> dict[str, Any]:
    pairs = []
    for number, pair in enumerate(row["pairs"]):
        other = row["others"][number % len(row["others"])] if row["others"] else {}
        pairs.append({**pair, **{name: other.get(name) for name in CHOICES if name in pair}})
    return {"pairs": pairs}


def _images(rows: datasets.Dataset, visual: Sequence[str]) -> list[Hashable]:
    """Which image each post has: the image_id, or without one what stands in the columns `visual`; None if nothing."""
    if not visual:
        return [None] * len(rows)
    table = rows.select_columns(list(visual)).with_format("arrow")[:]
    is_there = np.any([is_filled(table[name]).fill_null(False).to_numpy() for name in visual], axis=0)
    names = rows["image_id"] if "image_id" in rows.column_names else [None] * len(rows)
    content = rows.select_columns(list(visual))
    found: list[Hashable] = []
    for number, (has, name) in enumerate(zip(is_there, names)):
        found.append(None if not has else Hasher.hash(content[number]) if name is None else name)
    return found
