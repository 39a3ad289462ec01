"""The data set card: YAML that `load_dataset` reads, and a text whose every number comes from the statistics."""

import json
from pathlib import Path
from typing import Any

from datasets import DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from datasets_scripts.builders.building import SIDECAR
from datasets_scripts.prepare.files import write_text
from datasets_scripts.prepare.plan import Plan
from datasets_scripts.registry import BUILDERS
from model_cards.cards import TAGS, dataset_card


__all__ = ["write_card"]

COLUMNS = {
    "id": "name of the post",
    "tokens": "the sentence; spans are [start, end) over it",
    "image_id": "name of the image",
    "image": "upright RGB; no side above {max_side} pixels",
    "image_features": "{size} numbers (float16) of the whole image; null without image",
    "boxes": "objects of the image, [x0, y0, x1, y1] in its pixels",
    "object_labels": "what the detector or the source calls each",
    "object_features": "{size} numbers (float16) of each object",
    "caption": "a text about the image, where the source has one",
    "image_phrases": "phrases about the image",
    "pairs": "head and tail (spans; or `tail_object`, the index of a box, and no tail), relation, and the nodes "
    "chosen for the pair, best first: `text_phrases` (spans), `objects` and `image_phrases` (indices)",
}
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def write_card(
    plan: Plan,
    path: Path,
    statistics: dict[str, Any],
    sizes: dict[str, tuple[int, int, int]],
    figures: dict[str, str],
) -> None:
    """Write README.md.

    Args:
        statistics: as in statistics.json.
        sizes: {split: (rows, bytes when read, bytes on disk)}.
        figures: {path inside the folder: what it shows}.
    """
    from datasets_scripts.leaks import leak_status, mark_card

    leaks = leak_status(plan.source.posts)
    data = _card_data(plan, sizes)
    card = dataset_card(data, _texts(plan, statistics, figures, leaks))
    write_text(path, str(card).rstrip() + "\n")
    if leaks:
        mark_card(path, plan.arguments.config, leaks)  # last: it writes into the YAML


def _card_data(plan: Plan, sizes: dict[str, tuple[int, int, int]]) -> DatasetCardData:
    arguments, config = plan.arguments, plan.arguments.config
    total = sum(rows for rows, _, _ in sizes.values())
    data = DatasetCardData(
        license=_licence(plan),
        task_categories=["text-classification"],
        tags=[*TAGS],
        size_categories=next((name for limit, name in SIZES if total < limit), "n>1M"),
        pretty_name=BUILDERS[arguments.source].title,
    )
    files = [{"split": name, "path": f"{config}/{name}-*.parquet"} for name in sizes]
    MetadataConfigs({config: {"data_files": files, "default": True}}).to_dataset_card_data(data)
    splits = SplitDict()
    for name, (rows, read, _) in sizes.items():
        splits.add(SplitInfo(name=name, num_bytes=read, num_examples=rows))
    info = DatasetInfo(
        features=plan.columns,
        splits=splits,
        download_size=sum(on_disk for _, _, on_disk in sizes.values()),
        dataset_size=sum(read for _, read, _ in sizes.values()),
    )
    DatasetInfosDict({config: info}).to_dataset_card_data(data)
    data["dataset_info"]["description"] = _description(plan)  # DatasetInfo leaves it out, load_dataset reads it
    return data


def _description(plan: Plan) -> str:
    """The source's, and what made the visual features, where `building.visual_feature_description` finds it."""
    lines = [plan.source.info.description.splitlines()[0]]
    if plan.has_features:
        lines.append(f"{SIDECAR}: {json.dumps(plan.provenance['features'])}")
    return "\n".join(lines)


def _licence(plan: Plan) -> str:
    return plan.arguments.license or plan.source.info.license or "unknown"


def _texts(plan: Plan, statistics: dict[str, Any], figures: dict[str, str], leaks: list[str]) -> dict[str, Any]:
    """What the template fills in."""
    arguments, provenance = plan.arguments, plan.provenance
    size = plan.columns["image_features"].length if plan.has_features else None
    licence = _licence(plan)
    tools = {"Detector": "detector", "Node selection": "selector", "Visual features": "features"}
    return {
        "pretty_name": BUILDERS[arguments.source].title,
        "config": arguments.config,
        "splits": {name: split | _means(split) for name, split in statistics["splits"].items()},
        "relations": {
            label: [split["relations"][label] for split in statistics["splits"].values()]
            for label in plan.source.labels
        },
        "columns": {name: COLUMNS[name].format(size=size, max_side=arguments.max_side) for name in plan.columns},
        "description": plan.source.info.description.splitlines()[0].rstrip(".") + ".",
        "homepage": plan.source.info.homepage,
        "licence_text": "not known; ask whoever made the source before you share it."
        if licence == "unknown"
        else f"{licence}.",
        "inputs": provenance["inputs"],
        "command": provenance["command"],
        "tools": {
            title: None if provenance[name] is None else json.dumps(provenance[name], indent=2, ensure_ascii=False)
            for title, name in tools.items()
        },
        "left_out": _left_out(statistics),
        "figures": [{"name": name, "text": text} for name, text in figures.items()],
        "leaks": leaks,
        "leak_text": _leak_text(leaks),
    }


def _means(split: dict[str, Any]) -> dict[str, str]:
    objects = sum(int(number) * count for number, count in split["objects_an_image"].items())
    return {
        "mean_objects": f"{objects / max(split['images'], 1):.2f}",
        "mean_text_phrases": f"{split['text_phrases'] / max(split['pairs'], 1):.2f}",
        "mean_image_phrases": f"{split['image_phrases'] / max(split['pairs'], 1):.2f}",
        "mean_chosen_objects": f"{split['objects'] / max(split['pairs'], 1):.2f}",
    }


def _left_out(statistics: dict[str, Any]) -> str:
    """One sentence for each kind of thing left out."""
    totals = {
        "posts whose image was not there were left out": "posts_without_file_left_out",
        "posts were left out for a bad image (`skipped.jsonl`)": "posts_skipped",
        "posts stayed without their bad image (`skipped.jsonl`)": "images_skipped",
        "times a pair got no node of a kind (`empty_nodes.jsonl`)": "node_kinds_left_empty",
    }
    counts = {text: sum(split[name] for split in statistics["splits"].values()) for text, name in totals.items()}
    return " ".join(f"{count} {text}." for text, count in counts.items() if count)


def _leak_text(leaks: list[str]) -> str:
    if leaks:
        return "Marked as leaky, for the reasons at the top. The mark travels with `load_dataset`."
    return (
        "Not marked as leaky: no source file that is known to give labels away was read. "
        "`python -m datasets_scripts.audit` measures what each column gives away."
    )
