"""What a preparation has to do, cut into shards, and the tools for it: detector, node selector and visual encoder.

The work goes to `.NAME.prepare/FINGERPRINT/` beside the output folder NAME. The fingerprint covers code, inputs,
options and versions, so a shard that is there is never made again, and never used for another data set.
"""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ParquetWriter

from datasets_scripts.builders.building import code_digest
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.source import Source
from datasets_scripts.registry import BUILDERS
from datasets_scripts.schema import has_text, post_features
from model_cards.files import sha256_of
from model_cards.secrets import without_secrets


__all__ = [
    "Plan", "Shard", "Tools", "digests", "is_whole", "json_lines", "make_plan", "make_tools", "work_folder",
    "write_parquet",
]  # fmt: skip

IMAGES_A_SHARD = 64
ROWS_A_GROUP = 100  # of Parquet: what a reader fetches at a time
PACKAGES = ("datasets", "numpy", "pillow", "pyarrow", "torch", "torchvision", "transformers")


@dataclass(frozen=True)
class Tools:
    """What is run over images and posts, None where nothing is: a `datasets_scripts.detection.base.Detector`, a
    `nodes.selection.NodeSelector`, a `features.VisualFeatureExtractor` and a `depth.DepthEstimator`.
    """

    detector: Any = None
    selector: Any = None
    extractor: Any = None
    depth: Any = None

    @property
    def descriptions(self) -> dict[str, Any]:
        """Say what each tool is, for provenance.json; None where there is none."""
        tools = {"detector": self.detector, "selector": self.selector, "features": self.extractor, "depth": self.depth}
        return {name: tool and tool.description for name, tool in tools.items()}


@dataclass(frozen=True)
class Shard:
    """A file to make, of these rows of `split`, or, where that is None, of the images with these numbers.

    The log of a shard of posts has a line of JSON for whatever was left out.
    """

    file: Path
    rows: range
    split: str | None = None
    log: Path | None = None

    @property
    def seal(self) -> Path:
        """The file with the SHA-256 of the shard and its log, which is there before the shard takes its name."""
        return (self.log or self.file).with_suffix(".sha256")


@dataclass(frozen=True)
class Plan:
    """One preparation."""

    arguments: PrepareArguments
    source: Source
    provenance: dict[str, Any]  # what makes the data set, JSON-able, without any path, host or time
    columns: datasets.Features  # of the data set to write
    folder: Path  # the work folder, in whose folder "finished" the data set folder grows
    shards: dict[str, list[Shard]]  # of "images" and of "posts", in order

    @property
    def finished(self) -> Path:
        return self.folder / "finished"


def make_tools(arguments: PrepareArguments, device: str | None) -> Tools:
    """Make the tools that `arguments` name, on `device` (None: each chooses); no other tool is imported."""
    on_device = {"device": device} if device else {}
    detector = selector = extractor = depth = None
    if arguments.detector != "none":
        from datasets_scripts.detection.detectors import make_detector

        detector = make_detector(arguments.detector, **{**on_device, **arguments.detector_settings()})
    if arguments.selector != "none":
        from datasets_scripts.nodes.selection import make_selector

        options = on_device if arguments.selector.startswith("transformers:") else {}
        selector = make_selector(arguments.selector, **{**options, **arguments.parsed("selector_options")})
    if arguments.features is not None:
        from datasets_scripts.features import VisualFeatureExtractor

        options = {**on_device, **arguments.parsed("feature_options")}
        extractor = VisualFeatureExtractor.from_spec(arguments.features, **options)
    if arguments.depth is not None:
        from datasets_scripts.depth import DepthEstimator

        depth = DepthEstimator(arguments.depth, device)
    return Tools(detector, selector, extractor, depth)


def work_folder(output_dir: Path) -> Path:
    return output_dir.parent / f".{output_dir.name}.prepare"


def make_plan(arguments: PrepareArguments, source: Source, tools: Tools, output_dir: Path) -> Plan:
    """Hash everything, decide the columns and cut the work into shards; a tool for images needs some."""
    for name in ("detector", "features", "depth"):
        if tools.descriptions[name] is not None and not source.uses:
            raise ValueError(
                f"{name}: expected posts with images, found none. Put the images where the source looks for them, or "
                "leave this option out"
            )
    columns = post_features(
        source.labels,
        images=arguments.embed_images and "image" in source.info.features,
        visual_feature_size=tools.extractor and tools.extractor.feature_size,
        depth_size=tools.depth and tools.depth.depth_size,
        object_scores=tools.detector is not None or "object_scores" in source.info.features,
    )
    if not any(map(has_text, source.posts.values())):
        del columns["text"]
    made_by = (tools.detector, tools.selector, tools.extractor, tools.depth)
    used = [type(tool).__module__ for tool in made_by if tool is not None]
    provenance = {
        "command": without_secrets(arguments.command()),
        "options": without_secrets(arguments.options()),
        "inputs": {"files": source.files, "images": {"count": len(source.uses), "sha256": source.digest}},
        **without_secrets(tools.descriptions),
        "code": code_digest([BUILDERS[arguments.source].module, "datasets_scripts.prepare.command", *used]),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    fingerprint = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()
    folder = work_folder(output_dir) / fingerprint[:16]
    cut = enumerate(_cut(len(source.uses), IMAGES_A_SHARD))
    shards = {"images": [Shard(folder / f"images-{i:05d}.parquet", rows) for i, rows in cut], "posts": []}
    for split, posts in source.posts.items():
        cut = _cut(len(posts), arguments.shard_size)
        for i, rows in enumerate(cut):
            file = folder / "finished" / arguments.config / f"{split}-{i:05d}-of-{len(cut):05d}.parquet"
            shards["posts"].append(Shard(file, rows, split, folder / f"{split}-{i:05d}.jsonl"))
    return Plan(arguments, source, {"fingerprint": fingerprint, **provenance}, columns, folder, shards)


def digests(shard: Shard, file: Path) -> str:
    """What the seal of a shard has to say, whose content `file` holds."""
    return "".join(f"{sha256_of(path)}\n" for path in (file, shard.log) if path is not None)


def is_whole(shard: Shard) -> bool:
    """Tell whether the shard is there as it was made."""
    try:
        return shard.seal.read_text(encoding="ascii") == digests(shard, shard.file)
    except (OSError, UnicodeDecodeError):
        return False


def write_parquet(path: Path, columns: datasets.Features, rows: Iterable[dict[str, Any]]) -> None:
    """Write the cells that `columns` names of each row."""
    with ParquetWriter(path=str(path), features=columns, writer_batch_size=ROWS_A_GROUP) as writer:
        for row in rows:
            writer.write({name: row[name] for name in columns})
        writer.finalize()


def json_lines(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _cut(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
