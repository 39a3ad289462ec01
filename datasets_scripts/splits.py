"""Do the splits of a data set hold the same kinds of things? A split without captions is scored on other inputs than
the model learned from, and no score shows it.
"""

from collections.abc import Mapping, Sequence

import datasets
import pyarrow as pa
import pyarrow.compute as pc


__all__ = ["NODES", "count_filled", "differing_splits", "is_filled"]


# What a split may hold, and the column of the posts, or the field of their pairs, that has it.
THINGS = {
    "a text beside the tokens": "text",
    "an image": "image",
    "image_features": "image_features",
    "object_features": "object_features",
    "boxes": "boxes",
    "a caption": "caption",
    "image_phrases": "image_phrases",
    "text_phrases of their own": "pairs.text_phrases",
    "image_phrases of their own": "pairs.image_phrases",
    "objects of their own": "pairs.objects",
    "an object as their tail": "pairs.tail_object",
}

NODES = ("boxes", "image_phrases", "text_phrases of their own", "image_phrases of their own", "objects of their own")


def differing_splits(
    splits: Mapping[str, datasets.Dataset | pa.Table], things: Sequence[str] = tuple(THINGS)
) -> list[str]:
    """A sentence for each thing that no post (or pair) of one split has and those of another have, with the counts.

    A split is silent that is so small that, with the other's share of them, it would have less than one; and so is a
    stream, which nobody counts.
    """
    tables = {
        name: split if isinstance(split, pa.Table) else split.data.table
        for name, split in splits.items()
        if not isinstance(split, datasets.IterableDataset)
    }
    found = []
    for thing in things:
        unit = "pairs" if THINGS[thing].startswith("pairs.") else "posts"
        counts = {name: count_filled(table, THINGS[thing]) for name, table in tables.items()}
        shares = {name: have / of for name, (have, of) in counts.items() if of}
        for name, (have, of) in counts.items():
            best = max(shares, key=shares.__getitem__, default=name)
            if have == 0 and shares.get(best, 0) * of >= 1:
                found.append(
                    f"none of the {of} {unit} of {name} has {thing}, but {counts[best][0]} of {counts[best][1]} of "
                    f"{best} do: what is scored on {name} reads other inputs. Treat all splits alike"
                )
    return found


def count_filled(posts: pa.Table, place: str) -> tuple[int, int]:
    """How many cells of the column `place`, or of a field of the pairs ("pairs.objects"), hold something, neither null
    nor an empty string or list, and of how many. A column that is not there holds nothing.
    """
    name, _, field = place.partition(".")
    column = posts[name] if name in posts.column_names else pa.chunked_array([pa.nulls(len(posts))])
    if field:
        pairs = pc.list_flatten(column)
        has_field = pa.types.is_struct(pairs.type) and pairs.type.get_field_index(field) >= 0
        column = pc.struct_field(pairs, field) if has_field else pa.chunked_array([pa.nulls(len(pairs))])
    return pc.sum(is_filled(column)).as_py() or 0, len(column)


def is_filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of each cell whether it holds something, as `count_filled` counts; false or null where it does not."""
    types = pa.types
    if types.is_string(column.type) or types.is_large_string(column.type):
        return pc.greater(pc.utf8_length(column), 0)
    if types.is_list(column.type) or types.is_large_list(column.type):
        return pc.greater(pc.list_value_length(column), 0)
    if types.is_integer(column.type):  # an index, -1 where there is none
        return pc.greater_equal(column, 0)
    return pc.is_valid(column)
