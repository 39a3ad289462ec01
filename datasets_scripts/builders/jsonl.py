"""People's own data: a file of sentences a split, and a folder of images.

    my_data/
      train.jsonl  validation.jsonl  test.jsonl     (or .csv; a missing split is left out)
      labels.json                                   (optional: ["None", "works_for", ...] or {"None": 0, ...})
      images/a.jpg ...                              (an image's path is relative to my_data/ or to my_data/images/)

A line of JSONL is a sentence with its image and all its pairs:

    {"text": "Ann met Bob", "image": "a.jpg", "pairs": [{"head": "Ann", "tail": [8, 11], "relation": "peer"}]}

A line of one pair may have head, tail and relation itself. docs/posts.md describes every key. A mention is an exact
string that occurs once in the sentence, or a span [start, end): of characters beside `text`, of tokens beside
`tokens`. How a text becomes tokens is said in `datasets_scripts.builders.mentions`. Boxes are
[x0, y0, x1, y1] in pixels of the image as one sees it, EXIF orientation applied.

A row of CSV is one pair, with the columns text (or tokens), image, head, tail, relation and any other field of a row
or pair; rows of the same sentence and image make one post. In CSV, lists and spans are written as JSON.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import datasets

from datasets_scripts.builders.folders import FolderBuilder, SelectorByRule
from datasets_scripts.builders.jsonl_rows import Pair, Row, post_of_row, with_pairs
from datasets_scripts.builders.lines import no_records, none_label_first, read_label_file
from datasets_scripts.checking import check_config, checked
from datasets_scripts.commands import nearest
from datasets_scripts.leaks import ORDER_BLIND, mark_protocol
from datasets_scripts.paths import inner_file
from datasets_scripts.schema import with_hypergraph
from datasets_scripts.tables import csv_names, csv_rows, json_lines, parse_row, row_values
from model_cards.secrets import without_secrets
from modeling_vmhan.direction import directed_labels, to_text_order
from modeling_vmhan.labels import NONE_LABELS


__all__ = ["Posts", "PostsConfig", "read_labels", "read_posts", "read_rows"]

logger = logging.getLogger(__name__)

LABEL_FILE = "labels.json"
COLUMNS = [name for name in (*Row.model_fields, *Pair.model_fields) if name != "pairs"]


@dataclass
class PostsConfig(datasets.BuilderConfig):
    """What to read of the folder."""

    images: bool = True
    missing_images: Literal["error", "none"] = "error"  # "none": a post whose image is not there has none
    # Pairs in text order, labels with a direction (modeling_vmhan/direction.py), for data whose order of head and tail
    # tells the label, and for questions of people who do not know which mention is the head.
    order_blind: bool = False
    symmetric_relations: list[str] | None = None  # with order_blind: those that point both ways
    selector: SelectorByRule | None = None  # what puts a pair's phrases and objects in order, as for MNRE
    # Pairs that are not listed will be examples of no relation: so no listed one need be.
    unlisted_are_none: bool = False
    file: str | None = None  # of the folder: all posts, as the split train, for `datasets_scripts.splitting`
    image_dir: str | None = None  # where the images are, if not in the folder


class Posts(FolderBuilder):
    """Posts of a folder as described above; use it through `datasets_scripts.builders.building.build`."""

    TITLE = "posts of one's own"
    SPLITS = {"train": "train", "validation": "validation", "test": "test"}
    HOW_TO_GET = (
        "Put train.jsonl (and validation.jsonl, test.jsonl; or .csv) into one folder, images beside them or in "
        'images/, and pass it: build(Posts, config_name="jsonl", data_dir="that/folder").'
    )
    BUILDER_CONFIG_CLASS = PostsConfig
    BUILDER_CONFIGS: ClassVar = [PostsConfig(name="jsonl", version="1.0.0", description="Posts of one's own")]

    @staticmethod
    def text_paths(folder: Path, stem: str) -> list[Path]:
        paths = [folder / f"{stem}.jsonl", folder / f"{stem}.csv"]
        if all(path.is_file() for path in paths):
            raise ValueError(f"data_dir: expected one file of a split, received {' and '.join(map(str, paths))}")
        return paths

    @classmethod
    def source_files(cls, config: PostsConfig) -> list[Path]:
        """Every file that a build with `config` may read; `build` digests their names, sizes and times."""
        folder = cls.data_folder(config.data_dir)
        texts = list(cls._text_files(folder, config).values())
        rows = ((place, row.image) for path in texts for place, row in read_rows(path)) if config.images else ()
        places = {image: place for place, image in rows if image}
        image_dir = cls.data_folder(config.image_dir or folder)
        found = (_image_path(image_dir, image, place) for image, place in sorted(places.items()))
        return [*texts, folder / LABEL_FILE, *filter(None, found)]

    @classmethod
    def _text_files(cls, folder: Path, config: PostsConfig) -> dict[str, Path]:
        """As `text_files`, or the one file that the config names."""
        return cls.text_files(folder) if config.file is None else {"train": folder / config.file}

    def _info(self) -> datasets.DatasetInfo:
        check_config(self.config)
        labels, symmetric = self._labels(), self.config.symmetric_relations or []
        if unknown := [name for name in symmetric if name not in labels or not self.config.order_blind]:
            raise ValueError(
                f"symmetric_relations: expected relations of the data, {labels}, and order_blind=True, received "
                f"{unknown}{nearest(unknown[0], labels)}"
            )
        files = self._text_files(self.folder, self.config).values()
        info = self.new_info(
            directed_labels(labels, symmetric) if self.config.order_blind else labels,
            images=self.config.images,
            object_scores=any(row.object_scores for path in files for _, row in read_rows(path)),
        )
        if self.config.order_blind:
            mark_protocol(info, ORDER_BLIND)
        return info

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        if self.config.file is None:
            return super()._split_generators(dl_manager)
        path = self.folder / self.config.file
        return [datasets.SplitGenerator(name="train", gen_kwargs={"split": path.stem, "path": path})]

    def _labels(self) -> list[str]:
        files = self._text_files(self.folder, self.config)
        return read_labels(self.folder, files, unlisted_are_none=self.config.unlisted_are_none)

    def _generate_examples(self, split: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        symmetric = self.config.symmetric_relations or []
        image_dir = self.data_folder(self.config.image_dir or self.folder)
        for index, (place, post) in enumerate(read_posts(path, labels=self._labels(), split=split)):
            if self.config.order_blind:
                post["pairs"] = [to_text_order(pair, symmetric) for pair in post["pairs"]]
            if self.config.images:
                image_path = _image_path(image_dir, post["image_id"], place)
                if post["image_id"] and image_path is None and self.config.missing_images == "error":
                    raise ValueError(
                        f"{place}, field 'image': expected a file in {image_dir} or its images/, received "
                        f"{without_secrets(post['image_id'])!r}, which is in neither. Put it there, or leave it out"
                    )
                post["image"] = str(image_path) if image_path else None
            if "object_scores" not in self.info.features:
                del post["object_scores"]
            yield index, with_hypergraph(self.with_nodes(post))


def read_posts(path: Path, *, labels: list[str], split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, post) for each post of a .jsonl or .csv file; a post without `id` gets "SPLIT-INDEX".

    A ValueError names file, line, field and fix of a malformed row, or both places of two posts of one id.
    """
    rows = ((place, post_of_row(row, place=place, labels=labels)) for place, row in read_rows(path))
    places: dict[str, str] = {}
    for index, (place, post) in enumerate(rows if path.suffix == ".jsonl" else _joined(rows)):
        post["id"] = f"{split}-{index}" if post["id"] is None else post["id"]
        if post["id"] in places:
            raise ValueError(
                f"{place}, field 'id': expected an id of its own, received {post['id']!r}, which {places[post['id']]} "
                "has already. Rename one, or leave the field out of all rows"
            )
        places[post["id"]] = place
        yield place, post


