"""Rows of a data set whose visual features are views of the memory-mapped file, in the type they are stored in.

The numpy format of `datasets` makes float16 float32, a copy of twice the size.
"""

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.formatting import PythonFormatter, _register_formatter


__all__ = ["FEATURE_COLUMNS", "MappedFormatter", "with_mapped_features"]

FEATURE_COLUMNS = ("image_features", "object_features")
FORMAT = "mapped_features"


class MappedFormatter(PythonFormatter):
    """Columns of vectors, or of lists of vectors, of one length: read-only arrays (V,) or (O, V); None where null."""

    def format_row(self, pa_table: pa.Table) -> dict[str, np.ndarray | None]:
        return {name: _views(pa_table[name])[0] for name in pa_table.column_names}

    def format_column(self, pa_table: pa.Table) -> list[np.ndarray | None]:
        return _views(pa_table.column(0))

    def format_batch(self, pa_table: pa.Table) -> dict[str, list[np.ndarray | None]]:
        return {name: _views(pa_table[name]) for name in pa_table.column_names}


_register_formatter(MappedFormatter, FORMAT)


def with_mapped_features(posts: datasets.Dataset) -> datasets.Dataset:
    """The same posts with their visual features, if they have some of a fixed length, as views; the rest as it was."""
    columns = [name for name in FEATURE_COLUMNS if name in posts.column_names and _is_vector(posts.features[name])]
    return posts.with_format(FORMAT, columns=columns, output_all_columns=True) if columns else posts


def _is_vector(feature: Any) -> bool:
    inner = getattr(feature, "feature", None)
    return getattr(feature, "length", -1) > 0 or getattr(inner, "length", -1) > 0


def _views(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    return [_view(chunk.slice(i, 1)) for chunk in column.chunks for i in range(len(chunk))]


def _view(row: pa.Array) -> np.ndarray | None:
    """An array of one list -> its numbers."""
    if row.null_count:
        return None
    values = row.flatten()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy(zero_copy_only=True)  # (V,)
    numbers = values.flatten().to_numpy(zero_copy_only=True)
    return numbers.reshape(len(values), values.type.list_size)  # (O, V)
