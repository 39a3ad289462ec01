"""People's own data: a file of sentences a split, and a folder of images.

    my_data/
      train.jsonl  validation.jsonl  test.jsonl     (or .csv; a missing split is left out)
      labels.json                                   (optional: ["None", "works_for", ...] or {"None": 0, ...})
      images/a.jpg ...                              (an image's path is relative to my_data/ or to my_data/images/)

A line of JSONL is a sentence with its image and all its pairs:

    {"text": "Ann met Bob", "image": "a.jpg", "pairs": [{"head": "Ann", "tail": [8, 11], "relation": "peer"}]}

A mention is an exact string that occurs once in the sentence, or a span [start, end): of characters beside `text`, of
tokens beside `tokens`. How a text becomes tokens is said in `datasets_scripts.builders.mentions`. Boxes are [x0, y0, x1, y1] in
pixels of the image as one sees it, EXIF orientation applied.

A row of CSV is one pair, with the columns text (or tokens), image, head, tail, relation and any other field of a row
or pair; rows of the same sentence and image make one post. In CSV, lists and spans are written as JSON.
"""

import csv
import difflib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets

from datasets_scripts.builders.jsonl_rows import PAIR_FIELDS, ROW_FIELDS, parse_row
from datasets_scripts.builders.lines import (
    MISSING_IMAGES,
    data_folder,
    first_existing,
    no_records,
    open_text,
    read_json,
    read_label_file,
)
from datasets_scripts.schema import post_features


__all__ = ["Posts", "PostsConfig", "read_labels", "read_posts"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".csv")
LABEL_FILE = "labels.json"
JSON_COLUMNS = ("tokens", "boxes", "object_labels", "image_phrases", "text_phrases", "objects", "tail_object")

HOW_TO_GET = (
    "Put train.jsonl (and validation.jsonl, test.jsonl; or .csv) into one folder, images beside them or in images/, "
    'and pass it: build(Posts, config_name="jsonl", data_dir="that/folder").'
)


@dataclass
class PostsConfig(datasets.BuilderConfig):
    """What to read of the folder.

    Attributes:
        images: False leaves out the images.
        missing_images: what an image that is not there makes: "error", or "none" (the post without image).
    """

    images: bool = True
    missing_images: str = "error"


class Posts(datasets.GeneratorBasedBuilder):
    """Posts of a folder as described above; use it through `datasets_scripts.builders.building.build`.

    Example:
        >>> build(Posts, config_name="jsonl", data_dir="my_data")  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = PostsConfig
    BUILDER_CONFIGS: ClassVar = [
        PostsConfig(name="jsonl", version=datasets.Version("1.0.0"), description="Posts of one's own")
    ]

    @classmethod
    def source_files(cls, config: PostsConfig) -> list[Path]:
        """Every file a build with `config` may read; `build` digests their names, sizes and times."""
        folder = data_folder(config.data_dir, how_to_get=HOW_TO_GET)
        files = [*_split_files(folder).values(), folder / LABEL_FILE]
        if config.images:
            images = {image for path in _split_files(folder).values() for image in _named_images(path)}
            files += filter(None, (_image_path(folder, image) for image in sorted(images)))
        return files

    def _info(self) -> datasets.DatasetInfo:
        if type(self.config.images) is not bool:
            raise ValueError(f"images: expected True or False, received {self.config.images!r}")
        if self.config.missing_images not in MISSING_IMAGES:
            raise ValueError(
                f"missing_images: expected one of {list(MISSING_IMAGES)}, received {self.config.missing_images!r}"
            )
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        return datasets.DatasetInfo(
            description=f"{self.config.description}, read from JSONL or CSV files",
            features=post_features(read_labels(folder), images=self.config.images, visual_feature_size=None),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "path": path, "folder": folder})
            for split, path in _split_files(folder).items()
        ]

    def _generate_examples(self, split: str, path: Path, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        columns = self.info.features["pairs"].feature
        for index, (place, post) in enumerate(read_posts(path, labels=columns["relation"].names, split=split)):
            post["pairs"] = [{name: pair[name] for name in columns} for pair in post["pairs"]]
            if self.config.images:
                image_path = _image_path(folder, post["image_id"])
                if post["image_id"] and image_path is None and self.config.missing_images == "error":
                    raise ValueError(
                        f"{place}, field 'image': expected a file in {folder} or {folder / 'images'}, received "
                        f"{post['image_id']!r}, which is in neither. Put it there, or leave the field out"
                    )
                post["image"] = str(image_path) if image_path else None
            yield index, post


def read_posts(path: Path, *, labels: list[str], split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, post) for each post of a .jsonl or .csv file; a post without `id` gets "SPLIT-INDEX".

    Raises:
        ValueError: a malformed row, with file, line, field and fix; two posts of one id, with both places.
    """
    posts = _of_lines(path, labels) if path.suffix == ".jsonl" else _of_pairs(path, labels)
    places: dict[str, str] = {}
    for index, (place, post) in enumerate(posts):
        post["id"] = f"{split}-{index}" if post["id"] is None else post["id"]
        if post["id"] in places:
            raise ValueError(
                f"{place}, field 'id': expected an id of its own, received {post['id']!r}, which {places[post['id']]} "
                "has already. Rename one, or leave the field out of all rows"
            )
        places[post["id"]] = place
        yield place, post


