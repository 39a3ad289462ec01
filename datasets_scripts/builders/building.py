"""Build a data set with a builder class, and never hand back one that stale code or stale files made.

`datasets` keys its cache by module name, config and version only: changed code or data would silently load the old
set. Here the key has a digest of both.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock
from PIL import Image


__all__ = ["build", "builder_config", "code_digest", "visual_feature_description"]

# Packages whose code counts as the builder's own.
OWN_PACKAGES = ("datasets_scripts", "modeling_vmhan")
FEATURE_MODULE = "datasets_scripts.features"
SIDECAR = "visual_features.json"
ROWS_IN_MEMORY = 100  # of visual features, while they are written


def build(
    builder_class: type[datasets.GeneratorBasedBuilder],
    *,
    config_name: str,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    features: str | None = None,
    feature_size_px: int | None = None,
    **config_fields: Any,
) -> datasets.DatasetDict:
    """Build a data set of posts, or load it if the same code built it from the same files before.

    Args:
        builder_class: a builder; its classmethod `source_files(config)`, if it has one, lists the files that count as
            its data, otherwise all of `data_dir` does.
        config_name: one of `builder_class.BUILDER_CONFIGS`.
        data_dir: the user's folder, for builders that read one.
        cache_dir: where built sets are kept; None is the cache of `datasets`.
        features: None, or the encoder and its weights with which to fill `image_features` and `object_features`, such
            as "vgg16:imagenet", "random:0" or "transformers:openai/clip-vit-base-patch32", see
            `datasets_scripts.features.parse_features`. Not a field of the config: `datasets` takes a builder argument
            of this name for the columns.
        feature_size_px: side of the square, in pixels, to which each region is resized for `features`; None is the
            encoder's own.
        config_fields: fields of the builder's config, for example `captions="llava_next"`.

    Raises:
        ValueError: no such config or config field; `features` of a set without any image, of an unreadable image, or
            of an image with different boxes in two posts; whatever the builder finds wrong in the files.
    """
    config = builder_config(builder_class, config_name, data_dir, config_fields)
    builder = builder_class(
        config_name=config_name,
        cache_dir=str(cache_dir) if cache_dir is not None else None,
        hash=digest(builder_class, config, config_fields, cache_dir=cache_dir),
        data_dir=config.data_dir,
        **config_fields,
    )
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, (ValueError, OSError)):  # ours: it names file, line and field
            raise error.__cause__ from None
        raise
    dataset = builder.as_dataset()
    if features is None:
        return dataset
    return _with_visual_features(dataset, Path(builder.cache_dir), spec=features, size=feature_size_px)


def digest(
    builder_class: type, config: datasets.BuilderConfig, config_fields: dict[str, Any], *, cache_dir: str | Path | None
) -> str:
    """16 hexadecimal digits over the builder's source, its own modules, the config and the name, size and time of its
    input files."""
    if hasattr(builder_class, "source_files"):
        files = builder_class.source_files(config)
    else:
        inside = Path(cache_dir).absolute() if cache_dir else None
        everything = Path(config.data_dir).rglob("*") if config.data_dir else ()
        files = [path for path in everything if path.is_file() and (inside is None or inside not in path.parents)]
    parts = [config.name, str(config.version), repr(sorted(config_fields.items()))]
    parts += [code_digest([builder_class.__module__])]
    for path in sorted(files):
        if path.exists():  # a file that is asked for and not there is the builder's error to tell
            parts.append(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}")
    return _short_hash(parts)


def visual_feature_description(dataset: datasets.DatasetDict) -> dict[str, Any] | None:
    """What made the `image_features` of a set that `build` returned (weights, size, versions); None if it has none."""
    for split in dataset.values():
        for line in (split.info.description or "").splitlines():
            if line.startswith(f"{SIDECAR}: "):
                return json.loads(line.removeprefix(f"{SIDECAR}: "))
    return None


def builder_config(
    builder_class: type, config_name: str, data_dir: str | Path | None, config_fields: dict[str, Any]
) -> datasets.BuilderConfig:
    """The config the builder will have, with an absolute `data_dir`, so that the cache does not depend on the cwd."""
    configs = builder_class.builder_configs
    if config_name not in configs:
        raise ValueError(f"config_name: expected one of {sorted(configs)}, received {config_name!r}")
    known = {field.name for field in dataclasses.fields(configs[config_name])} - {"name", "data_dir", "data_files"}
    unknown = sorted(set(config_fields) - known)
    if unknown:
        raise ValueError(f"config_fields: expected some of {sorted(known)}, received {unknown}")
    folder = os.path.abspath(Path(data_dir).expanduser()) if data_dir is not None else None
    return dataclasses.replace(configs[config_name], data_dir=folder, **config_fields)


def code_digest(modules: Iterable[str]) -> str:
    """A hash of the source of `modules` and of all the modules of OWN_PACKAGES they import, directly or not."""
    waiting, sources = list(modules), {}
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        if name in sources or path is None:
            continue
        sources[name] = path.read_text(encoding="utf-8")
        waiting += _imports_of(sources[name], name.rpartition(".")[0])
    return _short_hash(f"{name}\n{source}" for name, source in sorted(sources.items()))


def _module_file(name: str) -> Path | None:
    """The source file of a module, found without importing it; None if it has none (an interactive session)."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.lru_cache(maxsize=256)
def _imports_of(source: str, package: str) -> tuple[str, ...]:
    return tuple(_own_imports(source, package=package))


