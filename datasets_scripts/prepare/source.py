"""The posts that a preparation starts from: built, narrowed down, and the images they show counted once each.

An image is known by its content and its boxes: two posts that show the same file are two uses of one image.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from datasets_scripts.builders.building import build, builder_config
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.image_files import image_content
from datasets_scripts.registry import BUILDERS


__all__ = ["ImageIndex", "Source", "index_images", "open_source"]

logger = logging.getLogger(__name__)

NO_FILE = "the image is not in the source's folder"


@dataclass(frozen=True)
class ImageIndex:
    """Which post shows which image.

    Attributes:
        numbers: {split: the number of each post's image, -1 where it has none}.
        uses: for each number the (split, row) of the posts that show it, in order; the first stands for all.
        digest: of all images, their names included.
    """

    numbers: dict[str, list[int]]
    uses: list[list[tuple[str, int]]]
    digest: str


@dataclass(frozen=True)
class Source:
    """Posts and where they come from.

    Attributes:
        posts: the splits; images are not decoded.
        info: of the builder.
        files: name (relative to data_dir), size and sha256 of every file read but the images.
        left_out: {split: posts left out for want of an image} (`only_with_images`).
    """

    posts: datasets.DatasetDict
    info: datasets.DatasetInfo
    files: list[dict[str, Any]]
    left_out: dict[str, int]

    @functools.cached_property
    def images(self) -> datasets.DatasetDict:
        """The posts' columns about the image itself, made once: each access to a Dataset's columns costs time."""
        return self.posts.select_columns(["id", "image_id", "image", "boxes", "object_labels"])

    @functools.cached_property
    def texts(self) -> datasets.DatasetDict:
        """The posts without their images."""
        return self.posts.remove_columns("image") if "image" in self.info.features else self.posts

    @property
    def labels(self) -> list[str]:
        return self.info.features["pairs"].feature["relation"].names


def open_source(arguments: PrepareArguments, *, cache_dir: Path) -> Source:
    """Build the posts, or load them from `cache_dir`.

    Raises:
        ValueError: whatever the builder finds wrong; no post is left; images are missing and may not be.
    """
    builder_class = BUILDERS[arguments.source].builder_class()
    fields = arguments.builder_fields()
    posts = build(
        builder_class, config_name=arguments.source, data_dir=arguments.data_dir, cache_dir=cache_dir, **fields
    )
    info = next(iter(posts.values())).info
    posts, left_out = _narrowed(posts, arguments)
    if "image" not in info.features:
        logger.warning("the source gives no images: the data set has text only")
    else:
        posts = posts.cast_column("image", datasets.Image(decode=False))
    config = builder_config(builder_class, arguments.source, arguments.data_dir, fields)
    files = builder_class.source_files(config) if hasattr(builder_class, "source_files") else []
    return Source(posts, info, _hashes(files, config.data_dir), left_out)


def index_images(posts: datasets.DatasetDict) -> ImageIndex:
    """Reads each image file once.

    Raises:
        ValueError: one image (by its name in a split) has different boxes in two posts.
    """
    numbers: dict[str, list[int]] = {}
    uses: list[list[tuple[str, int]]] = []
    known: dict[tuple[str, str], int] = {}  # (sha256, boxes): number
    names: set[str] = set()
    for split, rows in posts.items():
        numbers[split] = [-1] * len(rows)
        if "image" not in rows.column_names:
            continue
        boxes_of: dict[str, str] = {}  # by the image's name
        for row, post in enumerate(rows.select_columns(["image_id", "image", "boxes"])):
            if post["image"] is None:
                continue
            boxes = json.dumps(post["boxes"])
            if boxes_of.setdefault(post["image_id"], boxes) != boxes:
                raise ValueError(
                    f"boxes: expected one list of boxes an image, received two for image {post['image_id']!r} of "
                    f"{split}. Visual nodes are a function of the image: give all its posts all its boxes"
                )
            sha = hashlib.sha256(image_content(post["image"])).hexdigest()
            names.add(f"{split}/{post['image_id']} {sha}")
            number = known.setdefault((sha, boxes), len(uses))
            uses += [[]] if number == len(uses) else []
            uses[number].append((split, row))
            numbers[split][row] = number
    return ImageIndex(numbers, uses, hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest())


def _narrowed(posts: datasets.DatasetDict, arguments: PrepareArguments) -> tuple[datasets.DatasetDict, dict[str, int]]:
    """The posts that are asked for, without splits that have none, and how many each split lost for want of an
    image."""
    kept, left_out, missing = datasets.DatasetDict(), {}, []
    for split, rows in posts.items():
        has_image = _has_image(rows)
        wanted = [row for row in range(len(rows)) if has_image[row] or not arguments.only_with_images]
        left_out[split] = len(rows) - len(wanted)
        wanted = wanted[: arguments.max_posts]
        if "image" in rows.column_names:
            names = rows["image_id"]
            missing += [f"{names[row]!r} of {split}" for row in wanted if names[row] and not has_image[row]]
        if wanted:
            kept[split] = rows if len(wanted) == len(rows) else rows.select(wanted)
        else:
            logger.warning("the %s split has no post left: it is left out", split)
    if not kept:
        raise ValueError(
            f"only_with_images: expected a post whose image is there, found none in {sorted(posts)}. Put the images "
            "where the source looks for them, or leave this option out"
        )
    if missing and arguments.on_bad_image == "error":
        raise ValueError(
            f"on_bad_image: {NO_FILE}: {len(missing)} posts, the first {missing[0]}. Put them there, or pass "
            "--on_bad_image skip_image (keep these posts without image), --on_bad_image skip_post (each is listed in "
            "skipped.jsonl) or --only_with_images true"
        )
    return kept, left_out


def _has_image(rows: datasets.Dataset) -> list[bool]:
    if "image" not in rows.column_names:
        return [False] * len(rows)
    return rows.data.column("image").is_valid().to_pylist()


def _hashes(files: Sequence[Path], data_dir: str | None) -> list[dict[str, Any]]:
    """Of the files that are there, images left out (they are hashed as posts show them)."""
    suffixes = Image.registered_extensions()
    found = []
    for path in sorted(path for path in files if path.suffix.lower() not in suffixes and path.is_file()):
        name = path.relative_to(data_dir).as_posix() if data_dir and path.is_relative_to(data_dir) else path.name
        content = path.read_bytes()
        found.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    return found
