"""A table of finished runs, with intervals and tests: Markdown, CSV, LaTeX, JSON and a picture.

    vmhan report results/postcards --rows table2 --reference full --split test --output_dir OUT
    vmhan report results/mnre --rows table1 --reported table1 --split validation --output_dir OUT

It reads RESULTS/DATASET/ROW/seed-N, the folders that `vmhan sweep` makes. --rows is a sweep file (its rows, titles,
seeds and notes), or names of rows. --reported puts the paper's numbers into a table of their own.
"""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from model_cards.files import write_json, write_text
from vmhan.evaluation.report.files import Report, as_csv, as_json, as_latex, as_markdown
from vmhan.evaluation.report.plot import draw_rows
from vmhan.evaluation.report.reported import read_reported
from vmhan.evaluation.report.rows import compare, read_row
from vmhan.evaluation.sweep.plan import Sweep, read_sweep
from vmhan.scoring.systems import finished_runs


__all__ = ["main", "make_report"]

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ValueError or OSError for what cannot be reported. Returns the exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(argv)
    report = make_report(arguments, command=shlex.join(["vmhan", "report", *argv]))
    folder = Path(arguments.output_dir)
    for suffix, write in {"md": as_markdown, "csv": as_csv, "tex": as_latex}.items():
        write_text(folder / f"table.{suffix}", write(report))
    write_json(folder / "table.json", as_json(report))
    try:
        title = f"{report.dataset}, {report.split} split"
        draw_rows(folder / "figure.png", report.rows, reference=report.reference, title=title)
    except ImportError as error:
        logger.warning("%s", error)
    logger.info("wrote %s", folder)
    print(as_markdown(report))
    return 0


def make_report(arguments: argparse.Namespace, command: str) -> Report:
    """Read the runs and compare them; ValueError for a named row (or reference) without finished runs."""
    folder = Path(arguments.folder)
    dataset = folder.resolve().name
    names, sweep = _rows(arguments.rows, folder)
    options = {"split": arguments.split, "resamples": arguments.resamples, "wanted": sweep.seeds if sweep else ()}
    options["only"] = only = tuple(arguments.only) if arguments.only else None
    found = {name: read_row(folder / name, title=sweep.title(name) if sweep else name, **options) for name in names}
    rows, missing = [row for row in found.values() if row], [name for name, row in found.items() if row is None]
    if missing and not sweep or not rows:
        received = (
            f"of {names}, none of {missing}" if names else "there, received none. Pass RESULTS/DATASET of a sweep"
        )
        raise ValueError(f"{folder}: expected finished runs (ROW/seed-N/metrics.json) {received}.")
    if missing:
        logger.warning("%s: no finished run of %s", folder, ", ".join(missing))
    reference = arguments.reference or (sweep.reference if sweep else names[0])
    return Report(
        dataset=dataset,
        split=arguments.split,
        rows=compare(rows, reference, resamples=arguments.resamples),
        reference=reference,
        resamples=arguments.resamples,
        notes=sweep.datasets.get(dataset, {}).get("notes", {}) if sweep else {},
        reported=[row for row in read_reported() if row.table in arguments.reported],
        command=command,
        only=only,
    )


def _rows(given: Sequence[str] | None, folder: Path) -> tuple[list[str], Sweep | None]:
    """Names of rows, and the sweep file if the single thing that is given is one and no row has its name."""
    there = list(finished_runs(folder))
    if given and len(given) == 1 and given[0] not in there:
        sweep = read_sweep(given[0])
        return list(sweep.rows), sweep
    return list(given or there), None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vmhan report", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="RESULTS/DATASET of vmhan sweep")
    parser.add_argument("--rows", nargs="+", help="a sweep (file, or name in configs/sweeps), or rows; default: all")
    parser.add_argument("--reference", help="row that the others are compared with; the sweep's, or the first")
    parser.add_argument("--split", default="test", help="test or validation")
    words = "only pairs of this group, such as: --only 'pairs of the sentence' 3+"
    parser.add_argument("--only", nargs=2, metavar=("GROUPING", "GROUP"), help=words)
    parser.add_argument("--reported", nargs="+", default=[], choices=["table1", "table2"], help="the paper's numbers")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the sentences, for intervals and tests")
    parser.add_argument("--output_dir", required=True)
    return parser
