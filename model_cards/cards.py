"""Cards of models and data sets: templates filled from saved files.

    python -m model_cards.cards OUTPUT_DIR

writes OUTPUT_DIR/README.md anew from metrics.json, config.json and run.json. A template has no number of its own but
those that the paper reports; `model_cards.checking` compares a card with its files.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData, EvalResult, ModelCard, ModelCardData

from model_cards.files import write_json, write_text
from model_cards.run_metadata import RUN_FILE, RunMetadata, leak_reasons, numbers, read_metadata
from model_cards.tables import (
    SPLITS,
    calibration_table,
    code,
    escape,
    fence,
    results_table,
    settings_table,
    training_table,
)


__all__ = ["PAPER_RESULTS", "dataset_card", "main", "model_card", "write_model_card"]

TEMPLATES = Path(__file__).parent
SCORES = {
    "f1": "micro F1 over the relations without none",
    "precision": "precision over the relations without none",
    "recall": "recall over the relations without none",
    "accuracy": "accuracy, none included",
}
# Table 1 of the paper, in per cent as printed there.
PAPER_RESULTS = {
    "MNRE": {"accuracy": 94.03, "precision": 86.25, "recall": 85.36, "f1": 85.80},
    "MORE": {"accuracy": 85.91, "precision": 65.37, "recall": 67.12, "f1": 66.23},
}
TASK = "multimodal-relation-classification"  # no task of the Hub's list: the pipeline that comes with the model
TAGS = ("relation-extraction", "multimodal", "vm-han", "hypergraph")
# Data sets that run_mmre.py builds: pretty name and where the data comes from. Others are Hub names or folders.
SOURCES = {
    "mnre": ("MNRE", "MNRE, version 2 (Zheng et al., 2021): posts from Twitter with one image each."),
    "mnre_v1": ("MNRE-1", "MNRE, version 1 (Zheng et al., 2021): posts from Twitter with one image each."),
    "mnre_order_blind": (
        "MNRE, order-blind",
        "MNRE, version 2 (Zheng et al., 2021), with each pair in text order and labels that have a direction.",
    ),
    "mnre_v1_order_blind": (
        "MNRE-1, order-blind",
        "MNRE, version 1 (Zheng et al., 2021), with each pair in text order and labels that have a direction.",
    ),
    "mnre_published_objects": (
        "MNRE with the published object files",
        "MNRE, version 2 (Zheng et al., 2021), and the object files that public systems load.",
    ),
    "more": ("MORE", "MORE (He et al., 2023): news captions; the tail of a pair is an object of the image."),
    "postcards": (
        "Postcards",
        "Postcards: synthetic pictures with captions, drawn by this package so that the words alone cannot decide the "
        "relation. Scores on it say nothing about real posts.",
    ),
}


def model_card(folder: str | Path, repo_id: str | None = None, run: Mapping[str, Any] | None = None) -> ModelCard:
    """The card of an --output_dir of run_mmre.py, whose code loads `repo_id`, or `folder` if there is none.
    ValueError if metrics.json, config.json or run.json, for which `run` may stand, is missing or no JSON object.
    """
    metadata = read_metadata(folder, run)
    dataset = metadata.run["data"]["dataset"]
    name, source = SOURCES.get(dataset, (dataset, f"The data set {code(dataset)}."))
    leaks = leak_reasons(metadata.metrics)
    return ModelCard.from_template(
        _model_card_data(metadata, name),
        template_path=str(TEMPLATES / "model_card.md"),
        repo_id=json.dumps(repo_id or str(folder), ensure_ascii=False),
        dataset_name=escape(name),
        source=source,
        leaks=leaks and [" ".join(reason.split()) for reason in leaks],
        protocol=metadata.metrics.get("protocol"),
        results=results_table(metadata.metrics),
        calibration=calibration_table(metadata.metrics),
        data_settings=settings_table(metadata.run["data"]),
        training=training_table(metadata),
        random_features=str(metadata.run["data"].get("features", "")).startswith("random"),
        paper=PAPER_RESULTS,
        figures=metadata.figures,
        run=metadata.run,
        command=fence(metadata.run["command"], "bash"),
        licence=code(metadata.run["licence"]),
        config=metadata.config,
    )


def write_model_card(
    folder: str | Path,
    run: Mapping[str, Any] | None = None,
    repo_id: str | None = None,
    *,
    is_finished: bool = True,
) -> Path:
    """Write README.md of an --output_dir, and when `run` (`describe_run`) is given, run.json after it, which says that
    all of the run is there; not if there is more to do, without `is_finished`.
    """
    folder = Path(folder)
    write_text(folder / "README.md", str(model_card(folder, repo_id, run)))
    if run is not None and is_finished:
        write_json(folder / RUN_FILE, run)
    return folder / "README.md"


def dataset_card(data: DatasetCardData, texts: Mapping[str, Any]) -> DatasetCard:
    """The card of a data set of posts: its YAML, and what `datasets_scripts.prepare.card` fills the template with."""
    return DatasetCard.from_template(data, template_path=str(TEMPLATES / "dataset_card.md"), **texts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write OUTPUT_DIR/README.md anew from the saved files.")
    parser.add_argument("output_dir", help="A finished --output_dir of run_mmre.py.")
    parser.add_argument("--repo_id", help="Repository that the card's code loads; OUTPUT_DIR if not given.")
    arguments = parser.parse_args(argv)
    print(write_model_card(arguments.output_dir, repo_id=arguments.repo_id))


def _model_card_data(metadata: RunMetadata, dataset_name: str) -> ModelCardData:
    """The YAML header. Leaky results and controls are no evaluation results: they stay out of the model index.
    `pipeline_tag` is the task that `pipeline(task, model=..., trust_remote_code=True)` opens; a folder without a
    pipeline has none.
    """
    leaks, is_control = leak_reasons(metadata.metrics), "shuffled_images" in metadata.run["data"]
    return ModelCardData(
        language="en",
        license=metadata.run["licence"],
        library_name="transformers",
        pipeline_tag=next(iter(metadata.config.get("custom_pipelines") or ()), None),
        tags=[*TAGS, *(["leaky"] if leaks else []), *(["shuffled-images"] if is_control else [])],
        base_model=metadata.run["base_model"],
        datasets=metadata.run["dataset_id"],
        model_name="VM-HAN",
        eval_results=None if leaks or is_control else _eval_results(metadata, dataset_name) or None,
        **({} if leaks is None else {"leaky": bool(leaks)}),
    )


def _eval_results(metadata: RunMetadata, dataset_name: str) -> list[EvalResult]:
    values, run = numbers(metadata.metrics), metadata.run
    of_all = {
        "task_type": TASK,
        "task_name": "Multi-modal relation extraction",
        "dataset_type": run["dataset_id"] or run["data"]["dataset"],
        "dataset_name": dataset_name,
        "dataset_config": run["data"].get("dataset_config"),
    }
    return [
        EvalResult(dataset_split=split, metric_type=score, metric_name=title, metric_value=values[name], **of_all)
        for split in SPLITS
        for score, title in SCORES.items()
        if (name := f"{split}_{score}") in values
    ]


if __name__ == "__main__":
    main()
