"""What a prepared data set says of itself: counts over its Parquet files, and a card whose numbers are those."""

import json
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from datasets_scripts.builders.building import SIDECAR
from datasets_scripts.leaks import leak_status, mark_card, mark_protocol, protocol_of
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.plan import Plan
from datasets_scripts.recipes import mark_recipe, recipe_of, recorded_name, recorded_selector
from datasets_scripts.registry import BUILDERS
from model_cards.cards import TAGS, dataset_card
from model_cards.files import write_text
from model_cards.secrets import without_secrets
from model_cards.tables import code, escape, fence, markdown_table


__all__ = ["count_split", "size_of", "write_card"]

TOOLS = ("detector", "selector", "features", "depth")
TOTALS = (
    "posts", "posts_with_image", "images", "boxes", "pairs", "tokens", "captions", "tail_objects", "text_phrases",
    "image_phrases", "objects",
)  # fmt: skip
COLUMNS = ["id", "tokens", "image_id", "boxes", "object_labels", "caption", "image_phrases", "pairs"]


def write_card(
    plan: Plan, path: Path, splits: dict[str, Any], files: dict[str, list[Path]], figures: dict[str, str]
) -> None:
    """Write README.md of the Parquet `files` of each split, with `splits` as in statistics.json, and `figures` as
    {path inside the folder: what it shows}.
    """
    leaks, info, provenance = leak_status(plan.source.posts), plan.source.info, plan.provenance
    data = _card_data(plan, files)
    texts = {
        "pretty_name": data.pretty_name,
        "config": json.dumps(plan.arguments.config, ensure_ascii=False),
        "splits": splits,
        "relations": _relations_table(plan.source.labels, splits),
        "columns": list(plan.columns),
        "feature_size": plan.columns["image_features"].length if "image_features" in plan.columns else None,
        "max_side": plan.arguments.max_side,
        "description": info.description.splitlines()[0].rstrip(".") + ".",
        "homepage": info.homepage,
        "licence": escape(data.license),
        "inputs": _inputs_table(**provenance["inputs"]),
        "command": fence(provenance["command"], "bash"),
        "tools": {name: provenance[name] and fence(_as_json(provenance[name]), "json") for name in TOOLS},
        "figures": figures,
        "leaks": [" ".join(reason.split()) for reason in leaks],
        "protocol": protocol_of(plan.source.posts),
    }
    write_text(path, str(dataset_card(data, texts)).rstrip() + "\n")
    if leaks:
        mark_card(path, plan.arguments.config, leaks)  # last, as it writes into the YAML


def _recipe(arguments: PrepareArguments) -> dict[str, Any]:
    """What of the recipe this preparation adds to the source's."""
    recipe: dict[str, Any] = {}
    if arguments.selector != "none":
        recipe["selector"] = recorded_selector(arguments.selector)
    if arguments.detector != "none":
        recipe["detector"] = recorded_name(arguments.detector)
        recipe["detector_options"] = without_secrets(arguments.detector_settings())
    return recipe


def _relations_table(labels: list[str], splits: dict[str, Any]) -> str:
    counts = [[str(split["relations"][label]) for split in splits.values()] for label in labels]
    rows = ([str(i), code(label), *numbers] for i, (label, numbers) in enumerate(zip(labels, counts, strict=True)))
    return markdown_table(["id", "relation", *splits], rows)


