"""Data sets of posts that are there already, as a folder or on the Hub: their columns are those of the schema.

What `load_dataset` makes of files that others wrote may have the right names and other types. A relation that is a
string becomes a label, since it can be told which; any other type is named, with the one that is expected.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Image, LargeList, List, Value

from datasets_scripts.builders.lines import none_label_first
from datasets_scripts.commands import nearest


__all__ = ["NEEDED_COLUMNS", "ready_posts"]

logger = logging.getLogger(__name__)

NEEDED_COLUMNS = ("id", "tokens", "pairs")
NEEDED_FIELDS = ("head", "tail", "relation")  # of a pair
NEVER_NULL = ("id", "tokens", "tokens[]", "pairs", "pairs[]", "pairs[].head", "pairs[].head[]", "pairs[].relation")
PREFIXES = {"string": ("string", "large_string"), "whole number": ("int", "uint"), "number": ("float", "int", "uint")}
PREFIXES["index or phrase"] = PREFIXES["whole number"] + PREFIXES["string"]  # phrases: mnre_published_objects has them
PAIR = {
    "head": ["whole number"], "tail": ["whole number"], "tail_object": "whole number", "relation": "label",
    "text_phrases": [["whole number"]], "image_phrases": ["index or phrase"], "objects": ["whole number"],
}  # fmt: skip
SHAPES = {
    "id": "string", "tokens": ["string"], "text": "string", "image_id": "string", "image": "image",
    "image_features": ["number"], "boxes": [["number"]], "object_labels": ["string"], "object_scores": ["number"],
    "object_features": [["number"]], "object_depths": [["number"]], "caption": "string", "image_phrases": ["string"],
    "pairs": [PAIR],
}  # fmt: skip
FIXES = {
    "image": 'cast_column("image", datasets.Image()) makes pictures of paths and bytes',
    "pairs[].relation": "Write the relations' names, as strings or as datasets.ClassLabel(names=[...])",
    "image_features": "The features of all pictures have one length: datasets.List(Value('float16'), length=...)",
}
FIXES["object_features"] = FIXES["image_features"]
HOW = "`vmhan prepare --source jsonl` makes such columns of raw posts"


def ready_posts(
    posts: datasets.DatasetDict,
    place: str,
    *,
    columns: Iterable[str] = tuple(SHAPES),
    labels: Sequence[str] | None = None,
) -> datasets.DatasetDict:
    """The posts, whose relations are a `datasets.ClassLabel`; `place` says in errors where they are from.

    Relations that are strings get the ids of `labels`, or of the train split's relations (of all splits', without
    one), the none label first. ValueError for a column that is missing or, among `columns`, not as the schema has it,
    for nulls, and for a relation that is none of the labels, posts without pairs, and spans outside of the tokens.
    Of a stream the columns alone are looked at.
    """
    for split, rows in posts.items():
        of_split = f"{place}, split {split}"
        missing = [name for name in NEEDED_COLUMNS if name not in rows.features]
        if missing:
            raise ValueError(
                f"{of_split}: expected the columns {list(NEEDED_COLUMNS)}, received no {missing} among "
                f"{sorted(rows.features)}. {HOW}"
            )
        looked_at = {n: kind for n, kind in rows.features.items() if n in {*columns, *NEEDED_COLUMNS} & SHAPES.keys()}
        for name, kind in looked_at.items():
            _check(kind, SHAPES[name], name, of_split)
        _check_lengths(looked_at, of_split)
        if isinstance(rows, datasets.Dataset):
            table = rows.select_columns(list(NEEDED_COLUMNS)).with_format("arrow")[:]
            _check_nulls(table, of_split)
            _check_values(table, rows.features["pairs"].feature["relation"], of_split)
            _warn_of_empty_choices(rows, of_split)
    kinds = {split: rows.features["pairs"].feature["relation"] for split, rows in posts.items()}
    names = {split: getattr(kind, "names", "strings") for split, kind in kinds.items()}
    if len({str(of_split) for of_split in names.values()}) > 1:
        raise ValueError(f"{place}: expected the same relations, in one order, for all splits, received {names}")
    return _with_labels(posts, place, labels) if "strings" in names.values() else posts


def _check(feature: Any, shape: Any, name: str, place: str) -> None:
    """ValueError if a column's type has not this shape: a list of one shape, a dict of them, or a kind's name."""
    if isinstance(shape, list) and isinstance(feature, (List, LargeList)):
        _check(feature.feature, shape[0], f"{name}[]", place)
        return
    if isinstance(shape, dict) and isinstance(feature, dict):
        if missing := [field for field in NEEDED_FIELDS if field not in feature]:
            raise ValueError(
                f"{place}, column {name}: expected the fields {list(NEEDED_FIELDS)}, received no {missing}"
            )
        for field in shape.keys() & feature.keys():
            _check(feature[field], shape[field], f"{name}.{field}", place)
        return
    dtype = feature.dtype if isinstance(feature, Value) else ""
    if shape == "label":
        is_right = isinstance(feature, ClassLabel) or dtype.startswith(PREFIXES["string"])
    elif shape == "image":
        is_right = isinstance(feature, Image) or dtype == "null"
    else:  # a column of nulls or of empty lists has no other type; where none may be, `_check_nulls` says so
        is_null = dtype == "null" and (isinstance(shape, str) or name.startswith("pairs[]."))
        is_right = is_null or (isinstance(shape, str) and dtype.startswith(PREFIXES[shape]))
    if not is_right:
        raise ValueError(
            f"{place}, column {name}: expected {_named(shape)}, received the type {str(feature)[:200]}. "
            f"{FIXES.get(name, HOW)}"
        )


def _named(shape: Any, many: bool = False) -> str:
    if isinstance(shape, list):
        return f"{'lists' if many else 'a list'} of {_named(shape[0], True)}"
    word, fields = ("dict", f" with {', '.join(shape)}") if isinstance(shape, dict) else (shape, "")
    return f"{word}s{fields}" if many else f"{'an' if word == 'image' else 'a'} {word}{fields}"


def _check_lengths(features: Mapping[str, Any], place: str) -> None:
    """ValueError unless the vectors of pictures and objects are of one length, which is in their types."""
    length = getattr(features.get("image_features"), "length", -1)
    for name in [name for name in ("image_features", "object_features") if name in features]:
        vector = features[name] if name == "image_features" else features[name].feature
        if length < 1 or getattr(vector, "length", -1) != length:
            raise ValueError(
                f"{place}, column {name}: expected vectors of one length, that of image_features, received the type "
                f"{features[name]}. {FIXES[name]}"
            )


def _check_nulls(table: pa.Table, place: str) -> None:
    """ValueError that names the first post with a null where there may be none."""
    for path in NEVER_NULL:
        if _has_null(table, path):
            number = next(i for i in range(len(table)) if _has_null(table.slice(i, 1), path))
            raise ValueError(
                f"{place}, post {table['id'][number].as_py()!r} (row {number}), column {path}: expected "
                f"{_named(_shape(path))}, received null"
            )


def _has_null(table: pa.Table, path: str) -> bool:
    return any(array.null_count for array in _arrays(table, path))


def _arrays(table: pa.Table, path: str) -> list[pa.Array]:
    name, *parts = path.replace("[]", ".[]").split(".")
    arrays = table[name].chunks
    for part in parts:
        arrays = [pc.list_flatten(array) if part == "[]" else pc.struct_field(array, part) for array in arrays]
    return arrays


def _check_values(table: pa.Table, relation: Any, place: str) -> None:
    """ValueError that names a post that no model can learn from or be scored on. One in the test split would else stop
    a run when all its training is over.
    """
    start = 0  # the number of the batch's first post
    for batch in table.to_batches():
        wrong = _wrong_value(batch, getattr(relation, "names", None))
        if wrong is not None:
            number, column, expected, received = wrong
            raise ValueError(
                f"{place}, post {batch['id'][number].as_py()!r} (row {start + number}), column {column}: expected "
                f"{expected}, received {received}. Mend or leave out this post, or a split whose relations are hidden"
            )
        start += len(batch)


def _wrong_value(batch: pa.RecordBatch, names: list[str] | None) -> tuple[int, str, str, Any] | None:
    """Number of a post, column, what was expected and received; None: all is right. `names` of relations are None
    where they are strings.
    """
    counts = pc.list_value_length(batch["pairs"]).to_numpy()
    if (counts == 0).any():
        return int(counts.argmin()), "pairs", "one or more", []
    posts = np.arange(len(batch)).repeat(counts)  # of each pair its post
    num_tokens = pc.list_value_length(batch["tokens"]).to_numpy()[posts]
    pairs = pc.list_flatten(batch["pairs"])
    is_object = np.zeros(len(pairs), dtype=bool)
    if pairs.type.get_field_index("tail_object") >= 0:
        is_object = pc.fill_null(pc.struct_field(pairs, "tail_object").cast("int64"), -1).to_numpy() >= 0
    is_head, _ = _are_spans(pc.struct_field(pairs, "head"), num_tokens)
    is_tail, is_empty = _are_spans(pc.struct_field(pairs, "tail"), num_tokens)
    is_right = {"head": is_head, "tail": np.where(is_object, is_empty, is_tail)}
    if names is not None:
        ids = pc.struct_field(pairs, "relation").to_numpy()
        is_right["relation"] = (ids >= 0) & (ids < len(names))
    for field in [field for field, right in is_right.items() if not right.all()]:
        i = int(is_right[field].argmin())
        span = f"0 <= start < end <= {num_tokens[i]}, of the tokens"
        tail_rule = "[] beside a tail_object" if is_object[i] else f"{span}, or a tail_object"
        expected = {"head": span, "tail": tail_rule, "relation": f"an id of {names}"}[field]
        return int(posts[i]), f"pairs[].{field}", expected, pairs[i][field].as_py()
    return None


def _are_spans(lists: pa.Array, num_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each list of whole numbers whether it is a span of so many tokens, and whether it is empty or null."""
    lists = lists.cast(pa.large_list(pa.int64()))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    spans = np.full((len(lists), 2), -1)  # starts and ends
    numbers = pc.list_flatten(lists.filter(pa.array(lengths == 2)))
    spans[lengths == 2] = pc.fill_null(numbers, -1).to_numpy().reshape(-1, 2)
    start, end = spans.T
    return (0 <= start) & (start < end) & (end <= num_tokens), lengths == 0