def read_labels(folder: Path) -> list[str]:
    """The relations, order = id: those of labels.json; else those of all rows, the none label first, then by name.

    Raises:
        ValueError: labels.json is malformed, or there is not exactly one none label.
    """
    from modeling_vmhan.labels import find_none_label

    path = folder / LABEL_FILE
    if path.is_file():
        labels, source = _label_file(path), str(path)
    else:
        rows = (row for path in _split_files(folder).values() for _, row in _rows(path))
        labels = sorted({str(pair["relation"]) for row in rows for pair in _pairs(row) if "relation" in pair})
        source = f"the rows of {folder}"
    try:
        none_label = find_none_label(labels)
    except ValueError as error:
        raise ValueError(
            f"{source}: expected the relations to have one that means 'no relation', named None, none, NA, "
            f"no_relation or Other, received {labels}. Label such pairs so, or write {folder / LABEL_FILE} with all "
            f"labels ({error})"
        ) from None
    if path.is_file():
        return labels
    return [none_label, *(label for label in labels if label != none_label)]


def _label_file(path: Path) -> list[str]:
    content = read_json(path, expected="one JSON object {relation: id} or a list of relations")
    if not isinstance(content, list):
        return read_label_file(path)
    if not content or not all(isinstance(name, str) for name in content) or len(set(content)) != len(content):
        raise ValueError(f"{path}: expected distinct names of relations, at least one, received {content!r}")
    return content


def _of_lines(path: Path, labels: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, row in _rows(path):
        yield place, parse_row(row, place=place, labels=labels)


def _of_pairs(path: Path, labels: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of one pair joined to posts by sentence and image, in order of first appearance."""
    posts: dict[tuple[tuple[str, ...], str | None], tuple[str, dict[str, Any]]] = {}
    for place, row in _rows(path):
        post = parse_row(row, place=place, labels=labels)
        key = (tuple(post["tokens"]), post["image_id"])
        if key not in posts:
            posts[key] = (place, post)
            continue
        first_place, first = posts[key]
        for field in post.keys() - {"pairs"}:
            if post[field] != first[field]:
                raise ValueError(
                    f"{place}, field {field!r}: expected what {first_place} has for the same sentence and image, "
                    f"{first[field]!r}, received {post[field]!r}"
                )
        first["pairs"] += post["pairs"]
    yield from posts.values()


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of each row, as JSON has it; a row of CSV as a row of JSONL with one pair."""
    place = None
    for place, row in _csv_rows(path) if path.suffix == ".csv" else _json_rows(path):
        yield place, row
    if place is None:
        raise no_records(path)


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"{path}, line {number}: expected one JSON object, received {line.strip()[:80]!r} ({error})"
                    ) from None
                yield f"{path}, line {number}", row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_text(path, newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            _check_header(reader.fieldnames or [], path)
            for cells in reader:
                place = f"{path}, line {reader.line_num}"
                if None in cells or None in cells.values():
                    raise ValueError(
                        f"{place}: expected {len(reader.fieldnames)} cells, one for each of {reader.fieldnames}, "
                        "received another number. Quote cells that hold commas"
                    )
                values = {name: _cell(name, cell, place) for name, cell in cells.items() if cell != ""}
                pair = {name: values.pop(name) for name in PAIR_FIELDS if name in values and name not in ROW_FIELDS}
                yield place, {**values, "pairs": [pair]}
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.reader.line_num}: expected CSV with quoted cells ({error})"
            ) from None


def _check_header(names: Sequence[str], path: Path) -> None:
    known = [name for name in (*ROW_FIELDS, *PAIR_FIELDS) if name != "pairs"]
    for name in names:
        if name not in known or list(names).count(name) > 1:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Rename or remove it"
            raise ValueError(f"{path}, line 1: expected columns among {known}, each once, received {name!r}. {hint}")


def _cell(name: str, cell: str, place: str) -> Any:
    """The value of a cell: JSON where the field is no string, and where a mention is written as a span."""
    is_span = name in ("head", "tail") and cell.startswith("[") and cell.endswith("]")
    if name not in JSON_COLUMNS and not is_span:
        return cell
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        if is_span:  # a mention may well be "[Ann]"
            return cell
        raise ValueError(f"{place}, field {name!r}: expected JSON, received {cell!r}") from None


def _pairs(row: Any) -> list[dict[str, Any]]:
    """A row's pairs as far as they have the right form: the labels are collected before the rows are checked."""
    pairs = row.get("pairs") if isinstance(row, dict) else None
    return [pair for pair in pairs if isinstance(pair, dict)] if isinstance(pairs, list) else []


def _named_images(path: Path) -> Iterator[str]:
    for _, row in _rows(path):
        if isinstance(row, dict) and isinstance(row.get("image"), str) and row["image"]:
            yield row["image"]


def _image_path(folder: Path, image: str | None) -> Path | None:
    return first_existing([folder / image, folder / "images" / image]) if image else None


def _split_files(folder: Path) -> dict[str, Path]:
    """{split: path}; FileNotFoundError if there is none, ValueError if a split has two files."""
    found: dict[str, Path] = {}
    for split in SPLITS:
        paths = [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
        if len(paths) > 1:
            raise ValueError(
                f"data_dir: expected one file of the {split} split, received {' and '.join(map(str, paths))}"
            )
        if paths:
            found[split] = paths[0]
    if not found:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
        raise FileNotFoundError(
            f"data_dir: expected {', '.join(f'{split}.jsonl' for split in SPLITS)} (or .csv) in {folder}, found "
            f"{others or 'none of them'}. {HOW_TO_GET}"
        )
    return found
