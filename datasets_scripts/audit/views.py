"""What can be seen of a field without the text: whether it is there, how many, how long, which one, and what it says.

STRUCTURE is what an honest field has no reason to tell the label by: missingness, counts, lengths, order, ids, codes.
A leak there fails the audit. CONTENT is what a picture shows, as feature vectors, boxes, labels and words: it may tell
the relation, and is reported only. A field that the audit does not know is STRUCTURE in all it says.

A pair's own words are text, and are taken out first: of "Ann Bob person person" the words "person person" are left.
What is left, if of few kinds, is a code, and so STRUCTURE. Only a detector's labels are codes by nature.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from datasets_scripts.audit.table import Column, ImageShape, PairTable
from modeling_vmhan.words import tokenize


__all__ = ["View", "views_of", "words_of"]

# Columns whose values are a picture's content, all of the schema (datasets_scripts/schema.py).
CONTENT = {
    "boxes", "caption", "image_features", "image_phrases", "object_depths", "object_features", "object_labels",
    "object_scores", "pairs.image_phrases",
}  # fmt: skip
IDS = ("id", "image_id")
MAX_CODES = 64  # so many different remains ...
CODED = 0.95  # ... for at least this share of the pairs are a code
LISTED = 6  # first numbers of a list that are looked at
LISTS = ("texts", "numbers", "spans", "boxes", "vectors", "empty lists")


@dataclass(frozen=True)
class View:
    """One aspect of a field, as a probe reads it.

    `values` are P codes (anything hashable), numbers (P, F), or P texts, by `form`.
    """

    field: str
    aspect: str
    kind: Literal["structure", "content"]
    form: Literal["codes", "numbers", "words", "characters", "vectors"]
    values: Any


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without the signs between them."""
    tokens = [text[start:end].lower() for start, end in tokenize(text)]
    return [token for token in tokens if token[0].isalnum() or token[0] == "_"]


def views_of(table: PairTable) -> Iterator[View]:
    """The views of every column of `table`, then what the objects a pair points at look like."""
    for column in table.columns:
        yield from _views_of_column(column, table)
    for name in ("pairs.objects", "pairs.tail_object"):
        column = table.column(name)
        if column is not None:
            yield from _views_of_object(column, table)


def _views_of_column(column: Column, table: PairTable) -> Iterator[View]:
    name, values = column.name, column.values
    sort = "id" if name in IDS else _sort_of(values)
    kind = "content" if name in CONTENT else "structure"
    if sort in LISTS:
        yield View(name, "count", "structure", "codes", [-1 if v is None else len(v) for v in values])
    elif sort not in ("id", "number"):
        yield View(name, "present", "structure", "codes", [not _is_missing(value) for value in values])
    match sort:
        case "id":
            numbers = [[int(number[-9:]) for number in re.findall(r"\d+", str(value))] for value in values]
            yield View(name, "numbers in it", "structure", "numbers", _padded(numbers))
            yield View(name, "characters", "structure", "characters", [str(value) for value in values])
        case "text" | "texts":
            yield from _views_of_text(column, table, kind)
        case "number":
            yield View(name, "value", kind, "numbers", _padded([v if isinstance(v, tuple) else (v,) for v in values]))
        case "numbers":
            yield View(name, "order", kind, "numbers", _padded(values))
        case "spans":
            lengths = [[sum(end - start for start, end in value or [])] for value in values]
            yield View(name, "length", "structure", "numbers", _padded(lengths))
        case "boxes":
            yield View(name, "geometry", kind, "numbers", np.stack([_geometry(value) for value in values]))
        case "vector" | "vectors":
            yield View(name, "values", kind, "vectors", _means(values))
        case "image":
            formats = sorted({value.format for value in values if value})
            shapes = [(*value[:2], formats.index(value.format)) if value else () for value in values]
            yield View(name, "size and format", "structure", "numbers", _padded(shapes))
        case "other":
            yield View(name, "value", kind, "words", [repr(value) for value in values])


