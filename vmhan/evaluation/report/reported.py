"""The numbers that the paper prints (Tables 1 and 2), and what can be computed about them. None of them is ours.

reported.csv has each with its line in the paper's text; systems.yaml has what each system of Table 1 reads.
"""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vmhan.evaluation.report.rows import METRICS


__all__ = ["ReportedRow", "inconsistencies", "read_reported", "read_systems"]

FOLDER = Path(__file__).parent
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


def read_reported() -> list[ReportedRow]:
    """The paper's rows in its order."""
    rows = []
    with (FOLDER / "reported.csv").open(encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file):
            table, row, dataset, line = (entry.pop(name) for name in ("table", "row", "dataset", "line"))
            values = {metric: float(value) for metric, value in entry.items() if value}
            rows.append(ReportedRow(table, row, dataset, values, int(line)))
    return rows


@functools.cache
def read_systems() -> dict[str, dict[str, dict[str, Any]]]:
    """Table -> row of the paper -> `ours` (row of a sweep) or `reason` (why there is none), and for Table 1 `inputs`,
    `leaks` ("yes", "no", "not stated") and `source`."""
    return yaml.safe_load((FOLDER / "systems.yaml").read_text(encoding="utf-8"))


def inconsistencies(row: ReportedRow, table: list[ReportedRow]) -> list[str]:
    """What does not fit in a row of the paper, beyond rounding: F1 is not the harmonic mean of precision and recall,
    `METRIC_increase` not the distance to the best other row of `table`, or `average_decrease` not the mean distance of
    the four metrics to VM-HAN's row.
    """
    values, found = row.values, []
    others = [other for other in table if (other.table, other.dataset) == (row.table, row.dataset) and other != row]
    if {"precision", "recall", "f1"} <= set(values):
        parts = values["precision"], values["recall"]
        low, exact, high = (2 / sum(1 / (part + off) for part in parts) for off in (-HALF, 0, HALF))
        if not low - HALF <= values["f1"] <= high + HALF:
            found.append(f"F1 {values['f1']:.2f}, but precision and recall give {exact:.2f}")
    for metric in METRICS:
        best = max((other for other in others if metric in other.values), key=lambda o: o.values[metric], default=None)
        if f"{metric}_increase" in values and best is not None:
            stated, computed = values[f"{metric}_increase"], values[metric] - best.values[metric]
            if abs(computed - stated) > 3 * HALF:
                found.append(f"{metric} increase {stated:.2f}, but {computed:.2f} over {best.row}")
    full = next((other.values for other in others if other.row == OURS), None)
    if full is not None and "average_decrease" in values:
        stated, computed = values["average_decrease"], sum(full[m] - values[m] for m in METRICS) / len(METRICS)
        if abs(computed - stated) > 3 * HALF:
            found.append(f"average decrease {stated:.2f}, but the four metrics give {computed:.2f}")
    return found
