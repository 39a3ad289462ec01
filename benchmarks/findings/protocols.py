"""The scores of docs/leaks.md: the runs of `vmhan sweep mnre_protocols` under both protocols.

    python -m benchmarks.findings.protocols RESULTS --output_dir docs/leaks

RESULTS has DATASET/ROW/seed-N. Writes scores.json with every number and interval, and prints the table of the page.
Rows of an earlier scores.json that RESULTS does not have stay: predictions hold MNRE's text, so none is kept here.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import percent
from benchmarks.harness.command import new_parser
from model_cards.files import write_json
from model_cards.tables import markdown_table
from vmhan.evaluation.figures.data import Scorer, detection
from vmhan.evaluation.sweep.plan import read_sweep
from vmhan.scoring.systems import System, finished_runs, read_if_there, read_systems


__all__ = ["main", "measure", "table"]

SWEEP = "mnre_protocols"
PROTOCOLS = {"mnre": "official", "mnre_order_blind": "order-blind"}  # of the sweep's data sets
SPLIT = "validation"


def measure(results: Path, scorer: Scorer) -> dict[str, dict[str, Any]]:
    """{row: {data set: `Scorer.f1`, both panels of `detection`, and where it ran}}, in the order of the sweep."""
    rows = {row: {} for row in read_sweep(SWEEP).rows}
    for dataset in PROTOCOLS:
        runs = finished_runs(results / dataset)
        for system in read_systems({row: runs[row] for row in rows if row in runs}, SPLIT):
            rows[system.name][dataset] = _scores(system, scorer)
    return {row: scores for row, scores in rows.items() if scores}


def _scores(system: System, scorer: Scorer) -> dict[str, Any]:
    panels = {panel["name"]: panel["rows"].get(system.name) for panel in detection([system], scorer)["panels"]}
    return {"f1": scorer.f1(system.predictions), **panels, "environment": system.contents("environment.json")}


def table(found: dict[str, dict[str, Any]]) -> str:
    """A row a system and protocol: F1 over the relations, detection's F1, and accuracy of the relation of the pairs
    that have one and were given one. Means over the seeds, their sample standard deviation in brackets.
    """
    sweep, cells = read_sweep(SWEEP), []
    for row, scores in found.items():
        for dataset, of_row in scores.items():
            parts = (of_row["f1"], of_row["detection"], of_row.get("typing"))
            numbers = [_mean(part["seeds"]) if part else "–" for part in parts]
            ends = " to ".join(percent(of_row["f1"][end]) for end in ("low", "high"))
            cells.append([sweep.title(row), PROTOCOLS[dataset], str(len(of_row["f1"]["seeds"])), *numbers, ends])
    headings = ["model", "protocol", "seeds", "F1", "detection: F1", "typing: accuracy", "95 % interval of F1"]
    return markdown_table(headings, cells)


def _mean(seeds: Sequence[float]) -> str:
    return percent(statistics.fmean(seeds), statistics.stdev(seeds) if len(seeds) > 1 else None)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="results folder of the sweep")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/leaks"), help="where scores.json goes")
    arguments = parser.parse_args(argv)
    scorer, path = Scorer(resamples=10_000), arguments.output_dir / "scores.json"
    measured, before = measure(arguments.results, scorer), read_if_there(path).get("rows", {})
    rows = [row for row in read_sweep(SWEEP).rows if row in measured or row in before]
    found = {row: before.get(row, {}) | measured.get(row, {}) for row in rows}
    write_json(path, {"split": SPLIT, "resamples": scorer.resamples, "rows": found})
    print(table(found))


if __name__ == "__main__":
    main()