def _sort_of(values: list[Any]) -> str:
    """What sort of values a column holds, told by the first that is there."""
    sample = next((value for value in values if not _is_missing(value)), None)
    if sample is None:
        return "empty lists" if any(isinstance(value, list) for value in values) else "nothing"
    if isinstance(sample, ImageShape):
        return "image"
    if isinstance(sample, np.ndarray):
        return "vector" if sample.ndim == 1 else "vectors"
    if isinstance(sample, list):
        if isinstance(sample[0], (list, tuple)):
            return {2: "spans", 4: "boxes"}.get(len(sample[0]), "other")
        return {str: "texts", int: "numbers", float: "numbers"}.get(type(sample[0]), "other")
    return {str: "text", int: "number", float: "number", bool: "number", tuple: "number"}.get(type(sample), "other")


def _views_of_text(column: Column, table: PairTable, kind: str) -> Iterator[View]:
    texts = [" ; ".join(value) if isinstance(value, list) else value or "" for value in column.values]
    what = "words"
    if column.level == "pair":
        texts = [_without(text, mentions) for text, mentions in zip(texts, table.mentions)]
        what = "words beyond the pair's own"
    lengths = [[len(words_of(text.replace("_", " "))), len(text)] for text in texts]
    yield View(column.name, f"{what}, number", "structure", "codes", [words for words, _ in lengths])
    yield View(column.name, f"{what}, length", "structure", "numbers", np.array(lengths, dtype=np.float64))
    common = Counter(texts).most_common(MAX_CODES)
    if column.name != "object_labels" and sum(count for _, count in common) >= CODED * len(texts):
        yield View(column.name, f"{what}, as a code", "structure", "codes", texts)
    yield View(column.name, what, kind, "words", texts)


def _views_of_object(column: Column, table: PairTable) -> Iterator[View]:
    """Label, box and features of the object that a pair points at first; content, since the picture shows it."""
    firsts = [next(iter(value), -1) if isinstance(value, list) else value for value in column.values]
    firsts = [-1 if first is None else first for first in firsts]
    for name, form in (("object_labels", "words"), ("boxes", "numbers"), ("object_features", "vectors")):
        pointed = table.column(name)
        of_posts = pointed.values if pointed else []
        sample = next((value[0] for value in of_posts if not _is_missing(value)), None)
        if sample is not None and max(firsts) >= 0:
            none = "" if form == "words" else np.full(np.shape(sample), -1.0)
            shown = [v[i] if v is not None and 0 <= i < len(v) else none for i, v in zip(firsts, of_posts)]
            values = shown if form == "words" else np.array(shown, dtype=np.float64)
            yield View(f"{column.name} -> {name}", "of the first", "content", form, values)


def _without(text: str, mentions: tuple[str, str]) -> str:
    own = {word for mention in mentions for word in words_of(mention.replace("_", " "))}
    return " ".join(word for word in words_of(text.replace("_", " ")) if word not in own)


def _geometry(boxes: list[list[float]] | None) -> np.ndarray:
    """(6,): mean width, height, centre x and y, largest and total area, in pixels."""
    if not boxes:
        return np.full(6, -1.0)
    left, top, right, bottom = np.array(boxes, dtype=np.float64).T
    area = (right - left) * (bottom - top)
    means = [(right - left).mean(), (bottom - top).mean(), (left + right).mean() / 2, (top + bottom).mean() / 2]
    return np.array([*means, area.max(), area.sum()])


def _means(values: list[np.ndarray | None]) -> np.ndarray:
    """(P, F): each vector, or the mean of each list of vectors; zeros where there is none."""
    width = next(value.shape[-1] for value in values if not _is_missing(value))
    return np.stack([np.zeros(width) if _is_missing(v) else v if v.ndim == 1 else v.mean(axis=0) for v in values])


def _padded(rows: list[Any]) -> np.ndarray:
    """(P, up to LISTED): the first numbers of each row, -1 where there is none."""
    width = max(1, min(LISTED, max(len(row or ()) for row in rows)))
    numbers = [[-1.0 if number is None else float(number) for number in list(row or ())[:width]] for row in rows]
    return np.array([row + [-1.0] * (width - len(row)) for row in numbers])


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, np.ndarray)) and len(value) == 0)
