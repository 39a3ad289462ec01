"""MORE, relation extraction between a mention in the sentence and an object in the image, from files got by hand.

The archive: `txt/{train,valid,test}.txt`, `ent_{train,valid,test}_dict.pth` (also looked for in `txt/`),
`rel2id.json`, `img_org/{train,valid,test}/` and optionally `caption_dict.json`. Boxes come as (centre x, centre y,
width, height), each divided by the image's width or height, so that the images are needed to turn them into pixels.

Source: He et al., "MORE: A Multimodal Object-Entity Relation Extraction Dataset with a Benchmark Evaluation", ACM MM
2023.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets

from datasets_scripts.builders.lines import (
    MISSING_IMAGES,
    data_folder,
    first_existing,
    list_images,
    mention_span,
    no_records,
    read_json,
    read_label_file,
    read_literals,
    read_pth,
)
from datasets_scripts.schema import group_into_posts, post_features
from modeling_vmhan.images import image_size


__all__ = ["MORE", "MOREConfig", "relative_to_pixels"]

logger = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # ours: theirs
FIELDS = ("token", "h", "t", "img_id", "relation")
TOLERANCE = 0.01  # of a relative coordinate: detectors round, and some boxes end a hair outside the image

HOW_TO_GET = (
    "MORE is downloaded by hand: get the archive from the Baidu link on the authors' page "
    "(https://github.com/NJUNLP/MORE), unpack it into one folder, so that it holds txt/train.txt, rel2id.json, "
    'ent_train_dict.pth and img_org/train/, and pass it: build(MORE, config_name="more", data_dir="that/folder").'
)


@dataclass
class MOREConfig(datasets.BuilderConfig):
    """What to make of a MORE folder.

    Attributes:
        images: whether to keep the image column. The images are opened either way, since boxes in pixels need them.
        missing_images: what an image that is not there or cannot be opened makes: "error", or "none" (the post without
            boxes, and without an image that is not there; a tail in it points at nothing).
    """

    images: bool = True
    missing_images: str = "error"


class MORE(datasets.GeneratorBasedBuilder):
    """Posts of MORE, whose tails are image objects; use it through `datasets_scripts.builders.building.build`.

    `boxes` are the image's detected objects in the archive's order; a tail that the detector does not have is
    appended,
    for all posts of that image alike.

    Example:
        >>> build(MORE, config_name="more", data_dir="data/more")  # doctest: +SKIP
    """

    BUILDER_CONFIG_CLASS = MOREConfig
    BUILDER_CONFIGS: ClassVar = [
        MOREConfig(
            name="more", version=datasets.Version("1.0.0"), description="MORE: 21 relations and none, 20,264 facts"
        )
    ]

    @classmethod
    def source_files(cls, config: MOREConfig) -> list[Path]:
        """Every file a build with `config` reads; `build` digests their names, sizes and times."""
        folder = data_folder(config.data_dir, how_to_get=HOW_TO_GET)
        files = [folder / "rel2id.json", folder / "caption_dict.json"]
        for split, path in _text_files(folder).items():
            files += [path, *_object_paths(folder, split), *list_images(_image_folder(folder, split)).values()]
        return files

    def _info(self) -> datasets.DatasetInfo:
        if type(self.config.images) is not bool:
            raise ValueError(f"images: expected True or False, received {self.config.images!r}")
        if self.config.missing_images not in MISSING_IMAGES:
            raise ValueError(
                f"missing_images: expected one of {list(MISSING_IMAGES)}, received {self.config.missing_images!r}"
            )
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        labels = _required([folder / "rel2id.json"], what="the labels")
        return datasets.DatasetInfo(
            description=f"{self.config.description}, read from files downloaded by hand",
            homepage="https://github.com/NJUNLP/MORE",
            features=post_features(read_label_file(labels), images=self.config.images, visual_feature_size=None),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        folder = data_folder(self.config.data_dir, how_to_get=HOW_TO_GET)
        text_files = _text_files(folder)
        for split, stem in SPLITS.items():
            if split not in text_files:
                looked_for = folder / "txt" / f"{stem}.txt"
                logger.warning("MORE has no %s split in %s (looked for %s): it is left out", split, folder, looked_for)
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "folder": folder, "path": path})
            for split, path in text_files.items()
        ]

    def _generate_examples(self, split: str, folder: Path, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        posts = group_into_posts(read_facts(path, labels=self.info.features["pairs"].feature["relation"].names))
        if not posts:
            raise no_records(path)
        detected = _read_objects(_required(_object_paths(folder, split), what=f"the objects of {split}"))
        objects = _with_tails(detected, ((image_id, pair) for (_, image_id), pairs in posts.items() for pair in pairs))
        caption_file = folder / "caption_dict.json"
        expected = "one JSON object {image id: {'[OBJi]': caption}}"
        names = read_json(caption_file, expected=expected) if caption_file.is_file() else {}
        for index, ((tokens, image_id), pairs) in enumerate(posts.items()):
            image_path = _image_folder(folder, split) / image_id
            size = self._size(image_path)
            of_image = objects[image_id]
            post = {
                "id": f"{split}-{index}",
                "tokens": list(tokens),
                "image_id": image_id,
                "boxes": [
                    relative_to_pixels(box, size, place=f"image {image_id!r}, object {name!r}")
                    for name, box in of_image.items()
                    if size is not None
                ],
                "object_labels": [
                    str(names.get(image_id, {}).get(name, "")).strip() for name in of_image if size is not None
                ],
                "caption": None,
                "image_phrases": [],
                "pairs": [_as_row(pair, list(of_image)) for pair in pairs],
            }
            if self.config.images:
                post["image"] = str(image_path) if size is not None or image_path.is_file() else None
            yield index, post

    def _size(self, image_path: Path) -> tuple[int, int] | None:
        """As `_image_size`; None for one that may be missing and is."""
        if self.config.missing_images == "error":
            return _image_size(image_path)
        try:
            return _image_size(image_path)
        except (OSError, ValueError):
            return None


def read_facts(path: Path, *, labels: list[str]) -> Iterator[tuple[list[str], str, dict[str, Any]]]:
    """Yield (tokens, image_id, pair) for each line of a MORE text file; `pair["object"]` is the tail's (name, box).

    Raises:
        ValueError: a malformed line or an unknown relation; names file, line and field.
    """
    misnamed: list[str] = []
    for place, record in read_literals(path, fields=FIELDS):
        head, same_name = mention_span(record["h"], record["token"], place=place, field="h")
        misnamed += [] if same_name else [f"{place}, field 'h'"]
        tail = record["t"]
        if not isinstance(tail, dict) or not isinstance(tail.get("name"), str) or not _is_box(tail.get("box")):
            raise ValueError(
                f"{place}, field 't': expected {{'name': '[OBJi]', 'box': (cx, cy, w, h)}}, received {tail!r}"
            )
        if type(record["img_id"]) is not str:
            raise ValueError(f"{place}, field 'img_id': expected a file name, received {record['img_id']!r}")
        if record["relation"] not in labels:
            raise ValueError(
                f"{place}, field 'relation': expected one of {labels} (rel2id.json), received {record['relation']!r}"
            )
        pair = {"head": head, "object": (tail["name"], tuple(tail["box"])), "relation": record["relation"]}
        yield record["token"], record["img_id"], pair
    if misnamed:
        logger.warning("%d mentions are not named as their span reads, the first: %s", len(misnamed), misnamed[0])


def relative_to_pixels(box: Sequence[float], size: tuple[int, int], *, place: str) -> list[float]:
    """A (cx, cy, w, h) box relative to an image of `size` (width, height) as [x0, y0, x1, y1] in pixels, clipped to
    it.

    Raises:
        ValueError: its centre is outside the image, or its width or height is not within (0, 1]; the message begins
            with `place`. Boxes in pixels or of another format end here.
    """
    center_x, center_y, box_width, box_height = box
    longest = 1 + TOLERANCE
    if not (0 <= center_x <= 1 and 0 <= center_y <= 1 and 0 < box_width <= longest and 0 < box_height <= longest):
        raise ValueError(
            f"{place}: expected a box (centre x, centre y, width, height), the centre inside the image, all four "
            f"divided by the image's width or height, received {tuple(box)}"
        )
    relative = [
        center_x - box_width / 2,
        center_y - box_height / 2,
        center_x + box_width / 2,
        center_y + box_height / 2,
    ]
    return [min(max(side, 0.0), 1.0) * length for side, length in zip(relative, (*size, *size), strict=True)]


def _with_tails(
    detected: dict[str, dict[str, tuple[float, ...]]], facts: Iterable[tuple[str, dict[str, Any]]]
) -> dict[str, dict[str, tuple[float, ...]]]:
    """{image id: {'[OBJi]': box}}: the detected objects, then the tails that are not among them by name.

    Tails of all posts of an image are gathered first: its boxes are a function of the image, never of the post.
    """
    objects = {image_id: dict(boxes) for image_id, boxes in detected.items()}
    appended, moved = [], []
    for image_id, pair in facts:
        name, box = pair["object"]
        of_image = objects.setdefault(image_id, {})
        if name not in of_image:
            appended.append(f"{name} of {image_id}")
        elif not all(math.isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(of_image[name], box, strict=True)):
            moved.append(f"{name} of {image_id}")
        of_image.setdefault(name, box)
    if appended:
        logger.warning("%d tails are no detected object and were appended, the first: %s", len(appended), appended[0])
    if moved:
        logger.warning(
            "%d tails have another box than the object of their name, whose box was kept, the first: %s",
            len(moved),
            moved[0],
        )
    return objects


def _as_row(pair: dict[str, Any], object_names: list[str]) -> dict[str, Any]:
    return {
        "head": pair["head"],
        "tail": [],
        "tail_object": object_names.index(pair["object"][0]),
        "relation": pair["relation"],
        "text_phrases": [],
        "image_phrases": [],
        "objects": [],
    }


def _read_objects(path: Path) -> dict[str, dict[str, tuple[float, ...]]]:
    """The {image id: {'[OBJi]': (cx, cy, w, h)}} of a .pth file, loaded without running any code of it."""
    objects = read_pth(path)
    for image_id, boxes in objects.items() if isinstance(objects, dict) else [("the file", objects)]:
        if not isinstance(boxes, dict) or not all(_is_box(box) for box in boxes.values()):
            raise ValueError(
                f"{path}, {image_id}: expected {{image id: {{'[OBJi]': (cx, cy, w, h)}}}}, received {boxes!r}"
            )
    return {image_id: {name: tuple(box) for name, box in boxes.items()} for image_id, boxes in objects.items()}


def _is_box(box: Any) -> bool:
    return isinstance(box, (tuple, list)) and len(box) == 4 and all(type(side) in (int, float) for side in box)


def _image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, from the file's header."""
    try:
        return image_size(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"img_id: expected the image {path}, which is not there; boxes in pixels need its size. {HOW_TO_GET}"
        ) from None


def _text_files(folder: Path) -> dict[str, Path]:
    """{split: path} of the splits that are there; FileNotFoundError if none is."""
    paths = {split: folder / "txt" / f"{stem}.txt" for split, stem in SPLITS.items()}
    found = {split: path for split, path in paths.items() if path.is_file()}
    if not found:
        looked_for = ", ".join(map(str, paths.values()))
        raise FileNotFoundError(f"data_dir: {folder} has no split of MORE, looked for {looked_for}. {HOW_TO_GET}")
    return found


def _object_paths(folder: Path, split: str) -> list[Path]:
    name = f"ent_{SPLITS[split]}_dict.pth"
    return [folder / name, folder / "txt" / name]


def _image_folder(folder: Path, split: str) -> Path:
    return folder / "img_org" / SPLITS[split]


def _required(paths: list[Path], *, what: str) -> Path:
    path = first_existing(paths)
    if path is None:
        raise FileNotFoundError(f"expected {what} in {' or '.join(map(str, paths))}, found no file. {HOW_TO_GET}")
    return path
