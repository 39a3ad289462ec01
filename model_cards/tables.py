"""Markdown tables for cards. The first cell of a row holds the key of its numbers in backticks, as in the files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_cards.run_metadata import RunMetadata, numbers


__all__ = ["SPLITS", "calibration_table", "markdown_table", "results_table", "settings_table", "training_table"]

SPLITS = ("validation", "test")
SCORE_NAMES = {
    "f1": "micro F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
SPEED = re.compile(r"_(runtime|per_second|compilation_time|preparation_time)$")
CALIBRATION = re.compile(r"(^|_)(ece|expected_calibration_error|calibrat\w*|temperature|brier|nll)(_|$)")
CONFIG_FIELDS = (
    "entity_representation", "hypergraph_encoder", "hyperedges", "variational", "num_layers", "num_heads",
    "hidden_size", "visual_feature_size", "vision_encoder", "num_objects", "num_text_phrases", "num_image_phrases",
    "classifier_dropout", "relation_loss_weight", "reconstruction_loss_weight", "kl_loss_weight",
)  # fmt: skip
RUN_METRICS = ("seed", "epoch", "train_loss", "train_runtime")


def results_table(metrics: Mapping[str, Any]) -> str:
    """Show every score of metrics.json, a column for each split; a score that a split lacks is a dash."""
    values = numbers(metrics)
    splits = [split for split in SPLITS if any(name.startswith(f"{split}_") for name in values)]
    shown = [name for name in values if not SPEED.search(name) and not CALIBRATION.search(name)]
    found = {name.removeprefix(f"{split}_") for split in splits for name in shown if name.startswith(f"{split}_")}
    rows = []
    for key in [*(key for key in SCORE_NAMES if key in found), *sorted(found - set(SCORE_NAMES))]:
        title = f"{SCORE_NAMES[key]} (`{key}`)" if key in SCORE_NAMES else f"`{key}`"
        rows.append([title, *(_show_score(values.get(f"{split}_{key}")) for split in splits)])
    return markdown_table(["metric", *splits], rows)


def calibration_table(metrics: Mapping[str, Any]) -> str:
    """Show whatever metrics.json says of calibration; the table is empty where it says nothing."""
    rows = [[f"`{name}`", _show_score(value)] for name, value in numbers(metrics).items() if CALIBRATION.search(name)]
    return markdown_table(["figure", "value"], rows) if rows else ""


def settings_table(values: Mapping[str, Any], scores: Mapping[str, float] | None = None) -> str:
    """Show arguments as one would write them on the command line, and then scores."""
    rows = [[f"`{name}`", _show_setting(value)] for name, value in values.items()]
    rows += [[f"`{name}`", _show_score(value)] for name, value in (scores or {}).items()]
    return markdown_table(["argument", "value"], rows)


def training_table(metadata: RunMetadata) -> str:
    """Show the arguments of model and training, the model's own fields (which count, whatever its flags asked for),
    and what metrics.json says of the training.
    """
    fields = {name: metadata.config[name] for name in CONFIG_FIELDS if metadata.config.get(name) is not None}
    values = numbers(metadata.metrics)
    of_training = {name: values[name] for name in RUN_METRICS if name in values}
    return settings_table(metadata.run["model"] | fields | metadata.run["training"], of_training)


def _show_score(value: int | float | None) -> str:
    """Show a count as it is, a fraction or loss with four decimals, and a dash where there is none."""
    if value is None:
        return "-"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"


def _show_setting(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table whose cells may hold anything but a line break."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
