"""The posts that a preparation starts from, and the images that they show, each counted once.

An image is known by its content and its boxes: two posts that show the same file are two uses of one image.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from datasets_scripts.builders.building import build, builder_config
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.registry import BUILDERS
from datasets_scripts.splits import differing_splits
from model_cards.files import sha256_of


__all__ = ["NO_FILE", "Source", "image_content", "open_source"]

logger = logging.getLogger(__name__)

NO_FILE = "the image is not in the source's folder"


@dataclass(frozen=True)
class Source:
    """Posts, their images, and where they come from."""

    posts: datasets.DatasetDict  # images are not decoded
    info: datasets.DatasetInfo  # of the builder
    files: list[dict[str, Any]]  # name (relative to data_dir), size and sha256 of those that were read, but images
    numbers: dict[str, list[int]]  # {split: the number of each post's image, -1 where it has none}
    uses: list[list[tuple[str, int]]]  # of each image, (split, row) of its posts in order; the first stands for all
    digest: str  # of all images and their names

    @property
    def labels(self) -> list[str]:
        return self.info.features["pairs"].feature["relation"].names


def open_source(arguments: PrepareArguments, *, cache_dir: Path) -> Source:
    """Build the posts, or load them from `cache_dir`, and read each image file once. A ValueError says what the
    builder finds wrong, that an image is missing and must not be, or that one (by its name in a split) has other boxes
    in another post.
    """
    name, options = arguments.source, arguments.builder_fields()
    builder_class = BUILDERS[name].builder_class()
    config = builder_config(builder_class, name, arguments.data_dir, options)
    posts = build(builder_class, config_name=name, data_dir=arguments.data_dir, cache_dir=cache_dir, **options)
    info = next(iter(posts.values())).info
    for split, rows in posts.items():
        posts[split] = rows.select(range(len(rows))[: arguments.max_posts])
    if "image" in info.features:
        posts = posts.cast_column("image", datasets.Image(decode=False))
    else:
        logger.warning("the source gives no images: the data set has text only")
    for difference in differing_splits(posts):
        logger.warning("%s: %s", arguments.source, difference)
    files = builder_class.source_files(config) if hasattr(builder_class, "source_files") else []
    suffixes = Image.registered_extensions()
    described = []
    for path in sorted(files):
        if path.suffix.lower() not in suffixes and path.is_file():
            is_inside = config.data_dir and path.is_relative_to(config.data_dir)
            name = path.relative_to(config.data_dir).as_posix() if is_inside else path.name
            described.append({"name": name, "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    return Source(posts, info, described, *_index_images(posts, arguments.on_bad_image))


def image_content(image: dict[str, Any]) -> bytes:
    """Return the file's bytes of an undecoded cell {"bytes", "path"} of an image column."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def _index_images(posts: datasets.DatasetDict, on_bad_image: str) -> tuple[dict, list, str]:
    """Return the last three attributes of `Source`."""
    numbers = {split: [-1] * len(rows) for split, rows in posts.items()}
    uses: list[list[tuple[str, int]]] = []
    known: dict[tuple[str, str], int] = {}  # (sha256, boxes): number
    names: set[str] = set()
    for split, rows in posts.items():
        if "image" not in rows.column_names:
            continue
        boxes_of: dict[str, str] = {}  # by the image's name
        for row, post in enumerate(rows.select_columns(["image_id", "image", "boxes"])):
            if post["image"] is None:
                if post["image_id"] and on_bad_image == "error":
                    raise ValueError(
                        f"on_bad_image: {NO_FILE}: {post['image_id']!r} of {split}. Put it there, or pass "
                        "--on_bad_image skip_image (such posts stay, without image) or skip_post (they are left out)"
                    )
                continue
            boxes = json.dumps(post["boxes"])
            if boxes_of.setdefault(post["image_id"], boxes) != boxes:
                raise ValueError(
                    f"boxes: expected one list of boxes an image, received two for image {post['image_id']!r} of "
                    f"{split}. Visual nodes are a function of the image: give all its posts all its boxes"
                )
            sha256 = hashlib.sha256(image_content(post["image"])).hexdigest()
            names.add(f"{split}/{post['image_id']} {sha256}")
            number = known.setdefault((sha256, boxes), len(uses))
            uses += [[]] if number == len(uses) else []
            uses[number].append((split, row))
            numbers[split][row] = number
    return numbers, uses, hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
