"""Build a data set with a builder class, and never hand back one that stale code or stale files made: the key of its
cache has a digest of both, where `datasets` has module name, config and version only.
"""

import ast
import dataclasses
import functools
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets.fingerprint import Hasher

from datasets_scripts.schema import post_features


__all__ = ["SIDECAR", "build", "builder_config", "code_digest", "visual_feature_description"]

OWN_PACKAGES = ("datasets_scripts", "modeling_vmhan")  # whose code counts as the builder's own
SIDECAR = "visual_features.json"
IMAGES_AT_ONCE = 64  # whose visual features are in memory


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

    A builder that reads the user's folder, `data_dir`, lists its files in its classmethod `source_files(config)`.
    Built sets are kept in `cache_dir`, or the cache of `datasets`. `features` names the encoder of `image_features`
    and `object_features` (`datasets_scripts.features.parse_features`), `feature_size_px` the side to which it resizes
    a region. `config_fields` are the builder config's, such as `captions="llava_next"`. ValueError for no such config
    or field, no readable image for `features`, or what the builder finds wrong.
    """
    config = builder_config(builder_class, config_name, data_dir, config_fields)
    files = builder_class.source_files(config) if hasattr(builder_class, "source_files") else []
    settings = [config.name, str(config.version), sorted(config_fields.items())]
    builder = builder_class(
        config_name=config_name,
        cache_dir=str(cache_dir) if cache_dir is not None else None,
        hash=Hasher.hash([settings, code_digest([builder_class.__module__]), _states(files)]),
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


def visual_feature_description(dataset: datasets.DatasetDict) -> dict[str, Any] | None:
    """What made the `image_features` of a set that `build` returned (weights, size, versions); None if it has none."""
    lines = [line for split in dataset.values() for line in (split.info.description or "").splitlines()]
    found = [line.removeprefix(f"{SIDECAR}: ") for line in lines if line.startswith(f"{SIDECAR}: ")]
    return json.loads(found[0]) if found else None


def code_digest(modules: Iterable[str]) -> str:
    """A hash of the source of `modules` and of all the modules of OWN_PACKAGES they import, directly or not."""
    waiting, sources = list(modules), {}
    while waiting:
        name = waiting.pop()
        try:
            spec = importlib.util.find_spec(name)  # which does not import the module itself
        except (ImportError, ValueError):
            continue
        if name not in sources and spec and spec.origin and spec.origin.endswith(".py"):
            sources[name] = Path(spec.origin).read_text(encoding="utf-8")
            waiting += _own_imports(sources[name], name.rpartition(".")[0])
    return Hasher.hash(sorted(sources.items()))


@functools.lru_cache(maxsize=256)
def _own_imports(source: str, package: str) -> list[str]:
    """Names of the modules of OWN_PACKAGES that `source` imports, inside functions too."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module or ""]))
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.split(".")[0] in OWN_PACKAGES]


