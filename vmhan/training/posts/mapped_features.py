"""Rows of a data set whose visual features are views of the memory-mapped file, in the type they are stored in.

The numpy format of `datasets` makes float16 float32, a copy of twice the size, and takes no batch whose first is null.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset


__all__ = ["FEATURE_COLUMNS", "MappedPosts", "with_mapped_features"]

FEATURE_COLUMNS = ("image_features", "object_features")


class MappedPosts(Dataset):
    """Posts whose vectors (V,), or lists of vectors (O, V), are read-only arrays without a copy; None where null."""

    def __init__(self, posts: datasets.Dataset, columns: Sequence[str]):
        self.vectors = posts.select_columns(list(columns)).with_format("arrow")
        self.rest = posts.remove_columns(list(columns))

    def __len__(self) -> int:
        return len(self.rest)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        table = self.vectors[indices]
        views = {
            name: [_view(chunk.slice(i, 1)) for chunk in table[name].chunks for i in range(len(chunk))]
            for name in table.column_names
        }
        rest = self.rest.__getitems__(indices)
        return [row | {name: views[name][i] for name in views} for i, row in enumerate(rest)]


def with_mapped_features(posts: datasets.Dataset) -> datasets.Dataset | MappedPosts:
    """The posts with their visual features as views, if they have some of a fixed length."""
    columns = [name for name in FEATURE_COLUMNS if name in posts.column_names and _is_vector(posts.features[name])]
    return MappedPosts(posts, columns) if columns else posts


def _is_vector(feature: Any) -> bool:
    inner = getattr(feature, "feature", None)
    return getattr(feature, "length", -1) > 0 or getattr(inner, "length", -1) > 0


def _view(row: pa.Array) -> np.ndarray | None:
    """An array of one list -> its numbers."""
    if row.null_count:
        return None
    values = row.flatten()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy(zero_copy_only=True)  # (V,)
    numbers = values.flatten().to_numpy(zero_copy_only=True)
    return numbers.reshape(len(values), values.type.list_size)  # (O, V)
