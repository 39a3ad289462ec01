"""The table of a search: rows of a sweep beside a reference, by F1, by bits and by where `none` is said.

    python -m benchmarks.findings.search RESULTS/mnre_order_blind --reference words --output_dir OUT

RESULTS/DATASET has ROW/seed-N, as `vmhan sweep` and `benchmarks.findings.frozen_text` leave them, with probabilities.
F1 turns on when a model says `none`, so two more columns do not: bits, the mean over pairs of -log2 P(relation) at the
fitted temperature, and F1 with a bias of `none` that is fitted by cross-validation on the split itself
(`vmhan.scoring.none_bias`). Differences are over the seeds that both have, with a 95 % interval over sentences.
Writes OUT/search.json, and prints the table.
"""

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.cells import between, percent
from benchmarks.harness.command import about_call, new_parser
from model_cards.files import write_json
from model_cards.tables import markdown_table
from modeling_vmhan.decision import DecisionRule
from vmhan.evaluation.figures.groups import GROUPINGS, of_group
from vmhan.evaluation.sweep.plan import read_sweep
from vmhan.scoring.bootstrap import Interval, bootstrap_ratio, paired_test
from vmhan.scoring.none_bias import fit_none_bias
from vmhan.scoring.predictions import Predictions
from vmhan.scoring.systems import finished_runs, read_systems, seed_scores


__all__ = ["bits_saved", "compare", "f1_with_bias", "main", "mean_interval", "pair_bits"]

RESAMPLES = 10_000
LEAST = 1e-12  # of a probability


def pair_bits(run: Predictions) -> np.ndarray:
    """(n,) bits that the true relations cost; ValueError for a run without probabilities."""
    if run.probabilities is None:
        raise ValueError(f"{run.path}: expected probabilities, which kept runs do not have. Make the run again.")
    gold = [run.labels.index(label) for label in run.gold]
    return -np.log2(run.probabilities[np.arange(len(run)), gold].clip(LEAST))


def bits_saved(runs: Sequence[Predictions], references: Sequence[Predictions]) -> Interval:
    """Mean bits a pair that the runs cost less than the references, and its interval over sentences."""
    saved = np.mean([pair_bits(b) - pair_bits(a) for a, b in zip(runs, references, strict=True)], axis=0)  # (n,)
    _, sentence = np.unique(runs[0].groups, return_inverse=True)
    return mean_interval(saved, sentence)


def mean_interval(values: np.ndarray, sentence: np.ndarray) -> Interval:
    """Of the mean over pairs (n,), whose sentences have these numbers (n,)."""
    counts = np.stack([np.bincount(sentence, values), np.bincount(sentence)], axis=-1)  # (S, 2)
    return bootstrap_ratio(counts[None], resamples=RESAMPLES)


def f1_with_bias(run: Predictions) -> float | None:
    """Cross-validated F1 with a bias of `none`; None where there are too few relations to fit one."""
    gold = [run.labels.index(label) for label in run.gold]
    rule = DecisionRule(none_id=run.labels.index(run.none_label))
    found = fit_none_bias(np.log(run.probabilities.clip(LEAST)), gold, run.groups, rule)
    return None if found is None else found.f1_cross_validated


def compare(row: dict[int, Predictions], reference: dict[int, Predictions]) -> dict[str, Any]:
    """Scores of a row, whose runs have seeds, as means over these, and its differences from the reference's."""
    runs, shared = [*row.values()], [seed for seed in row if seed in reference]
    found: dict[str, Any] = {
        "seeds": [*row],
        "f1": seed_scores(runs)["f1"],
        "bits": [float(pair_bits(run).mean()) for run in runs],  # first: it says where there are no probabilities
        "f1_with_bias": [value for value in map(f1_with_bias, runs) if value is not None],
    }
    if shared and row is not reference:
        pairs = [row[seed] for seed in shared], [reference[seed] for seed in shared]
        found["difference"] = [*paired_test(*pairs, resamples=RESAMPLES)[:3]]
        found["bits_saved"] = [*bits_saved(*pairs)]
        if "3+" in GROUPINGS["pairs of the sentence"].assign(runs[0].rows, runs[0].none_label):
            many = [[of_group(run, "pairs of the sentence", "3+") for run in side] for side in pairs]
            found["difference_of_three_pairs"] = [*paired_test(*many, resamples=RESAMPLES)[:3]]
    return found


def table(found: dict[str, dict[str, Any]], titles: dict[str, str]) -> str:
    """A row each, the best mean F1 with a bias first."""
    cells = []
    for name, row in sorted(found.items(), key=lambda item: -statistics.fmean(item[1]["f1_with_bias"] or [0])):
        f1, bits = statistics.fmean(row["f1"]), statistics.fmean(row["bits"])
        biased = percent(statistics.fmean(row["f1_with_bias"])) if row["f1_with_bias"] else ""
        of_f1, of_many, of_bits = (
            between(*(scale * row[key][i] for i in (1, 0, 2)), pattern) if key in row else ""
            for key, scale, pattern in (
                ("difference", 100, "+.1f"),
                ("difference_of_three_pairs", 100, "+.1f"),
                ("bits_saved", 1, "+.3f"),
            )
        )
        title = f"{name}: {titles[name]}" if name in titles else name
        cells.append([title, str(len(row["seeds"])), percent(f1), of_f1, of_many, biased, f"{bits:.3f}", of_bits])
    headings = ["row", "seeds", "F1", "difference", "of posts with 3 or more pairs", "F1 with a fitted bias", "bits"]
    return markdown_table([*headings, "bits saved"], cells)


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("folder", type=Path, help="RESULTS/DATASET")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--sweep", default="mnre_search", help="for the rows' titles")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args(argv)
    runs = {row: of for row, of in finished_runs(arguments.folder).items() if row in (arguments.rows or [row])}
    if arguments.reference not in runs:
        raise ValueError(f"--reference: expected one of {list(runs)}, received {arguments.reference!r}.")
    systems = {}
    for system in read_systems(runs, arguments.split):
        seeds = [int(folder.name.removeprefix("seed-")) for folder in system.folders]
        systems[system.name] = dict(zip(seeds, system.predictions, strict=True))
    found = {row: compare(of_row, systems[arguments.reference]) for row, of_row in systems.items()}
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    record = about_call(__spec__.name, argv, reference=arguments.reference, rows=found)
    write_json(arguments.output_dir / "search.json", record)
    print(table(found, {row: of_row.get("title", row) for row, of_row in read_sweep(arguments.sweep).rows.items()}))


if __name__ == "__main__":
    main()
