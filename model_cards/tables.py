"""Markdown tables whose every row names the key of its number, and their reading back.

A row's first cell holds the key in backticks. Under a column headed `value` the key is that one; under any other
heading it is `HEADING_key`: the row `f1` has `test_f1` in the column `test`, as metrics.json names it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_cards.run_metadata import RunMetadata, numbers


__all__ = [
    "SPLITS",
    "calibration_table",
    "markdown_table",
    "read_tables",
    "results_table",
    "score_keys",
    "settings_table",
    "show_score",
    "show_setting",
    "training_table",
]

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


def score_keys(metrics: Mapping[str, Any]) -> list[str]:
    """Names in metrics.json of the numbers that the results table shows, without the split: the scores come first."""
    found = {
        name.removeprefix(f"{split}_"): None
        for split in SPLITS
        for name in numbers(metrics)
        if name.startswith(f"{split}_") and not SPEED.search(name) and not CALIBRATION.search(name)
    }
    return [*(name for name in SCORE_NAMES if name in found), *sorted(set(found) - set(SCORE_NAMES))]


def results_table(metrics: Mapping[str, Any]) -> str:
    """Every score, one column a split; a score that a split lacks is a dash."""
    values = numbers(metrics)
    splits = [split for split in SPLITS if any(name.startswith(f"{split}_") for name in values)]
    rows = []
    for key in score_keys(metrics):
        title = f"{SCORE_NAMES[key]} (`{key}`)" if key in SCORE_NAMES else f"`{key}`"
        cells = [values.get(f"{split}_{key}") for split in splits]
        rows.append([title, *("-" if value is None else show_score(value) for value in cells)])
    return markdown_table(["metric", *splits], rows)


def calibration_table(metrics: Mapping[str, Any]) -> str:
    """Whatever metrics.json says of calibration; empty without."""
    rows = [[f"`{name}`", show_score(value)] for name, value in numbers(metrics).items() if CALIBRATION.search(name)]
    return markdown_table(["figure", "value"], rows) if rows else ""


def settings_table(values: Mapping[str, Any]) -> str:
    """Arguments as they were given."""
    return markdown_table(
        ["argument", "value"], [[f"`{name}`", show_setting(value)] for name, value in values.items()]
    )


def training_table(facts: RunMetadata) -> str:
    """The model's fields, the arguments of model and training, and what metrics.json says of the training."""
    fields = {name: facts.config[name] for name in CONFIG_FIELDS if facts.config.get(name) is not None}
    rows = [
        [f"`{name}`", show_setting(v)] for name, v in (facts.run["model"] | fields | facts.run["training"]).items()
    ]
    values = numbers(facts.metrics)
    rows += [[f"`{name}`", show_score(values[name])] for name in RUN_METRICS if name in values]
    return markdown_table(["argument", "value"], rows)


def show_score(value: int | float) -> str:
    """A count as it is, a fraction or loss with four decimals."""
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"


def show_setting(value: Any) -> str:
    """A value as one would write it on the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def read_tables(text: str) -> dict[str, str]:
    """{key: cell} of every row of every table in a Markdown text that names its key."""
    found: dict[str, str] = {}
    headings: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            headings = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        key = re.search(r"`(\w+)`", cells[0])
        if not headings:
            headings = cells
        elif key:
            for heading, cell in zip(headings[1:], cells[1:], strict=True):
                found[key[1] if heading == "value" else f"{heading}_{key[1]}"] = cell
    return found


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold anything but a line break."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
