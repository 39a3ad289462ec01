"""The numbers that the paper prints (Tables 1 and 2), and what can be computed about them. None of them is ours.

reported.csv has each with its line in the paper's text; systems.yaml has what each system of Table 1 reads.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


__all__ = ["ReportedRow", "inconsistencies", "read_reported", "read_systems"]

FOLDER = Path(__file__).parent
REPORTED_FILE, SYSTEMS_FILE = FOLDER / "reported.csv", FOLDER / "systems.yaml"
METRICS = ("accuracy", "precision", "recall", "f1")
HALF = 0.005  # the numbers are per cent with two digits: each may be off by half of the last one
OURS = "VM-HAN (Ours)"  # the paper's own system, by its name in both tables


@dataclass(frozen=True)
class ReportedRow:
    """One row of a table of the paper on one data set: metric -> per cent; a metric it leaves out is not there."""

    table: str
    row: str
    dataset: str
    values: dict[str, float]
    line: int


def read_reported(path: str | Path = REPORTED_FILE) -> list[ReportedRow]:
    """The paper's rows in its order."""
    rows: dict[tuple[str, str, str], ReportedRow] = {}
    with Path(path).open(encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file):
            key = entry["table"], entry["row"], entry["dataset"]
            row = rows.setdefault(key, ReportedRow(*key, values={}, line=int(entry["line"])))
            row.values[entry["metric"]] = float(entry["value"])
    return list(rows.values())


def read_systems(path: str | Path = SYSTEMS_FILE) -> dict[str, dict[str, dict[str, Any]]]:
    """Table -> row of the paper -> `ours` (row of a sweep) or `reason` (why there is none), and for Table 1 `inputs`,
    `leaks` ("yes", "no", "not stated") and `source`."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def inconsistencies(row: ReportedRow, table: list[ReportedRow]) -> list[str]:
    """What does not fit in a row of the paper, beyond rounding.

    F1 must be the harmonic mean of precision and recall, `METRIC_increase` the distance to the best other row of
    `table`, and `average_decrease` the mean distance of the four metrics to VM-HAN's row.
    """
    others = [other for other in table if (other.table, other.dataset) == (row.table, row.dataset) and other != row]
    return _harmonic(row.values) + _increases(row.values, others) + _decrease(row.values, others)


def _harmonic(values: dict[str, float]) -> list[str]:
    if not {"precision", "recall", "f1"} <= set(values):
        return []
    precision, recall, f1 = (values[name] for name in ("precision", "recall", "f1"))
    low, high = (2 / (1 / (precision + off) + 1 / (recall + off)) for off in (-HALF, HALF))
    if low - HALF <= f1 <= high + HALF:
        return []
    return [f"F1 {f1:.2f}, but precision and recall give {2 * precision * recall / (precision + recall):.2f}"]


def _increases(values: dict[str, float], others: list[ReportedRow]) -> list[str]:
    found = []
    for metric in METRICS:
        stated = values.get(f"{metric}_increase")
        best = max((other for other in others if metric in other.values), key=lambda o: o.values[metric], default=None)
        if stated is None or best is None:
            continue
        computed = values[metric] - best.values[metric]
        if abs(computed - stated) > 3 * HALF:
            found.append(f"{metric} increase {stated:.2f}, but {computed:.2f} over {best.row}")
    return found


def _decrease(values: dict[str, float], others: list[ReportedRow]) -> list[str]:
    full = next((other for other in others if other.row == OURS), None)
    if full is None or "average_decrease" not in values:
        return []
    computed = sum(full.values[metric] - values[metric] for metric in METRICS) / len(METRICS)
    if abs(computed - values["average_decrease"]) <= 3 * HALF:
        return []
    return [f"average decrease {values['average_decrease']:.2f}, but the four metrics give {computed:.2f}"]
