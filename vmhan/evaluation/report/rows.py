"""The rows of a report: what the runs of each row scored, how sure that is, and how it compares with the reference."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets_scripts.registry import BUILDERS
from model_cards.run_metadata import leak_reasons
from vmhan.scoring.bootstrap import Interval, PairedResult, bootstrap_f1, paired_test
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score


__all__ = ["METRICS", "SIGNIFICANCE", "Measured", "compare", "holm", "read_row", "statement"]

METRICS = ("accuracy", "precision", "recall", "f1")
SIGNIFICANCE = 0.05
TOLERANCE = 1e-6  # between metrics.json and what the predictions score to


@dataclass(frozen=True)
class Measured:
    """One row of a report, from the folders DATASET/ROW/seed-N of its finished runs. Scores are fractions.

    Attributes:
        seeds, missing: of the finished runs, and the wanted ones that have none.
        scores: metric -> its value for each of `seeds`.
        interval: of the mean F1, sentences resampled.
        leaks: reasons why the inputs give labels away; [] if they do not, None if a run does not say.
        inputs: what the system reads.
        selected: whether the epoch with the best validation F1 counts, and not the last one.
        revisions: git revisions of the code that made the runs.
        comparison: mean F1 of the reference minus that of this row; None for the reference itself.
        adjusted_p: its p-value after Holm's correction over the rows of the report.
        identical: every prediction is the reference's, seed by seed.
    """

    name: str
    title: str
    seeds: list[int]
    missing: list[int]
    scores: dict[str, list[float]]
    interval: Interval
    leaks: list[str] | None
    inputs: str
    selected: bool
    revisions: list[str]
    predictions: list[Predictions] = field(repr=False)
    comparison: PairedResult | None = None
    adjusted_p: float | None = None
    identical: bool = False

    def mean(self, metric: str) -> float:
        return statistics.fmean(self.scores[metric])

    def deviation(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds; None of a single one."""
        return statistics.stdev(self.scores[metric]) if len(self.seeds) > 1 else None


def read_row(folder: Path, *, title: str, split: str, resamples: int, wanted: Sequence[int] = ()) -> Measured | None:
    """The finished runs under DATASET/ROW; None if there is none.

    Args:
        wanted: seeds that a whole row has; others that are there count as well.

    Raises:
        ValueError: a run's metrics.json is not what its predictions score to, or a run has no such split.
    """
    found = sorted((int(p.parent.name.removeprefix("seed-")), p.parent) for p in folder.glob("seed-*/metrics.json"))
    if not found:
        return None
    seeds = [seed for seed, _ in found]
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for _, run in found]
    predictions = [read_predictions(run).split(split) for _, run in found]
    for (_, run), numbers, rows in zip(found, metrics, predictions, strict=True):
        _check_scores(run, numbers, rows, split)
    reasons = [leak_reasons(numbers) for numbers in metrics]
    return Measured(
        name=folder.name,
        title=title,
        seeds=seeds,
        missing=sorted(set(wanted) - set(seeds)),
        scores={metric: [numbers[f"{split}_{metric}"] for numbers in metrics] for metric in METRICS},
        interval=bootstrap_f1(predictions, resamples=resamples),
        leaks=None if None in reasons else list(dict.fromkeys(sum(reasons, []))),
        inputs=_inputs(_settings(found[0][1]), found[0][1]),
        selected=str(_settings(found[0][1]).get("load_best_model_at_end")).lower() == "true",
        revisions=sorted({revision for _, run in found if (revision := _revision(run))}),
        predictions=predictions,
    )


