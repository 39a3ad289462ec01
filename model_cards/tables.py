"""Markdown tables for cards. The first cell of a row holds the key of its numbers in backticks, as in the files.

Names, labels and titles come from people's data: `escape` makes of any text Markdown that reads as that text, and
`markdown_table` does so with each cell that is not `Markdown` already.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_cards.run_metadata import RunMetadata, numbers


__all__ = ["SPLITS", "Markdown", "calibration_table", "code", "escape", "fence", "markdown_table", "results_table"]
__all__ += ["settings_table", "training_table"]

SPLITS = ("validation", "test")
SCORE_NAMES = {
    "f1": "micro F1",
    "precision": "precision",
    "recall": "recall",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
SPEED = re.compile(r"_(runtime|per_second|compilation_time|preparation_time)$")
CALIBRATION = re.compile(r"(^|_)(ece|error_auroc|expected_calibration_error|calibrat\w*|temperature|brier|nll)(_|$)")
CONFIG_FIELDS = (
    "entity_representation", "hypergraph_scope", "hypergraph_encoder", "hyperedges", "variational", "num_layers",
    "num_heads", "hidden_size", "visual_feature_size", "vision_encoder", "num_objects", "num_text_phrases",
    "num_image_phrases", "classifier_dropout", "relation_loss_weight", "reconstruction_loss_weight", "kl_loss_weight",
)  # fmt: skip
# A "_" inside a word and a "&" that begins no entity mean nothing; "|" is for the table, and only there.
SPECIAL = re.compile(r"[\\`*\[\]<>~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
LINE_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
RUN_METRICS = ("seed", "epoch", "train_loss", "train_runtime")


def results_table(metrics: Mapping[str, Any]) -> str:
    """Show every score of metrics.json, a column for each split; a score that a split lacks is a dash."""
    values = numbers(metrics)
    splits = [split for split in SPLITS if any(name.startswith(f"{split}_") for name in values)]
    shown = [name for name in values if not SPEED.search(name) and not CALIBRATION.search(name)]
    found = {name.removeprefix(f"{split}_") for split in splits for name in shown if name.startswith(f"{split}_")}
    rows = []
    for key in [*(key for key in SCORE_NAMES if key in found), *sorted(found - set(SCORE_NAMES))]:
        title = Markdown(f"{SCORE_NAMES[key]} ({code(key)})") if key in SCORE_NAMES else code(key)
        rows.append([title, *(_show_score(values.get(f"{split}_{key}")) for split in splits)])
    return markdown_table(["metric", *splits], rows)


def calibration_table(metrics: Mapping[str, Any]) -> str:
    """Show whatever metrics.json says of calibration; the table is empty where it says nothing."""
    rows = [[code(name), _show_score(value)] for name, value in numbers(metrics).items() if CALIBRATION.search(name)]
    return markdown_table(["figure", "value"], rows) if rows else ""


def settings_table(values: Mapping[str, Any], scores: Mapping[str, float] | None = None) -> str:
    """Show arguments as one would write them on the command line, and then scores."""
    rows = [[code(name), _show_setting(value)] for name, value in values.items()]
    rows += [[code(name), _show_score(value)] for name, value in (scores or {}).items()]
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


class Markdown(str):
    """Text that is Markdown already, which nothing escapes again."""


def escape(text: str) -> Markdown:
    """Markdown of one line that reads as `text`; a line break is `<br>`."""
    if isinstance(text, Markdown):
        return text
    return Markdown(LINE_BREAK.sub("<br>", SPECIAL.sub(r"\\\g<0>", text)))


def code(text: str) -> Markdown:
    """The text between backticks, of which there are more than it has itself; one that cannot be there is escaped."""
    if not text.strip() or LINE_BREAK.search(text):
        return escape(text)
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return Markdown(f"{ticks}{space}{text}{space}{ticks}")


def fence(text: str, language: str) -> str:
    """A block of code that no line of the text can end."""
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 0)
    return f"{ticks}{language}\n{text}\n{ticks}"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, align: Sequence[str] = ()) -> str:
    """Make a table of cells that may hold any text; `align` is "---" or "---:" for each column."""
    lines = [[escape(cell).replace("|", "\\|") for cell in line] for line in (headings, *rows)]
    lines.insert(1, list(align) or ["---"] * len(headings))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
