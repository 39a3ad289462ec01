"""Figures 3 to 6 of the paper, and three that it does not have, from what finished runs saved; nothing is trained.

    vmhan figures RUN_DIR [RUN_DIR ...] --output_dir OUT
    vmhan figures --results RESULTS/DATASET --rows full no_kl bert --output_dir OUT

For each figure it writes OUT/figures/NAME.json (every number, with pairs, sentences and interval) and, with
matplotlib, NAME.png and NAME.svg: fig3_entities, fig4_sentences, fig5_visual_share (from visual_share.json, which
`vmhan visual-share` writes), fig6_time, spans, detection, calibration.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_cards.run_metadata import write_atomically
from vmhan.evaluation.figures.data import calibration, detection, grouped, time_against_f1, visual_shares
from vmhan.evaluation.figures.drawing import draw_figure
from vmhan.evaluation.figures.rows import Row, Scorer, rows_of_folders, rows_of_results


__all__ = ["main", "make_figures"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """The command.

    Raises:
        ValueError: neither or both of run folders and --results with --rows.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dirs", nargs="*", metavar="RUN_DIR", help="finished --output_dir of run_mmre.py")
    parser.add_argument("--results", help="folder of a sweep, RESULTS/DATASET, which has ROW/seed-N")
    parser.add_argument("--rows", nargs="+", default=[], help="rows of --results to compare, in this order")
    parser.add_argument("--reference", help="row of --results (or run folder) whose epoch is Figure 6's unit of time")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over sentences")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    if bool(arguments.run_dirs) == bool(arguments.results and arguments.rows):
        raise ValueError(
            "expected either run folders or --results with --rows, received "
            f"{arguments.run_dirs}, --results {arguments.results} and --rows {arguments.rows}."
        )

    def read(names: Sequence[str]) -> list[Row]:
        if arguments.results:
            return rows_of_results(arguments.results, names, arguments.split)
        return rows_of_folders(names, arguments.split)

    rows = read(arguments.rows or arguments.run_dirs)
    reference = read([arguments.reference])[0] if arguments.reference else None
    make_figures(rows, arguments.output_dir, arguments.split, Scorer(arguments.resamples), reference)


def make_figures(
    rows: Sequence[Row], output_dir: str | Path, split: str, scorer: Scorer, reference: Row | None = None
) -> dict[str, dict[str, Any]]:
    """Write every figure of these rows; returns their data by name.

    Args:
        rows: of the same pairs, see `vmhan.evaluation.figures.rows`. split: theirs. reference: as in `time_against_f1`.
    """
    figures = {
        "fig3_entities": grouped("Figure 3", "entities", ("repetition", "entity types"), rows, scorer),
        "fig4_sentences": grouped("Figure 4", "pairs of a sentence", ("pairs of the sentence",), rows, scorer),
        "fig5_visual_share": visual_shares(rows, split, scorer),
        "fig6_time": time_against_f1(rows, scorer, reference),
        "spans": grouped("spans", "where the mentions stand", ("overlap", "order"), rows, scorer),
        "detection": detection(rows, scorer),
        "calibration": calibration(rows),
    }
    folder = Path(output_dir) / "figures"
    of = {
        "split": split,
        "runs": {row.name: [str(Path(*path.parts[-2:])) for path in row.folders] for row in rows},
        "interval": {"level": scorer.level, "resamples": scorer.resamples, "over": "sentences", "seed": scorer.seed},
    }
    for name, data in figures.items():
        write_atomically(folder / f"{name}.json", json.dumps(data | of, indent=2) + "\n")
        for note in data["notes"]:
            logger.info("%s: %s", name, note)
        if data["panels"]:
            _draw(data, folder / name, _subtitle(rows, split, None if name == "calibration" else scorer))
    logger.info("wrote %s", folder)
    return figures


def _draw(data: dict[str, Any], stem: Path, subtitle: str) -> None:
    try:
        draw_figure(data, stem, subtitle)
    except ImportError as error:
        logger.warning("%s", error)


def _subtitle(rows: Sequence[Row], split: str, scorer: Scorer | None) -> str:
    """What was scored; without a scorer there are no intervals, and the seeds' pairs are pooled."""
    counts = sorted({len(row.folders) for row in rows})
    of = "mean over" if scorer else "pairs of"
    seeds = "1 seed" if counts == [1] else f"{of} {' or '.join(map(str, counts))} seeds"
    return f"{split} split, {seeds}" + (f", {100 * scorer.level:.0f} % intervals over sentences" if scorer else "")