def compare(rows: Sequence[Measured], reference: str, *, resamples: int) -> list[Measured]:
    """The rows with their comparisons to the row named `reference`, p-values corrected over all of these.

    Raises:
        ValueError: there is no such row, or rows were not made on the same pairs.
    """
    full = next((row for row in rows if row.name == reference), None)
    if full is None:
        raise ValueError(
            f"--reference: expected a row with finished runs, {[r.name for r in rows]}, not {reference!r}."
        )
    others = [row for row in rows if row is not full]
    tests = [paired_test(full.predictions, row.predictions, resamples=resamples) for row in others]
    adjusted = holm([test.p_value for test in tests])
    compared = {
        row.name: replace(row, comparison=test, adjusted_p=p, identical=_identical(full, row))
        for row, test, p in zip(others, tests, adjusted, strict=True)
    }
    return [compared.get(row.name, row) for row in rows]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm 1979, "A simple sequentially rejective multiple test procedure": p-values that keep the family's error.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def statement(row: Measured, reference: Measured, note: str | None = None) -> str:
    """One sentence on a compared row; differences in points of F1, with their 95 % interval."""
    full, other, test = reference.title, row.title, row.comparison
    size = f"{abs(test.difference) * 100:.2f}"
    low, high = sorted(math.copysign(1, test.difference or 1) * end * 100 for end in (test.low, test.high))
    numbers = f"{size} ({low:.2f} to {high:.2f}), p = {row.adjusted_p:.4f}"
    if row.identical:
        text = f"{full} and {other} predict the same for every pair: these data cannot tell them apart"
    elif row.adjusted_p >= SIGNIFICANCE:
        more = full if test.difference >= 0 else other
        text = f"{full} and {other} are not told apart: {more} has more by {numbers}"
    elif test.difference > 0:
        text = f"{full} beats {other} by {numbers}"
    else:
        text = f"{other} beats {full} by {numbers}"
    return f"{text}. {note.strip()}" if note else f"{text}."


def _identical(one: Measured, other: Measured) -> bool:
    return one.seeds == other.seeds and all(
        a.predicted == b.predicted for a, b in zip(one.predictions, other.predictions, strict=True)
    )


def _check_scores(run: Path, metrics: Mapping[str, Any], rows: Predictions, split: str) -> None:
    scores = score(rows.gold, rows.predicted, labels=rows.labels, none_label=rows.none_label)
    for metric in METRICS:
        stated = metrics.get(f"{split}_{metric}")
        if stated is None or abs(stated - scores[metric]) > TOLERANCE:
            raise ValueError(
                f"{run}: expected {split}_{metric} of metrics.json to be what predictions.jsonl scores to, "
                f"{scores[metric]:.6f}, received {stated}. Run it again (vmhan.evaluation.sweep.command --overwrite)."
            )


def _settings(run: Path) -> dict[str, Any]:
    """What the sweep asked for; {} of a run that no sweep made."""
    return _read(run / "settings.json").get("settings", {})


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _inputs(settings: Mapping[str, Any], run: Path) -> str:
    """What the settings let the model read, in words; where the data are ready, what its config says that it reads."""
    if not settings:
        return "not recorded"
    given = {name for name, value in settings.items() if str(value).lower() not in ("none", "false")}
    reads = {"text": {"text"}, "image": {"features"}, "objects": {"features"}, "image_phrases": {"captions"}}
    if "no_visual" in given:
        reads = {"text": {"text"}}
    elif settings.get("dataset", "mnre") not in BUILDERS:
        reads["image_phrases"] = set()  # the posts have them or not
        given |= {"features"} if _read(run / "config.json").get("visual_feature_size") else set()
    elif settings.get("dataset") == "jsonl":
        reads["image_phrases"] = set()
    without = [name for name in reads if str(settings.get(f"num_{name}")) == "0"]
    without += ["image_phrases"] * (settings.get("preset") == "no_image_llm")
    reads = {name: needed for name, needed in reads.items() if name not in without}
    model = settings.get("model", "vmhan")
    if model != "vmhan":
        from vmhan.baselines import BASELINES  # here: brings in torch

        if "pixels" in BASELINES[model].inputs and str(settings.get("images")).lower() != "false":
            reads = {name: set() for name in reads}
        reads = {name: reads[name] for name in reads if name in BASELINES[model].inputs}
    return ", ".join(name.replace("_", " ") for name in reads if reads[name] <= given | {"text"})


def _revision(run: Path) -> str | None:
    try:
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    revision = environment.get("git_revision")
    return revision and revision[:12] + (" (changed)" if environment.get("git_dirty") else "")