def _warn_of_empty_choices(rows: datasets.Dataset, place: str) -> None:
    """Warn of pairs that all choose none of what their posts have: [] meant that nobody had asked, and the first ones
    counted, before null did.
    """
    fields = rows.features["pairs"].feature
    for field, candidates in (("objects", "boxes"), ("image_phrases", "image_phrases")):
        if isinstance(fields.get(field), List) and isinstance(rows.features.get(candidates), List):
            table = rows.select_columns(list({"pairs", candidates})).with_format("arrow")[:]
            chosen = [pc.list_value_length(array) for array in _arrays(table, f"pairs[].{field}")]
            has_some = pc.max(pc.list_value_length(table[candidates])).as_py()
            if has_some and not any(array.null_count or pc.max(array).as_py() for array in chosen):
                logger.warning(
                    "%s, column pairs[].%s: [] for every pair, which is a choice: no model sees any of the posts' %s. "
                    "If nobody chose (data prepared by an older version have [] then), prepare them again or write "
                    "null, and the first ones count",
                    *(place, field, candidates),
                )


def _shape(path: str) -> Any:
    shape: Any = SHAPES
    for part in path.replace("[]", ".[]").split("."):
        shape = shape[0] if part == "[]" else shape[part]
    return shape


def _with_labels(posts: datasets.DatasetDict, place: str, labels: Sequence[str] | None) -> datasets.DatasetDict:
    """The posts with labels for relations that are strings."""
    if not all(isinstance(rows, datasets.Dataset) for rows in posts.values()):
        raise ValueError(
            f"{place}, column pairs[].relation: expected a ClassLabel with --streaming, which reads no relation "
            f"before training, received strings. {FIXES['pairs[].relation']}, or leave --streaming out"
        )
    if labels is None:
        known = _relations(posts["train"]) if "train" in posts else set().union(*map(_relations, posts.values()))
        try:
            labels = none_label_first(known)
        except ValueError as error:
            raise ValueError(f"{place}, column pairs[].relation: {error}") from None
    for split, rows in posts.items():
        for relation in sorted(_relations(rows) - set(labels)):
            number, post = next((i, post) for i, post in enumerate(rows) if relation in _of(post))
            raise ValueError(
                f"{place}, split {split}, post {post['id']!r} (row {number}), column pairs[].relation: expected one "
                f"of {list(labels)}, received {relation!r}{nearest(relation, labels)}"
            )
        features = rows.features.copy()
        features["pairs"].feature["relation"] = ClassLabel(names=list(labels))
        posts[split] = rows.cast(features)
    logger.info("%s: the relations are strings; their ids follow %s", place, list(labels))
    return posts


def _relations(rows: datasets.Dataset) -> set[str]:
    arrays = rows.select_columns(["pairs"]).with_format("arrow")[:]["pairs"].chunks
    return {
        name for array in arrays for name in pc.struct_field(pc.list_flatten(array), "relation").unique().to_pylist()
    }


def _of(post: Mapping[str, Any]) -> list[str]:
    return [pair["relation"] for pair in post["pairs"]]
