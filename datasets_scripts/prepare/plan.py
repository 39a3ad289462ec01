"""What a preparation has to do, cut into shards: everything a process needs to make any of them.

Work goes to `.NAME.prepare/FINGERPRINT/` beside the output folder NAME. The fingerprint covers code, inputs, options
and versions, so that a shard that is there was made from the same of all: it is never made again, and never reused
for another data set.
"""

import hashlib
import importlib.metadata
import json
import math
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from datasets_scripts.builders.building import code_digest
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.source import ImageIndex, Source, index_images
from datasets_scripts.prepare.tools import Tools
from datasets_scripts.registry import BUILDERS
from datasets_scripts.schema import post_features


__all__ = ["IMAGES_A_SHARD", "Plan", "device_type", "make_plan", "work_folder"]

IMAGES_A_SHARD = 64
PACKAGES = ("datasets", "numpy", "pillow", "pyarrow", "torch", "torchvision", "transformers")


@dataclass(frozen=True)
class Plan:
    """One preparation.

    Attributes:
        arguments, source, images: as they were read.
        provenance: what made the data set, JSON-able, without any path, host or time.
        columns: of the data set to write.
        folder: where this plan's shards go.
        images_a_shard: how many images are computed and kept together.
    """

    arguments: PrepareArguments
    source: Source
    images: ImageIndex
    provenance: dict[str, Any]
    columns: datasets.Features
    folder: Path
    images_a_shard: int

    @property
    def fingerprint(self) -> str:
        return self.provenance["fingerprint"]

    @property
    def has_features(self) -> bool:
        return "image_features" in self.columns

    def image_shards(self) -> list[range]:
        """Numbers of the images of each shard."""
        return _cut(len(self.images.uses), self.images_a_shard)

    def post_shards(self, split: str) -> list[range]:
        """Rows of the source's split of each shard."""
        return _cut(len(self.source.posts[split]), self.arguments.shard_size)

    def image_file(self, shard: int) -> Path:
        return self.folder / f"images-{shard:05d}.arrow"

    def post_file(self, split: str, shard: int) -> Path:
        return self.folder / f"posts-{split}-{shard:05d}.parquet"

    def skipped_file(self, split: str, shard: int) -> Path:
        """Of this post shard: a line of JSON for each image or post left out, and why."""
        return self.folder / f"skipped-{split}-{shard:05d}.jsonl"

    def empty_file(self, split: str, shard: int) -> Path:
        """Of this post shard: a line of JSON for each kind of node of a pair that stayed empty, and why."""
        return self.folder / f"empty-{split}-{shard:05d}.jsonl"


def work_folder(output_dir: Path) -> Path:
    return output_dir.parent / f".{output_dir.name}.prepare"


def make_plan(arguments: PrepareArguments, source: Source, tools: Tools) -> Plan:
    """Counts the images, hashes everything and decides the columns.

    Raises:
        ValueError: a detector or encoder, but no image; detection in the place of boxes that tails refer to; one
            image with two lists of boxes.
    """
    images = index_images(source.posts)
    _check_tools(arguments, source, images, tools)
    columns = post_features(
        source.labels,
        images=arguments.embed_images and "image" in source.info.features,
        visual_feature_size=tools.feature_size,
    )
    provenance = {
        "command": arguments.command(),
        "options": arguments.options(),
        "inputs": {"files": source.files, "images": {"count": len(images.uses), "sha256": images.digest}},
        "left_out": source.left_out,
        **tools.descriptions,
        "code": _code(arguments, tools),
        "versions": _versions(),
        "device": device_type(),
    }
    text = json.dumps(provenance, sort_keys=True)
    provenance = {"fingerprint": hashlib.sha256(text.encode()).hexdigest(), **provenance}
    folder = work_folder(Path(arguments.output_dir).expanduser().resolve()) / provenance["fingerprint"][:16]
    return Plan(arguments, source, images, provenance, columns, folder, IMAGES_A_SHARD)


def _check_tools(arguments: PrepareArguments, source: Source, images: ImageIndex, tools: Tools) -> None:
    wanted = [name for name in ("detector", "features") if tools.descriptions[name] is not None]
    if wanted and not images.uses:
        raise ValueError(
            f"{wanted[0]}: expected posts with images, found none. Put the images where the source looks for them, or "
            "leave this option out"
        )
    if arguments.redetect:
        if tools.detector is None:
            raise ValueError("redetect: expected a detector to detect with, received detector='none'. Name one")
        for rows in source.posts.values():
            if any(pair["tail_object"] >= 0 for pairs in rows["pairs"] for pair in pairs):
                raise ValueError(
                    f"redetect: expected tails in the sentence, received tails that are boxes of the source "
                    f"({arguments.source}). Leave this option out: its boxes are needed"
                )


def _code(arguments: PrepareArguments, tools: Tools) -> str:
    """Digest of the source of the builder, of all that prepares, and of the files that drive the tools."""
    used = [type(tool).__module__ for tool in (tools.detector, tools.selector, tools.extractor) if tool is not None]
    return code_digest([BUILDERS[arguments.source].module, "datasets_scripts.prepare.command", *used])


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def device_type() -> str:
    """Features of one kind of device are not mixed with those of another: they differ in the last digits."""
    torch = sys.modules.get("torch")  # what was not imported computes nothing
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _cut(count: int, size: int) -> list[range]:
    return [range(i * size, min((i + 1) * size, count)) for i in range(math.ceil(count / size))]