def _own_imports(source: str, *, package: str) -> Iterator[str]:
    """Names of the modules of OWN_PACKAGES that `source` imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in OWN_PACKAGES)


def _short_hash(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _with_visual_features(
    dataset: datasets.DatasetDict, folder: Path, *, spec: str, size: int | None
) -> datasets.DatasetDict:
    """Add `image_features` (V,) and `object_features` (num_objects, V) to each post.

    The vectors are kept in `folder` apart from the posts, beside SIDECAR, which tells what made them and is written
    last. The network runs once an image, and no more than a batch of vectors is in memory.
    """
    from datasets_scripts.features import VisualFeatureExtractor  # here, as it brings in torchvision

    if not any(_has_images(split) for split in dataset.values()):
        raise ValueError(
            f"features={spec!r}: expected posts with images, found none. Put the images where the builder looks for "
            "them (and do not pass images=False), or build with features=None"
        )
    parts = [spec, str(size), code_digest([FEATURE_MODULE]), *_file_states(Path(spec.partition(":")[2]))]
    place = folder / f"features-{_short_hash(parts)}"
    sidecar = place / SIDECAR
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):  # of several processes the first one makes them
        if not sidecar.is_file():
            extractor = VisualFeatureExtractor.from_spec(spec, size=size)
            for name, split in dataset.items():
                _write_features(split, place / f"{name}.arrow", extractor)
            sidecar.write_text(json.dumps(extractor.description, indent=2) + "\n", encoding="utf-8")
    description = json.loads(sidecar.read_text(encoding="utf-8"))
    for name, split in dataset.items():
        dataset[name] = _join(split, datasets.Dataset.from_file(str(place / f"{name}.arrow")), description)
    return dataset


def _has_images(split: datasets.Dataset) -> bool:
    return "image" in split.column_names and split.data["image"].null_count < len(split)


def _file_states(folder: Path) -> list[str]:
    """Name, size and time of the files of an encoder's own folder; [] if its name is no folder."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]


def _write_features(split: datasets.Dataset, path: Path, extractor: Any) -> None:
    """Write one row of vectors a post to an Arrow file; a post without image gets None and [].

    First one row an image, as the network makes them, then, read back from disk, one a post.
    """
    rows = _first_rows(split)
    vector = datasets.List(datasets.Value("float16"), length=extractor.feature_size)
    columns = datasets.Features({"image_features": vector, "object_features": datasets.List(vector)})
    by_image = path.with_suffix(".images")
    with ArrowWriter(path=str(by_image), features=columns, writer_batch_size=ROWS_IN_MEMORY) as writer:
        for image_features, object_features in extractor.extract(_images_and_boxes(split, rows.values())):
            writer.write({"image_features": image_features, "object_features": list(object_features)})
        writer.write({"image_features": None, "object_features": []})  # what posts without image get
        writer.finalize()
    place = {image_id: index for index, image_id in enumerate(rows)}
    order = [place.get(image_id, len(rows)) for image_id in split["image_id"]]
    vectors = datasets.Dataset.from_file(str(by_image)).with_format("arrow")
    with ArrowWriter(path=str(path), features=columns) as writer:
        for start in range(0, len(order), ROWS_IN_MEMORY):
            writer.write_table(vectors.select(order[start : start + ROWS_IN_MEMORY])[:])
        writer.finalize()
    by_image.unlink()


def _first_rows(split: datasets.Dataset) -> dict[str, int]:
    """{image id: the first row with this image}; ValueError if two posts give one image different boxes."""
    if not _has_images(split):
        return {}
    rows: dict[str, int] = {}
    posts = split.select_columns(["image_id", "boxes"])
    boxes: dict[str, bytes] = {}  # digests: lists of every image would be many
    for row, has_image in enumerate(split.data["image"].is_valid().to_pylist()):
        post = posts[row]
        if has_image:
            rows.setdefault(post["image_id"], row)
            found = hashlib.sha256(repr(post["boxes"]).encode()).digest()
            if boxes.setdefault(post["image_id"], found) != found:
                raise ValueError(
                    f"boxes: expected one list of boxes an image, received two for image {post['image_id']!r}. Visual "
                    "nodes are a function of the image: give all its posts all its boxes"
                )
    return rows


def _images_and_boxes(split: datasets.Dataset, rows: Iterable[int]) -> Iterator[tuple[Image.Image, list[list[float]]]]:
    """Image and boxes of each row, one at a time; an unreadable image or a wrong box is named by the image's id."""
    from modeling_vmhan.images import load_image  # here, as they bring in torch
    from modeling_vmhan.regions import pixel_boxes

    stored = split.select_columns(["image_id", "image", "boxes"]).cast_column("image", datasets.Image(decode=False))
    for row in rows:
        post = stored[row]
        try:
            image = load_image(post["image"]["bytes"] or post["image"]["path"])
            pixel_boxes(post["boxes"], image.size)
        except (OSError, ValueError) as error:
            raise ValueError(f"image {post['image_id']!r}: {error}") from error
        yield image, post["boxes"]


def _join(split: datasets.Dataset, vectors: datasets.Dataset, description: dict[str, Any]) -> datasets.Dataset:
    joined = datasets.concatenate_datasets([split, vectors], axis=1)
    order = []
    for column in split.column_names:
        order += ["image_features"] * (column == "boxes") + ["object_features"] * (column == "caption") + [column]
    joined = joined.select_columns(order)
    joined.info.description = f"{split.info.description}\n{SIDECAR}: {json.dumps(description)}"
    return joined