def read_labels(
    folder: Path, files: Mapping[str, Path] | None = None, *, unlisted_are_none: bool = False
) -> list[str]:
    """The relations, order = id: those of labels.json; else those of all rows, the none label first, then by name.
    Rows are those of `files`, by split; left out, of the folder's. With `unlisted_are_none` rows that have none of
    `NONE_LABELS` get the first one.

    ValueError if labels.json is malformed, or there is not exactly one none label.
    """
    path = folder / LABEL_FILE
    if path.is_file():
        labels, source = read_label_file(path), str(path)
    else:
        files = Posts.text_files(folder) if files is None else files
        seen = {
            split: {pair.relation for _, row in read_rows(file) for pair in row.pairs} for split, file in files.items()
        }
        labels, source = sorted(set().union(*seen.values())), f"the rows of {folder}"
        if "train" in seen and (untrained := sorted(set(labels) - seen["train"])):
            logger.warning("%s: relations that no training pair has, perhaps misspelt: %s", folder, untrained)
        if unlisted_are_none and not set(labels) & set(NONE_LABELS):
            labels = [NONE_LABELS[0], *labels]
            logger.warning("%s: no pair is labelled as without a relation: %r is that label", folder, NONE_LABELS[0])
    try:
        none_first = none_label_first(labels)
    except ValueError as error:
        raise ValueError(f"{source}: {error} Label the pairs without a relation so, or write {path}") from None
    return labels if path.is_file() else none_first


def _joined(rows: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Posts of one pair joined by sentence and image, in order of first appearance."""
    posts: dict[tuple[str | None, tuple[str, ...], str | None], tuple[str, dict[str, Any]]] = {}
    for place, post in rows:
        sentence = post["text"], tuple(post["tokens"]), post["image_id"]
        first_place, first = posts.setdefault(sentence, (place, post))
        if first is post:
            continue
        for field in post.keys() - {"pairs"}:
            if post[field] != first[field]:
                raise ValueError(
                    f"{place}, field {field!r}: expected what {first_place} has for the same sentence and image, "
                    f"{first[field]!r}, received {post[field]!r}"
                )
        first["pairs"] += post["pairs"]
    yield from posts.values()


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of each row of a file; a row of CSV is a row of JSONL with one pair."""
    place = None
    for place, row in _json_rows(path) if path.suffix == ".jsonl" else _csv_rows(path):
        yield place, checked(Row, row, place)
    if place is None:
        raise no_records(path)


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in json_lines(path):
        try:
            row = parse_row(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        yield f"{path}, line {number}", with_pairs(row, f"{path}, line {number}")


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in csv_names(path):
        if name not in COLUMNS:
            raise ValueError(
                f"{path}, line 1: expected columns among {COLUMNS}, received {name!r}{nearest(name, COLUMNS)}"
            )
    for number, row in csv_rows(path):
        place = f"{path}, line {number}"
        try:
            values = row_values(row)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        yield place, with_pairs(values, place)


def _image_path(folder: Path, image: str | None, place: str) -> Path | None:
    places = [folder, folder / "images"]
    return inner_file(f"{place}, field 'image'", image, places, inside=folder) if image else None
