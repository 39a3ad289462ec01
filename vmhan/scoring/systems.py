"""The finished runs that a table or a figure compares: systems, each trained once a seed, and their scores."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_cards.run_metadata import RUN_FILE, read_object
from vmhan.configs import normal
from vmhan.scoring.predictions import Predictions, check_same_pairs, read_predictions
from vmhan.scoring.scorer import score


__all__ = [
    "System", "differing_settings", "finished_runs", "read_if_there", "read_systems", "seed_scores",
    "warn_of_differing_settings",
]  # fmt: skip

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"  # what a sweep asked a run for


@dataclass(frozen=True)
class System:
    """One row of a table."""

    name: str  # shown beside its scores
    folders: tuple[Path, ...]  # of its runs
    predictions: tuple[Predictions, ...]  # of each run, all of one split

    def contents(self, file: str) -> list[dict[str, Any]]:
        """This JSON file of each run; {} for a run that has none."""
        return [read_if_there(folder / file) for folder in self.folders]


def read_if_there(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is no such file; ValueError for any other content."""
    return read_object(path) if path.is_file() else {}


def finished_runs(results: str | Path, row: str = "*") -> dict[str, list[Path]]:
    """The folders RESULTS/ROW/seed-N that have a metrics.json, by row, in the order of their seeds;
    `row` is a pattern of names.

    Runs of a sweep (they have settings.json) that were cut short or failed are left out, with a warning.
    """
    rows: dict[str, list[Path]] = {}
    runs = {path.parent for name in ("metrics.json", SETTINGS) for path in Path(results).glob(f"{row}/seed-*/{name}")}
    for run in sorted(runs, key=lambda run: (run.parent.name, int(run.name.removeprefix("seed-")))):
        is_whole = all((run / name).is_file() for name in ("metrics.json", RUN_FILE))
        if (run / SETTINGS).exists() and (not is_whole or (run / "failed.txt").exists()):
            logger.warning("%s is left out: its run is unfinished or failed; start its sweep again", run)
            continue
        rows.setdefault(run.parent.name, []).append(run)
    return rows


def read_systems(folders: dict[str, Sequence[Path]], split: str) -> list[System]:
    """The systems of these names with their runs' predictions; ValueError for different pairs or a missing split."""
    systems: list[System] = []
    for name, runs in folders.items():
        predictions = tuple(read_predictions(run).split(split) for run in runs)
        systems.append(System(name, tuple(runs), predictions))
        warn_of_differing_settings(runs)
        for of_run in predictions:
            check_same_pairs(systems[0].predictions[0], of_run)
    return systems


def differing_settings(runs: Sequence[Path]) -> list[str]:
    """Which settings, but for the seed, the runs of one system have not in common, as a sweep recorded them, such as
    "max_steps: 40 and 41": their mean is of no one system.
    """
    recorded = [of for run in runs if (of := read_if_there(run / SETTINGS).get("settings")) is not None]
    differing = []
    for name in sorted(set().union(*recorded) - {"seed"}):
        values = {str(normal(of.get(name))): str(of.get(name, "nothing")) for of in recorded}
        if len(values) > 1:
            differing.append(f"{name}: {' and '.join(values.values())}")
    return differing


def warn_of_differing_settings(runs: Sequence[Path]) -> None:
    if differing := differing_settings(runs):
        logger.warning("%s: seeds of different settings: %s", runs[0].parent, "; ".join(differing))


def seed_scores(runs: Sequence[Predictions]) -> dict[str, list[float]]:
    """Each number of `vmhan.scoring.scorer.score`, as a list with one value a run."""
    scores = [score(run.gold, run.predicted, labels=run.labels, none_label=run.none_label) for run in runs]
    return {name: [of_run[name] for of_run in scores] for name in scores[0]}
