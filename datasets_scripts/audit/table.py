"""What the audit looks at: the pairs of one split, their labels, and every field of theirs that is not text.

P is the number of pairs. Text is the sentence, the mentions of the pair, and what is counted from the sentence alone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_scripts.builders.mnre import read_facts
from datasets_scripts.builders.published import read_line_file
from modeling_vmhan.hyperedges import PAIR_FAMILIES
from modeling_vmhan.images import open_image
from modeling_vmhan.labels import find_none_label


__all__ = ["Column", "ImageShape", "PairTable", "table_of_files", "table_of_split"]

TEXT_COLUMNS = ("tokens", "text", "length", "pairs", "hypergraph")
TEXT_PAIR_FIELDS = ("head", "tail", "relation")
LONG_VECTOR = 16  # numbers a row above which a column holds feature vectors
PROJECTED = 48  # numbers that stand for a feature vector: enough for a linear probe to read large leaks from


class ImageShape(NamedTuple):
    """What an image file's header tells."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Column:
    """One field of P pairs; a "post" field is given once a post and repeated here for its pairs.

    A value is what `datasets` gives, but an image is an ImageShape, a feature vector an array (F,), a list of them (n,
    F).
    """

    name: str
    level: Literal["post", "pair"]
    values: list[Any]


@dataclass(frozen=True)
class PairTable:
    """P pairs: `relation` (P,) are ids into `labels`, `post` (P,) the numbers of their posts, in the data's order.

    `spans` are where head and tail stand, a tail that is an image object is (index,); `mentions` are their words.
    """

    labels: list[str]
    none_label: str
    relation: np.ndarray
    post: np.ndarray
    sentences: list[tuple[str, ...]]
    images: list[str | None]
    mentions: list[tuple[str, str]]
    spans: list[tuple[tuple[int, ...], tuple[int, ...]]]
    columns: list[Column]

    @classmethod
    def of_pairs(
        cls,
        facts: list[tuple[list[str], str | None, dict[str, Any]]],
        *,
        labels: list[str],
        post: Any,
        columns: list[Column],
    ) -> "PairTable":
        """From (tokens, image id, pair); a pair's relation is a label or its id."""
        ids = {label: i for i, label in enumerate(labels)}
        sentences = [tuple(tokens) for tokens, _, _ in facts]
        spans = [
            (tuple(pair["head"]), tuple(pair["tail"] or ()) or (pair.get("tail_object", -1),)) for _, _, pair in facts
        ]
        return cls(
            labels=labels,
            none_label=find_none_label(labels),
            relation=np.array([ids.get(pair["relation"], pair["relation"]) for _, _, pair in facts]),
            post=np.array(post),
            sentences=sentences,
            images=[image or None for _, image, _ in facts],
            mentions=[(_words(h, sentence), _words(t, sentence)) for (h, t), sentence in zip(spans, sentences)],
            spans=spans,
            columns=columns,
        )

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def is_positive(self) -> np.ndarray:
        """(P,) bool: the pair has a relation."""
        return self.relation != self.labels.index(self.none_label)


def table_of_split(split: datasets.Dataset) -> PairTable:
    """The pairs of a split of posts; ValueError if it has no tokens, no pairs with relations, or no none label."""
    missing = [name for name in ("tokens", "pairs") if name not in split.column_names]
    if missing:
        raise ValueError(
            f"dataset: expected posts with tokens and pairs (datasets_scripts/schema.py), missing {missing}, received "
            f"the columns {split.column_names}"
        )
    posts = split.select_columns([name for name in ("tokens", "image_id", "pairs") if name in split.column_names])[:]
    images = posts.get("image_id") or [None] * len(split)
    facts = [(*post, pair) for *post, pairs in zip(posts["tokens"], images, posts["pairs"]) for pair in pairs]
    if not facts:
        raise ValueError("dataset: expected at least one entity pair, received none")
    post = [i for i, pairs in enumerate(posts["pairs"]) for _ in pairs]
    columns = [
        Column(name, "post", [values[i] for i in post])
        for name, values in _post_values(split)
        if name not in TEXT_COLUMNS
    ]
    names = dict.fromkeys(name for _, _, pair in facts for name in pair if name not in TEXT_PAIR_FIELDS)
    columns += [Column(f"pairs.{name}", "pair", [pair.get(name) for _, _, pair in facts]) for name in names]
    if "hypergraph" in split.column_names:
        columns += _columns_of_hyperedges(split["hypergraph"][:], posts["pairs"])
    place = [(len(pairs), index) for pairs in posts["pairs"] for index in range(len(pairs))]
    columns += [Column("row of the post", "post", post), Column("pairs of the post", "pair", place)]
    columns += _columns_of_places(facts, post)
    return PairTable.of_pairs(facts, labels=_labels(split, facts), post=post, columns=columns)


def table_of_files(auxiliary: list[Path], annotations: Path) -> PairTable:
    """The lines of an MNRE text file with what files keyed by its lines say of each; errors are those of reading."""
    facts = list(read_facts(annotations, labels=None))
    numbers: dict[tuple[tuple[str, ...], str], int] = {}
    post = [numbers.setdefault((tuple(tokens), image), len(numbers)) for tokens, image, _ in facts]
    labels = sorted({pair["relation"] for _, _, pair in facts})
    columns = [Column(path.name, "pair", read_line_file(path, len(facts))) for path in auxiliary]
    return PairTable.of_pairs(facts, labels=labels, post=post, columns=columns)