def _states(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of the files that are there; one that is not is the builder's error to tell."""
    states = [(str(path), path.stat()) for path in sorted(files) if path.is_file()]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def _with_visual_features(
    dataset: datasets.DatasetDict, folder: Path, *, spec: str, size: int | None
) -> datasets.DatasetDict:
    """Add `image_features` (V,) and `object_features` (num_objects, V) to each post, by `Dataset.map`, which caches
    them by encoder, weights, size and code. SIDECAR in `folder` keeps what made them, so that no network is loaded for
    them again.
    """
    from datasets_scripts.features import VisualFeatureExtractor  # here, as it brings in torchvision

    if not any(_has_image(split).count(True) for split in dataset.values()):
        raise ValueError(
            f"features={spec!r}: expected posts with images, found none. Put the images where the builder looks for "
            "them (and do not pass images=False), or build with features=None"
        )
    make_extractor = functools.cache(functools.partial(VisualFeatureExtractor.from_spec, spec, size=size))
    encoder_files = Path(spec.removeprefix("transformers:")).rglob("*")  # none if it is no folder
    key = Hasher.hash([str(folder), spec, size, code_digest(["datasets_scripts.features"]), _states(encoder_files)])
    sidecar = folder / f"{key}-{SIDECAR}"
    if not sidecar.is_file():
        temporary = sidecar.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(make_extractor().description, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, sidecar)
    description = json.loads(sidecar.read_text(encoding="utf-8"))
    for name, split in dataset.items():
        dataset[name] = _joined(split, make_extractor, description, fingerprint=Hasher.hash([key, name]))
    return dataset


def _joined(split: datasets.Dataset, make_extractor: Any, description: dict[str, Any], fingerprint: str) -> Any:
    """The split with both columns of features; a post without image gets None and []."""
    rows, order = _distinct_images(split)
    images = split.select(rows).select_columns(["image_id", "image", "boxes"])
    vector = datasets.List(datasets.Value("float16"), length=description["feature_size"])
    vectors = images.cast_column("image", datasets.Image(decode=False)).map(
        lambda batch: _encoded(batch, make_extractor),
        batched=True,
        batch_size=IMAGES_AT_ONCE,
        writer_batch_size=IMAGES_AT_ONCE,
        remove_columns=images.column_names,
        features=datasets.Features({"image_features": vector, "object_features": datasets.List(vector)}),
        new_fingerprint=fingerprint,
        desc="visual features",
    )
    joined = datasets.concatenate_datasets([split, vectors.select(order)], axis=1)
    places = [name for name in post_features(["None"], images=True, visual_feature_size=1) if name in joined.features]
    joined = joined.select_columns([*places, *(name for name in joined.features if name not in places)])
    joined.info.description = f"{split.info.description}\n{SIDECAR}: {json.dumps(description)}"
    return joined


def _has_image(split: datasets.Dataset) -> list[bool]:
    return split.data["image"].is_valid().to_pylist() if "image" in split.column_names else [False] * len(split)


def _distinct_images(split: datasets.Dataset) -> tuple[list[int], list[int]]:
    """The first row of each image (and of posts without one), and for each row the place of its image among these."""
    places: dict[str | None, int] = {}
    rows, order, boxes = [], [], {}  # of boxes the hashes alone, as they are many
    for row, (post, has_image) in enumerate(zip(split.select_columns(["image_id", "boxes"]), _has_image(split))):
        image_id = post["image_id"] if has_image else None
        if image_id not in places:
            rows.append(row)
        order.append(places.setdefault(image_id, len(places)))
        found = hash(str(post["boxes"]))
        if has_image and boxes.setdefault(image_id, found) != found:
            raise ValueError(
                f"boxes: expected one list of boxes an image, received two for image {image_id!r}. Visual nodes are a "
                "function of the image: give all its posts all its boxes"
            )
    return rows, order


def _encoded(batch: dict[str, list[Any]], make_extractor: Any) -> dict[str, list[Any]]:
    """The vectors of a batch of posts; an unreadable image or a wrong box is named by the image's id."""
    from modeling_vmhan.images import load_image  # here, as they bring in torch
    from modeling_vmhan.regions import pixel_boxes

    def images_and_boxes() -> Iterator[tuple[Any, list[list[float]]]]:
        for image_id, stored, boxes in zip(batch["image_id"], batch["image"], batch["boxes"]):
            if stored is not None:
                try:
                    image = load_image(stored["bytes"] or stored["path"])
                    pixel_boxes(boxes, image.size)
                except (OSError, ValueError) as error:
                    raise ValueError(f"image {image_id!r}: {error}") from error
                yield image, boxes

    vectors = make_extractor().extract(images_and_boxes())
    found = [(None, []) if stored is None else next(vectors) for stored in batch["image"]]
    return {"image_features": [one for one, _ in found], "object_features": [list(many) for _, many in found]}
