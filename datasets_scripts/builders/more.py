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
from typing import Any, ClassVar, Literal

import datasets

from datasets_scripts.builders.folders import BoxMention, FolderBuilder, SelectorByRule, TextFact, read_facts
from datasets_scripts.builders.lines import list_images, read_json, read_label_file, read_pth
from datasets_scripts.checking import Box, check_config
from datasets_scripts.paths import inner_file
from datasets_scripts.schema import group_into_posts, new_post, with_hypergraph
from modeling_vmhan.images import image_size


__all__ = ["MORE", "MOREConfig", "ObjectFact", "relative_to_pixels"]

logger = logging.getLogger(__name__)

TOLERANCE = 0.01  # of a relative coordinate: detectors round, and some boxes end a hair outside the image
Objects = dict[str, dict[str, Sequence[float]]]  # {image id: {"[OBJi]": (centre x, centre y, width, height)}}


@dataclass
class MOREConfig(datasets.BuilderConfig):
    """What to make of a MORE folder."""

    images: bool = True  # False leaves out the column; they are opened nevertheless, as boxes in pixels need them
    # What becomes of one that is not there or cannot be opened; "none": the post has no boxes, and no image if it is
    # not there, and a tail in it points at nothing.
    missing_images: Literal["error", "none"] = "error"
    selector: SelectorByRule | None = None  # what puts a pair's phrases and objects in order, as for MNRE
    order_blind: bool = False  # refused: a tail is an object of the image, so no mention stands first


class ObjectFact(TextFact):
    """A line of MORE: the tail is an object of the image."""

    t: BoxMention
    img_id: str


class MORE(FolderBuilder):
    """Posts of MORE, whose tails are image objects; use it through `datasets_scripts.builders.building.build`.

    `boxes` are the image's detected objects in the archive's order, then tails that are not among them, for all posts
    of the image alike.
    """

    TITLE = "MORE"
    SPLITS = {"train": "train", "validation": "valid", "test": "test"}
    HOW_TO_GET = (
        "MORE is downloaded by hand: get the archive from the Baidu link on the authors' page "
        "(https://github.com/NJUNLP/MORE), unpack it into one folder, so that it holds txt/train.txt, rel2id.json, "
        'ent_train_dict.pth and img_org/train/, and pass it: build(MORE, config_name="more", data_dir="that/folder").'
    )
    BUILDER_CONFIG_CLASS = MOREConfig
    BUILDER_CONFIGS: ClassVar = [
        MOREConfig(name="more", version="1.0.0", description="MORE: 21 relations and none, 20,264 facts")
    ]

    @staticmethod
    def text_paths(folder: Path, stem: str) -> list[Path]:
        return [folder / "txt" / f"{stem}.txt"]

    @classmethod
    def object_paths(cls, folder: Path, split: str) -> list[Path]:
        name = f"ent_{cls.SPLITS[split]}_dict.pth"
        return [folder / name, folder / "txt" / name]

    @classmethod
    def source_files(cls, config: MOREConfig) -> list[Path]:
        """Every file that a build with `config` reads; `build` digests their names, sizes and times."""
        folder = cls.data_folder(config.data_dir)
        files = [folder / "rel2id.json", folder / "caption_dict.json"]
        for split, path in cls.text_files(folder).items():
            images = list_images(cls.image_folder(folder, split), inside=folder)
            files += [path, *cls.object_paths(folder, split), *images.values()]
        return files

    def _info(self) -> datasets.DatasetInfo:
        check_config(self.config)
        if self.config.order_blind:
            raise ValueError(
                "order_blind: expected False, received True: a tail of MORE is an object of the image, so a pair has "
                "no text order that could tell its label. Leave the flag out"
            )
        labels = read_label_file(self.required([self.folder / "rel2id.json"], "the labels"))
        return self.new_info(labels, images=self.config.images, homepage="https://github.com/NJUNLP/MORE")

    def _generate_examples(self, split: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        posts = group_into_posts(read_facts(path, labels=self.labels, form=ObjectFact))
        object_file = self.required(self.object_paths(self.folder, split), f"the objects of {split}")
        detected = read_pth(object_file, dict[str, dict[str, Box]])
        objects = _with_tails(detected, ((image_id, pair) for (_, image_id), pairs in posts.items() for pair in pairs))
        caption_file = self.folder / "caption_dict.json"
        captions = read_json(caption_file, dict[str, dict[str, str]]) if caption_file.is_file() else {}
        for index, ((tokens, image_id), pairs) in enumerate(posts.items()):
            place = self.image_folder(self.folder, split)
            image_path = inner_file("img_id", image_id, [place], inside=self.folder) or place / image_id
            size, of_image = self._size(image_path), objects[image_id]
            names = list(of_image)
            for pair in pairs:
                pair["tail_object"] = names.index(pair.pop("object")[0])
            nodes: dict[str, Any] = {}
            if size is not None:
                of_names = captions.get(image_id, {})
                nodes["object_labels"] = [of_names.get(name, "").strip() for name in names]
                nodes["boxes"] = [
                    relative_to_pixels(box, size, place=f"image {image_id!r}, object {name!r}")
                    for name, box in of_image.items()
                ]
            if self.config.images:
                nodes["image"] = str(image_path) if size is not None or image_path.is_file() else None
            post = new_post(f"{split}-{index}", tokens, image_id, pairs, **nodes)
            yield index, with_hypergraph(self.with_nodes(post))

    def _size(self, image_path: Path) -> tuple[int, int] | None:
        """(width, height) in pixels of the upright image; None for one that may be missing and is."""
        try:
            return image_size(image_path)
        except (OSError, ValueError) as error:
            if self.config.missing_images == "none":
                return None
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(f"img_id: expected the image {image_path}. {self.HOW_TO_GET}") from None
            raise


def relative_to_pixels(box: Sequence[float], size: tuple[int, int], *, place: str) -> list[float]:
    """A (cx, cy, w, h) box relative to an image of `size` (width, height) as [x0, y0, x1, y1] in pixels, clipped to
    it. ValueError if its centre is outside the image, or its width or height is not within (0, 1], as of pixels.
    """
    x, y, width, height = box
    longest = 1 + TOLERANCE
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= longest and 0 < height <= longest):
        raise ValueError(
            f"{place}: expected a box (centre x, centre y, width, height), the centre inside the image, all four "
            f"divided by the image's width or height, received {tuple(box)}"
        )
    relative = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return [min(max(side, 0.0), 1.0) * length for side, length in zip(relative, (*size, *size))]


def _with_tails(detected: Objects, facts: Iterable[tuple[str, dict[str, Any]]]) -> Objects:
    """The detected objects, then all missing tails: an image's boxes are a function of the image, never of a post."""
    objects = {image_id: dict(boxes) for image_id, boxes in detected.items()}
    appended, moved = [], []
    for image_id, pair in facts:
        name, box = pair["object"]
        of_image = objects.setdefault(image_id, {})
        if name not in of_image:
            appended.append(f"{name} of {image_id}")
        elif not all(math.isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(of_image[name], box)):
            moved.append(f"{name} of {image_id}")
        of_image.setdefault(name, box)
    for names, what in ((appended, "are no detected object and were appended"), (moved, "have a box of their own")):
        if names:
            logger.warning("%d tails %s, the first: %s", len(names), what, names[0])
    return objects
