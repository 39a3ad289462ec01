"""Do the splits of a data set hold the same kinds of things? A split without captions is scored on other inputs than
the model learned from, and no score shows it.
"""

from collections.abc import Callable, Mapping, Sequence

import datasets
import pyarrow as pa
import pyarrow.compute as pc


__all__ = ["NODES", "differing_splits"]


def _filled(column: pa.ChunkedArray) -> int:
    """How many cells hold something: neither null nor an empty string or list."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        lengths = pc.utf8_length(column)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lengths = pc.list_value_length(column)
    else:
        return len(column) - column.null_count
    return pc.sum(pc.greater(lengths, 0)).as_py() or 0


def _of_post(name: str) -> Callable[[pa.Table], tuple[int, int]]:
    return lambda posts: (_filled(posts[name]) if name in posts.column_names else 0, len(posts))


def _pair_field(posts: pa.Table, name: str) -> pa.ChunkedArray:
    """A field of all pairs, null where the pairs have no such field."""
    pairs = pc.list_flatten(posts["pairs"])
    if not pa.types.is_struct(pairs.type) or pairs.type.get_field_index(name) < 0:
        return pa.chunked_array([pa.nulls(len(pairs))])
    return pc.struct_field(pairs, name)


def _of_pair(name: str) -> Callable[[pa.Table], tuple[int, int]]:
    return lambda posts: (_filled(_pair_field(posts, name)), len(_pair_field(posts, name)))


def _tail_objects(posts: pa.Table) -> tuple[int, int]:
    indices = _pair_field(posts, "tail_object").cast(pa.int64())
    return pc.sum(pc.greater_equal(indices, 0)).as_py() or 0, len(indices)


# What a split may hold -> (how many of its posts or pairs have it, of how many), and what these are called.
POSTS, PAIRS = "posts", "pairs"
THINGS: dict[str, tuple[Callable[[pa.Table], tuple[int, int]], str]] = {
    "a text beside the tokens": (_of_post("text"), POSTS),
    "an image": (_of_post("image"), POSTS),
    "image_features": (_of_post("image_features"), POSTS),
    "object_features": (_of_post("object_features"), POSTS),
    "boxes": (_of_post("boxes"), POSTS),
    "a caption": (_of_post("caption"), POSTS),
    "image_phrases": (_of_post("image_phrases"), POSTS),
    "text_phrases of their own": (_of_pair("text_phrases"), PAIRS),
    "image_phrases of their own": (_of_pair("image_phrases"), PAIRS),
    "objects of their own": (_of_pair("objects"), PAIRS),
    "an object as their tail": (_tail_objects, PAIRS),
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
        count, unit = THINGS[thing]
        counts = {name: count(table) for name, table in tables.items()}
        shares = {name: have / of for name, (have, of) in counts.items() if of}
        for name, (have, of) in counts.items():
            best = max(shares, key=shares.__getitem__, default=name)
            if have == 0 and shares.get(best, 0) * of >= 1:
                found.append(
                    f"none of the {of} {unit} of {name} has {thing}, but {counts[best][0]} of {counts[best][1]} of "
                    f"{best} do: what is scored on {name} reads other inputs. Treat all splits alike"
                )
    return found