def _columns_of_hyperedges(hypergraphs: list[dict[str, Any] | None], pairs: list[list[Any]]) -> Iterator[Column]:
    """How many nodes each hyperedge of a pair joins, which a data set may have edited by the label."""
    sizes = [[{} for _ in of_post] for of_post in pairs]
    for of_post, hypergraph in zip(sizes, hypergraphs):
        for joined in (hypergraph or {}).get("pair_hyperedges", []):
            of_post[joined["pair"]][joined["family"]] = len(joined["nodes"])
    of_pairs = [of_pair for of_post in sizes for of_pair in of_post]
    yield Column(
        "pairs.hyperedges", "pair", [[of_pair.get(name, 0) for name in PAIR_FAMILIES] for of_pair in of_pairs]
    )


def _columns_of_places(facts: list[tuple[Any, Any, dict[str, Any]]], post: list[int]) -> Iterator[Column]:
    """Where the two mentions of each pair stand, which a data set may have arranged by the label: which one is first,
    and, whichever it is, the words between them, both starts and lengths, and whether the pair stands twice. A tail
    that is an object of the image stands nowhere.
    """
    spans = [(tuple(pair["head"]), tuple(pair["tail"] or ())) for _, _, pair in facts]
    pairs = [(number, *sorted(of_pair)) for number, of_pair in zip(post, spans)]
    count = Counter(pairs)
    orders, distances, places = [], [], []
    for (head, tail), (_, first, second) in zip(spans, pairs):
        orders.append(int(tail < head) if tail else None)
        distances.append((second[0] - first[1],) if tail else None)
        places.append((*first, *second) if tail else None)
    yield Column("mentions: tail first", "pair", orders)
    yield Column("mentions: words between", "pair", distances)
    yield Column("mentions: places", "pair", places)
    yield Column("mentions: pair stands twice", "pair", [int(count[pair] > 1) for pair in pairs])


def _labels(split: datasets.Dataset, facts: list[tuple[Any, Any, dict[str, Any]]]) -> list[str]:
    feature = split.features["pairs"].feature.get("relation")
    if not isinstance(feature, datasets.ClassLabel) or any(pair["relation"] in (None, -1) for _, _, pair in facts):
        raise ValueError("dataset: expected the gold relation of each pair, a ClassLabel, received pairs without")
    return list(feature.names)


def _words(span: tuple[int, ...], tokens: tuple[str, ...]) -> str:
    return " ".join(tokens[slice(*span)]) if len(span) == 2 else f"object {span[0]}"


def _post_values(split: datasets.Dataset) -> Iterator[tuple[str, list[Any]]]:
    """(name, one value a post) of each column; images are not decoded and feature vectors are made small."""
    for name, feature in split.features.items():
        column = split.select_columns(name)
        if isinstance(feature, datasets.Image):
            undecoded = column.cast_column(name, datasets.Image(decode=False))
            yield name, [_image_shape(row[name]) for row in undecoded]
        elif _vector_size(feature):
            yield name, _projected(column, name, _vector_size(feature))
        else:
            yield name, column[:][name]


def _image_shape(stored: dict[str, Any] | None) -> ImageShape | None:
    if stored is None:
        return None
    try:
        image = open_image(stored)
        return ImageShape(*image.size, image.format or "")
    except (OSError, ValueError):
        return ImageShape(0, 0, "unreadable")


def _vector_size(feature: Any) -> int | None:
    """V of a column of vectors (V,) or lists of vectors (n, V), None for any other."""
    while isinstance(feature, datasets.List):
        if feature.length >= LONG_VECTOR:
            return feature.length
        feature = feature.feature
    return None


def _projected(column: datasets.Dataset, name: str, size: int) -> list[np.ndarray | None]:
    """(V,) -> (F,) or (n, V) -> (n, F) by one fixed random projection, which about keeps distances."""
    onto = np.random.default_rng(0).standard_normal((size, PROJECTED)).astype(np.float32) / np.sqrt(PROJECTED)
    nested = isinstance(column.features[name].feature, datasets.List)
    values: list[np.ndarray | None] = []
    for batch in column.with_format("arrow").iter(batch_size=64):  # numpy's format takes ten times as long
        array = batch[name].combine_chunks() if isinstance(batch[name], pa.ChunkedArray) else batch[name]
        counts = [None if n is None else n if nested else 1 for n in pc.list_value_length(array).to_pylist()]
        numbers = array.flatten().flatten() if nested else array.flatten()  # flatten leaves out the rows that are None
        vectors = np.nan_to_num(numbers.to_numpy(zero_copy_only=False).reshape(-1, size).astype(np.float32)) @ onto
        parts = iter(np.split(vectors, np.cumsum([n for n in counts if n is not None])[:-1]))
        of_rows = [None if n is None else next(parts) for n in counts]
        values += [rows if rows is None or nested else rows[0] for rows in of_rows]
    return values
