"""The rows of a report: what the runs of each row scored, how sure that is, and how it compares with the reference."""

import glob
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model_cards.run_metadata import leak_reasons
from vmhan.evaluation.figures.groups import of_group
from vmhan.scoring.bootstrap import bootstrap_f1, paired_test
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.systems import differing_settings, finished_runs, read_systems, seed_scores


__all__ = ["METRICS", "SIGNIFICANCE", "Row", "compare", "holm", "read_row", "statement"]

METRICS = ("accuracy", "precision", "recall", "f1")
SIGNIFICANCE = 0.05
TOLERANCE = 1e-6  # between metrics.json and what the predictions score to
# Builders whose posts have image phrases only where captions were asked for.
CAPTIONED = "mnre mnre_v1 mnre_order_blind mnre_v1_order_blind mnre_published_objects more postcards".split()


@dataclass(frozen=True)
class Row:
    """One row of a report, from its finished runs. Scores are fractions, differences are of mean F1."""

    row: str
    title: str
    seeds: list[int]
    missing: list[int]  # wanted seeds without a finished run
    scores: dict[str, list[float]]  # metric -> its value for each of `seeds`
    f1_low: float  # 95 % interval of the mean F1, sentences resampled
    f1_high: float
    leaks: list[str] | None  # which files that were read give labels away; [] if none, None if a run does not say
    inputs: str  # what the system reads
    selected: bool  # whether the epoch with the best validation F1 counts, and not the last one
    revisions: list[str]  # git revisions of the code that made the runs
    differing: list[str]  # settings, which the seeds have not in common
    predictions: Sequence[Predictions] = field(repr=False)
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    p_holm: float | None = None  # after Holm's correction over the rows of the report
    protocol: str | None = None  # of the data, as metrics.json has it
    identical: bool = False  # every prediction is the reference's, seed by seed

    def mean(self, metric: str) -> float:
        return statistics.fmean(self.scores[metric])

    def deviation(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds; None of a single one."""
        return statistics.stdev(self.scores[metric]) if len(self.seeds) > 1 else None

    @property
    def is_significant(self) -> bool:
        return self.p_holm is not None and self.p_holm < SIGNIFICANCE


def read_row(
    folder: Path,
    *,
    title: str,
    split: str,
    resamples: int,
    wanted: Sequence[int] = (),
    only: tuple[str, str] | None = None,
) -> Row | None:
    """The finished runs under DATASET/ROW; None if there is none. `wanted` are the seeds that a whole row has, and
    `only` a grouping of `GROUPINGS` and the group whose pairs count.

    ValueError if a run's metrics.json is not what its predictions score to, or if a run has no such split or group.
    """
    runs = finished_runs(folder.parent, glob.escape(folder.name)).get(folder.name)
    if not runs:
        return None
    (system,) = read_systems({folder.name: runs}, split)
    seeds, scores = [int(run.name.removeprefix("seed-")) for run in runs], seed_scores(system.predictions)
    metrics, made_by = system.contents("metrics.json"), system.contents("run.json")
    made_in = [about for about in system.contents("environment.json") if about.get("git_revision")]
    for i, (run, stated) in enumerate(zip(runs, metrics, strict=True)):
        if abs(stated.get(f"{split}_f1", -1) - scores["f1"][i]) > TOLERANCE:
            raise ValueError(
                f"{run}: expected {split}_f1 of metrics.json to be what predictions.jsonl scores to, "
                f"{scores['f1'][i]:.6f}, received {stated.get(f'{split}_f1')}. Run it again."
            )
    if only is not None:
        system = replace(system, predictions=[of_group(run, *only) for run in system.predictions])
        scores = seed_scores(system.predictions)
    reasons, lacking = [leak_reasons(numbers) for numbers in metrics], metrics[0].get("without")
    interval = bootstrap_f1(system.predictions, resamples=resamples)
    return Row(
        row=folder.name,
        title=f"{title} without {lacking}" if lacking else title,
        seeds=seeds,
        missing=sorted(set(wanted) - set(seeds)),
        scores={metric: scores[metric] for metric in METRICS},
        f1_low=interval.low,
        f1_high=interval.high,
        leaks=None if None in reasons else list(dict.fromkeys(sum(reasons, []))),
        inputs=_inputs(system.contents("config.json")[0], made_by[0]),
        selected=bool(made_by[0].get("training", {}).get("load_best_model_at_end")),
        revisions=sorted({e["git_revision"][:12] + " (changed)" * bool(e.get("git_dirty")) for e in made_in}),
        differing=differing_settings(runs),
        predictions=system.predictions,
        protocol=metrics[0].get("protocol"),
    )


def compare(rows: Sequence[Row], reference: str, *, resamples: int) -> list[Row]:
    """The rows with their comparisons to the row named `reference`, p-values corrected over all of these.

    ValueError if there is no such row, or if rows were not made on the same pairs.
    """
    full = next((row for row in rows if row.row == reference), None)
    if full is None:
        raise ValueError(f"--reference: expected one of {[row.row for row in rows]}, not {reference!r}.")
    others = [row for row in rows if row is not full]
    tests = [paired_test(row.predictions, full.predictions, resamples=resamples) for row in others]
    compared = {reference: full}
    for row, test, adjusted in zip(others, tests, holm([test.p_value for test in tests]), strict=True):
        differences = dict(zip(("difference", "difference_low", "difference_high", "p"), test, strict=True))
        same = [one.predicted == other.predicted for one, other in zip(full.predictions, row.predictions)]
        identical = full.seeds == row.seeds and all(same)
        compared[row.row] = replace(row, **differences, p_holm=adjusted, identical=identical)
    return [compared[row.row] for row in rows]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm 1979, "A simple sequentially rejective multiple test procedure": p-values that keep the family's error."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def statement(row: Row, reference: Row, note: str | None = None) -> str:
    """One sentence on a compared row; differences in points of F1, with their 95 % interval."""
    sign = 1 if row.difference > 0 else -1  # so that the better one's lead is positive
    better, worse = (row.title, reference.title)[::sign]
    low, high = sorted(100 * sign * end for end in (row.difference_low, row.difference_high))
    lead = f"{abs(100 * row.difference):.2f} ({low:.2f} to {high:.2f}), p = {row.p_holm:.4f}"
    if row.identical:
        text = f"{reference.title} and {row.title} predict the same for every pair, so these data cannot compare them"
    elif row.is_significant:
        text = f"{better} beats {worse} by {lead}"
    else:
        text = f"{reference.title} and {row.title} are not significantly different: {better} has more by {lead}"
    return f"{text}. {note.strip()}" if note else f"{text}."


def _inputs(config: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """What the model reads, in words, by its config.json and run.json."""
    data, visual = run.get("data", {}), config.get("visual_feature_size") or config.get("vision_encoder")
    has_phrases = data.get("captions") or data.get("dataset") not in CAPTIONED
    reads = ["text"] + ["image"] * bool(visual) + ["objects"] * bool(visual and config.get("num_objects"))
    reads += ["image phrases"] * bool(config.get("num_image_phrases") and has_phrases)
    control = "; the pictures are of other posts" if data.get("shuffled_images") is not None else ""
    return ", ".join(reads) + control if run else "not recorded"
