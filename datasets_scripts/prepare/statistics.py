"""Counts over a prepared data set, read back from its Parquet files, images and features left out."""

from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


__all__ = ["count_split", "size_of"]

TOTALS = (
    "posts", "posts_with_image", "pairs", "tokens", "captions", "tail_objects", "text_phrases", "image_phrases",
    "objects",
)  # fmt: skip
COLUMNS = ["id", "tokens", "image_id", "boxes", "object_labels", "caption", "image_phrases", "pairs"]


def count_split(files: list[Path], labels: list[str], *, without_image: Container[str]) -> dict[str, Any]:
    """The numbers of one split.

    Args:
        without_image: ids of the posts that have no image, though they name one.

    Returns:
        posts, pairs, tokens, captions; images (distinct names) and posts_with_image; relations {name: pairs, in the
        order of the labels}; pairs_a_post, objects_an_image {number: how often}; object_labels {label: boxes}, most
        frequent first; and, over all pairs, text_phrases, image_phrases, objects: nodes chosen; tail_objects: tails
        that are an object.
    """
    relations = Counter(dict.fromkeys(labels, 0))
    pairs_a_post, objects_an_image, object_labels, total = Counter(), Counter(), Counter(), Counter()
    images: set[str] = set()
    for post in _rows(files):
        total["posts"] += 1
        total["pairs"] += len(post["pairs"])
        total["tokens"] += len(post["tokens"])
        total["captions"] += post["caption"] is not None
        pairs_a_post[len(post["pairs"])] += 1
        has_image = bool(post["image_id"]) and post["id"] not in without_image
        total["posts_with_image"] += has_image
        if has_image and post["image_id"] not in images:
            images.add(post["image_id"])
            objects_an_image[len(post["boxes"])] += 1
            object_labels.update(label for label in post["object_labels"] if label)
        for pair in post["pairs"]:
            relations[labels[pair["relation"]]] += 1
            total["tail_objects"] += pair["tail_object"] >= 0
            for name in ("text_phrases", "image_phrases", "objects"):
                total[name] += len(pair.get(name) or [])
    return {
        **{name: total[name] for name in TOTALS},
        "images": len(images),
        "relations": dict(relations),
        "pairs_a_post": _sorted(pairs_a_post),
        "objects_an_image": _sorted(objects_an_image),
        "object_labels": dict(sorted(object_labels.items(), key=lambda item: (-item[1], item[0]))),
    }


def size_of(files: list[Path]) -> tuple[int, int, int]:
    """(rows, bytes when read, bytes on disk) of Parquet files."""
    metadata = [pq.read_metadata(path) for path in files]
    num_bytes = sum(m.row_group(i).total_byte_size for m in metadata for i in range(m.num_row_groups))
    return sum(m.num_rows for m in metadata), num_bytes, sum(path.stat().st_size for path in files)


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1000, columns=COLUMNS):
            yield from batch.to_pylist()


def _sorted(counts: Counter) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}