def _inputs_table(files: list[dict[str, Any]], images: dict[str, Any]) -> str:
    rows = [[code(file["name"]), str(file["bytes"]), code(file["sha256"])] for file in files]
    rows.append([f"{images['count']} distinct images, one digest for all", "", code(images["sha256"])])
    return markdown_table(["input", "bytes", "sha256"], rows)


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def count_split(files: list[Path], labels: list[str], *, without_image: Container[str]) -> dict[str, Any]:
    """Count one split, whose posts with an id in `without_image` have no image, though they may name one: posts,
    pairs, tokens, captions; images (distinct names), their boxes, and posts_with_image; relations {name: pairs, in the
    order of the labels}; pairs_a_post, objects_an_image {number: how often}; object_labels {label: boxes}, most
    frequent first; and, over all pairs, the nodes chosen and tail_objects: tails that are an object.
    """
    total = Counter(dict.fromkeys(TOTALS, 0))
    relations, pairs_a_post, objects_an_image, object_labels = Counter(), Counter(), Counter(), Counter()
    images: set[str] = set()
    batches = (batch for path in files for batch in pq.ParquetFile(path).iter_batches(1000, columns=COLUMNS))
    for post in (post for batch in batches for post in batch.to_pylist()):
        total.update(posts=1, pairs=len(post["pairs"]), tokens=len(post["tokens"]))
        total["captions"] += post["caption"] is not None
        pairs_a_post[len(post["pairs"])] += 1
        if post["image_id"] and post["id"] not in without_image:
            total["posts_with_image"] += 1
            if post["image_id"] not in images:
                images.add(post["image_id"])
                total.update(images=1, boxes=len(post["boxes"]))
                objects_an_image[len(post["boxes"])] += 1
                object_labels.update(label for label in post["object_labels"] if label)
        for pair in post["pairs"]:
            relations[labels[pair["relation"]]] += 1
            total["tail_objects"] += pair["tail_object"] >= 0
            total.update({name: len(pair[name] or []) for name in ("text_phrases", "image_phrases", "objects")})
    return {
        **total,
        "relations": {label: relations[label] for label in labels},
        "pairs_a_post": {str(number): count for number, count in sorted(pairs_a_post.items())},
        "objects_an_image": {str(number): count for number, count in sorted(objects_an_image.items())},
        "object_labels": dict(sorted(object_labels.items(), key=lambda item: (-item[1], item[0]))),
    }


def size_of(files: list[Path]) -> tuple[int, int, int]:
    """Return (rows, bytes when read, bytes on disk) of Parquet files."""
    metadata = [pq.read_metadata(path) for path in files]
    num_bytes = sum(m.row_group(i).total_byte_size for m in metadata for i in range(m.num_row_groups))
    return sum(m.num_rows for m in metadata), num_bytes, sum(path.stat().st_size for path in files)


def _card_data(plan: Plan, files: dict[str, list[Path]]) -> DatasetCardData:
    config, sizes = plan.arguments.config, {split: size_of(paths) for split, paths in files.items()}
    _, read, on_disk = (sum(numbers) for numbers in zip(*sizes.values()))
    data = DatasetCardData(
        license=plan.arguments.license or plan.source.info.license or "unknown",
        task_categories=["text-classification"],
        tags=[*TAGS],
        pretty_name=BUILDERS[plan.arguments.source].title,
    )
    paths = [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in files]
    MetadataConfigs({config: {"data_files": paths, "default": True}}).to_dataset_card_data(data)
    splits = SplitDict()
    for split, (num_examples, num_bytes, _) in sizes.items():
        splits.add(SplitInfo(name=split, num_bytes=num_bytes, num_examples=num_examples))
    info = DatasetInfo(features=plan.columns, splits=splits, download_size=on_disk, dataset_size=read)
    DatasetInfosDict({config: info}).to_dataset_card_data(data)
    # DatasetInfo leaves the description out, and load_dataset reads it; it also says what made the visual features.
    features = plan.provenance["features"]
    made_by = [f"{SIDECAR}: {json.dumps(features)}"] if features else []
    told = DatasetInfo(description="\n".join([plan.source.info.description.splitlines()[0], *made_by]))
    if protocol := protocol_of(plan.source.posts):
        mark_protocol(told, protocol)
    mark_recipe(told, **{**(recipe_of(plan.source.posts) or {}), **_recipe(plan.arguments)})
    data["dataset_info"]["description"] = told.description
    return data
