"""Figures 3 to 6 of the paper, and four that it does not have, from what finished runs saved; nothing is trained.

    vmhan figures RUN_DIR [RUN_DIR ...] --output_dir OUT
    vmhan figures --results RESULTS/DATASET --rows full no_kl bert --output_dir OUT

For each figure it writes OUT/figures/NAME.json (every number, with pairs, sentences and interval) and, with
matplotlib, NAME.png and NAME.svg. Figure 5 reads what `vmhan visual-share` writes.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_cards.files import write_json
from vmhan.evaluation.figures.data import Scorer, calibration, detection, grouped, time_against_f1, visual_shares
from vmhan.evaluation.figures.drawing import draw_figure
from vmhan.evaluation.figures.error_detection import error_detection
from vmhan.scoring.systems import System, finished_runs, read_systems


__all__ = ["folders_of_results", "folders_of_runs", "main", "make_figures"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """The command; ValueError for runs that cannot be read or compared."""
    parser = argparse.ArgumentParser("vmhan figures", description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", nargs="*", metavar="RUN_DIR", help="finished --output_dir of run_mmre.py")
    parser.add_argument("--results", type=Path, help="folder of a sweep, RESULTS/DATASET, which has ROW/seed-N")
    parser.add_argument("--rows", nargs="+", default=[], help="rows of --results to compare, in this order")
    parser.add_argument("--reference", help="row of --results (or run folder) whose epoch is Figure 6's unit of time")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over sentences")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    of_results = bool(arguments.results), bool(arguments.rows)
    if of_results[0] != of_results[1] or of_results[0] == bool(arguments.run_dirs):
        raise ValueError(
            "expected either run folders or --results with --rows, received "
            f"{arguments.run_dirs}, --results {arguments.results} and --rows {arguments.rows}."
        )

    def read(names: Sequence[str]) -> list[System]:
        folders = folders_of_results(arguments.results, names) if arguments.results else folders_of_runs(names)
        return read_systems(folders, arguments.split)

    reference = read([arguments.reference])[0] if arguments.reference else None
    scorer, systems = Scorer(arguments.resamples), read(arguments.rows or arguments.run_dirs)
    make_figures(systems, arguments.output_dir, arguments.split, scorer, reference)


def folders_of_results(results: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Names of rows of RESULTS/DATASET -> the folders of their finished seeds; ValueError for a row without."""
    there = finished_runs(results)
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"rows {missing}: expected finished runs in {results}/ROW/seed-N. Rows there: {list(there)}.")
    return {name: there[name] for name in names}


def folders_of_runs(folders: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Run folders by the name of their row: the folder's, or for `seed-N` folders that of their parent."""
    of_row: dict[Path, list[Path]] = {}
    for folder in map(Path, folders):
        absolute = folder.absolute()
        of_row.setdefault(absolute.parent if absolute.name.startswith("seed-") else absolute, []).append(folder)
    named = {path.name: found for path, found in of_row.items()}
    if len(named) < len(of_row):
        raise ValueError(f"expected run folders of different names, received {sorted(map(str, of_row))}.")
    return named


def make_figures(
    systems: Sequence[System], output_dir: str | Path, split: str, scorer: Scorer, reference: System | None = None
) -> dict[str, dict[str, Any]]:
    """Write every figure of these systems, which have the same pairs of this split; returns their data by name."""
    pairs = ("pairs of the sentence",)
    figures = {
        "fig3_entities": grouped("Figure 3", "entities", ("repetition", "entity types"), systems, scorer),
        "fig4_sentences": grouped("Figure 4", "pairs of a sentence", pairs, systems, scorer),
        "fig5_visual_share": visual_shares(systems, split, scorer),
        "fig6_time": time_against_f1(systems, scorer, reference),
        "spans": grouped("spans", "where the mentions stand", ("overlap", "order"), systems, scorer),
        "detection": detection(systems, scorer),
        "calibration": calibration(systems),
        "error_detection": error_detection(systems, **vars(scorer)),
    }
    folder = Path(output_dir) / "figures"
    runs = {system.name: [str(Path(*path.parts[-2:])) for path in system.folders] for system in systems}
    of = {"split": split, "runs": runs, "interval": {**vars(scorer), "over": "sentences"}}
    counts = sorted({len(system.folders) for system in systems})
    for name, data in figures.items():
        write_json(folder / f"{name}.json", data | of)
        for note in data["notes"]:
            logger.info("%s: %s", name, note)
        pooled = name == "calibration"  # there are no intervals there, and the seeds' pairs are pooled
        seeds = f"{'pairs of' if pooled else 'mean over'} {' or '.join(map(str, counts))} seeds"
        interval = "" if pooled else f", {100 * scorer.level:.0f} % intervals over sentences"
        if data["panels"]:
            try:
                draw_figure(data, folder / name, f"{split} split, {'1 seed' if counts == [1] else seeds}{interval}")
            except ImportError as error:
                logger.warning("%s", error)
    logger.info("wrote %s", folder)
    return figures
