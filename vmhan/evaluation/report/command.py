"""A table of finished runs, with intervals and tests: Markdown, CSV, LaTeX, JSON and a picture.

    vmhan report results/postcards --rows table2 --reference full --split test --output_dir OUT
    vmhan report results/mnre --rows table1 --reported table1 --split validation --output_dir OUT

Reads RESULTS/DATASET/ROW/seed-N, the folders of vmhan.evaluation.sweep.command. --rows is a sweep file (its rows, titles, seeds and
notes), or names of rows. --reported puts the paper's numbers into a table of their own, marked as reported.
"""

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from model_cards.run_metadata import write_atomically
from vmhan.evaluation.report.files import Report, as_csv, as_json, as_latex, as_markdown
from vmhan.evaluation.report.plot import draw_rows
from vmhan.evaluation.report.reported import read_reported
from vmhan.evaluation.report.rows import Measured, compare, read_row
from vmhan.evaluation.sweep.plan import Sweep, read_sweep


__all__ = ["main", "make_report"]

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    argv = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(argv)
    report = make_report(arguments, command=shlex.join(["vmhan", "report", *argv]))
    write_report(report, Path(arguments.output_dir))
    print(as_markdown(report))
    return 0


def make_report(arguments: argparse.Namespace, command: str) -> Report:
    """Read the runs and compare them.

    Raises:
        ValueError: no finished run of a row that is asked for by name, or of the reference; a run that does not fit.
    """
    folder = Path(arguments.folder)
    names, sweep = _rows(arguments.rows, folder)
    titles = {name: sweep.title(name) if sweep else name for name in names}
    options = {"split": arguments.split, "resamples": arguments.resamples, "wanted": sweep.seeds if sweep else ()}
    found = [(name, read_row(folder / name, title=titles[name], **options)) for name in names]
    missing = [name for name, row in found if row is None]
    rows: list[Measured] = [row for _, row in found if row is not None]
    if missing and not sweep or not rows:
        raise ValueError(f"{folder}: expected finished runs (ROW/seed-N/metrics.json) of {names}, none of {missing}.")
    if missing:
        logger.warning("%s: no finished run of %s", folder, ", ".join(missing))
    reference = arguments.reference or (sweep.reference if sweep else names[0])
    return Report(
        dataset=folder.resolve().name,
        split=arguments.split,
        rows=compare(rows, reference, resamples=arguments.resamples),
        reference=reference,
        resamples=arguments.resamples,
        notes=sweep.datasets.get(folder.resolve().name, {}).get("notes", {}) if sweep else {},
        reported=[row for row in read_reported() if row.table in arguments.reported],
        command=command,
    )


def write_report(report: Report, output_dir: Path) -> None:
    """table.md, table.csv, table.tex, table.json, and figure.png where matplotlib is there."""
    texts = {"table.md": as_markdown(report), "table.csv": as_csv(report), "table.tex": as_latex(report)}
    texts["table.json"] = json.dumps(as_json(report), indent=2) + "\n"
    for name, text in texts.items():
        write_atomically(output_dir / name, text)
    try:
        title = f"{report.dataset}, {report.split} split"
        draw_rows(output_dir / "figure.png", report.rows, reference=report.reference, title=title)
    except ImportError as error:
        logger.warning("%s", error)
    logger.info("wrote %s", output_dir)


def _rows(given: Sequence[str] | None, folder: Path) -> tuple[list[str], Sweep | None]:
    """Names of rows, and the sweep file if the single thing that is given is one and no row has its name."""
    there = sorted({path.parents[1].name for path in folder.glob("*/seed-*/metrics.json")})
    if not given:
        return there, None
    if len(given) == 1 and given[0] not in there:
        sweep = read_sweep(given[0])
        return list(sweep.rows), sweep
    return list(given), None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vmhan report", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="RESULTS/DATASET of vmhan.evaluation.sweep.command.")
    parser.add_argument(
        "--rows", nargs="+", help="A sweep (file, or name in configs/sweeps), or rows; all if left out."
    )
    parser.add_argument("--reference", help="Row that the others are compared with; the sweep's, or the first.")
    parser.add_argument("--split", default="test", help="test or validation.")
    parser.add_argument("--reported", nargs="+", default=[], choices=["table1", "table2"], help="The paper's numbers.")
    parser.add_argument("--resamples", type=int, default=10_000, help="Of the sentences, for intervals and tests.")
    parser.add_argument("--output_dir", required=True)
    return parser
