"""The runs that a figure compares: rows of a results folder, each the same model trained with several seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vmhan.scoring.bootstrap import bootstrap_f1
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score


__all__ = ["Row", "Scorer", "rows_of_folders", "rows_of_results", "with_rows"]


@dataclass(frozen=True)
class Row:
    """One line of a table: a model, trained once a seed.

    Attributes:
        name: shown beside its scores. folders: of its runs. predictions: theirs, of the split in question.
    """

    name: str
    folders: tuple[Path, ...]
    predictions: tuple[Predictions, ...]

    def contents(self, file: str) -> list[dict[str, Any]]:
        """This JSON file of each of its runs."""
        return [json.loads((folder / file).read_text(encoding="utf-8")) for folder in self.folders]


@dataclass(frozen=True)
class Scorer:
    """A score with its interval, resampled by sentence, as plain data.

    Attributes:
        resamples, seed, level: as in `vmhan.scoring.bootstrap.bootstrap_f1`.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def f1(self, predictions: Sequence[Predictions]) -> dict[str, Any]:
        """f1 (mean over the seeds' runs), low, high (its interval) and seeds (each run's own F1)."""
        interval = bootstrap_f1(list(predictions), resamples=self.resamples, seed=self.seed, level=self.level)
        own = [score(p.gold, p.predicted, labels=p.labels, none_label=p.none_label)["f1"] for p in predictions]
        return {"f1": interval.value, "low": interval.low, "high": interval.high, "seeds": own}

    def typing(self, predictions: Sequence[Predictions]) -> dict[str, Any] | None:
        """Accuracy of the relation over the pairs that have one and were given one, in sum over the drawn sentences.

        These pairs differ between seeds, as those behind one F1 may not; their sentences are drawn from all alike.

        Returns:
            accuracy (mean over the seeds' runs), low, high, seeds and pairs (mean); None where a run has no such pair.
        """
        _, sentence = np.unique(predictions[0].groups, return_inverse=True)  # (n,)
        runs = []
        for p in predictions:
            gold, given = np.array(p.gold), np.array(p.predicted)
            both = (gold != p.none_label) & (given != p.none_label)
            runs.append([np.bincount(sentence, weights=column) for column in (both & (gold == given), both)])
        right, pairs = np.array(runs).swapaxes(0, 1)  # (runs, S) each
        if not pairs.sum(axis=1).all():
            return None
        own = right.sum(axis=1) / pairs.sum(axis=1)
        size = right.shape[1]
        draws = np.random.default_rng(self.seed).multinomial(size, np.full(size, 1 / size), size=self.resamples)
        accuracy = ((draws @ right.T) / np.maximum(draws @ pairs.T, 1)).mean(axis=1)  # (resamples,)
        low, high = np.quantile(accuracy, [(1 - self.level) / 2, (1 + self.level) / 2])
        ends = {"low": float(low), "high": float(high)}
        return {"accuracy": float(own.mean()), **ends, "seeds": own.tolist(), "pairs": float(pairs.sum(axis=1).mean())}


def rows_of_results(results: str | Path, names: Sequence[str], split: str) -> list[Row]:
    """RESULTS/DATASET and names of its rows -> those rows, with all their finished seeds.

    Raises:
        ValueError: a row without a finished run; runs of different pairs.
    """
    results = Path(results)
    folders = {name: sorted(path.parent for path in (results / name).glob("seed-*/metrics.json")) for name in names}
    for name, found in folders.items():
        if not found:
            has = sorted({path.parent.parent.name for path in results.glob("*/seed-*/metrics.json")})
            raise ValueError(
                f"row {name!r}: expected finished runs in {results / name}/seed-N, found none. Rows there: {has}."
            )
    return _read(folders, split)


def rows_of_folders(folders: Sequence[str | Path], split: str) -> list[Row]:
    """Run folders -> rows, named after the folder; `seed-N` folders of one parent are the seeds of the parent's row.

    Raises:
        ValueError: two rows of one name; runs of different pairs.
    """
    of_row: dict[Path, list[Path]] = {}
    for folder in map(Path, folders):
        absolute = folder.absolute()
        of_row.setdefault(absolute.parent if absolute.name.startswith("seed-") else absolute, []).append(folder)
    named = {path.name: found for path, found in of_row.items()}
    if len(named) < len(of_row):
        raise ValueError(
            f"rows are named after their folders: expected different names, received {sorted(map(str, of_row))}. "
            "Rename one."
        )
    return _read(named, split)


def _read(folders: dict[str, list[Path]], split: str) -> list[Row]:
    rows = []
    for name, found in folders.items():
        predictions = tuple(read_predictions(folder).split(split) for folder in found)
        rows.append(Row(name, tuple(found), predictions))
        for folder, of_run in zip(found, predictions):
            _check_same_pairs(rows[0], folder, of_run)
    return rows


def _check_same_pairs(first: Row, folder: Path, predictions: Predictions) -> None:
    keys = [[(row["id"], row["pair"], row["relation"]) for row in p.rows] for p in (first.predictions[0], predictions)]
    if keys[0] != keys[1]:
        raise ValueError(
            f"{folder} and {first.folders[0]} predict different pairs ({len(keys[1])} and {len(keys[0])}): compare "
            "runs of the same data set, split and version."
        )


def with_rows(predictions: Predictions, rows: list[dict[str, Any]], labels: list[str] | None = None) -> Predictions:
    """The predictions with these rows, and with these labels where rows have other names."""
    return replace(predictions, rows=rows, labels=labels or predictions.labels)
