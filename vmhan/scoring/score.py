r"""Score the predictions of a run, and compare two: the field's official numbers, with intervals.

    vmhan score outputs/demo --other outputs/demo-text-only --per_relation \
        --confusion confusion.png --output scores.json

RUN is an --output_dir of run_mmre.py or its predictions.jsonl; several are seeds of one system, whose scores are
averaged.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_cards.files import write_json
from model_cards.run_metadata import leak_reasons
from model_cards.tables import markdown_table
from vmhan.scoring.bootstrap import bootstrap_f1, paired_test
from vmhan.scoring.pictures import draw_confusion
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import confusion, per_relation
from vmhan.scoring.systems import read_if_there, seed_scores, warn_of_differing_settings


__all__ = ["compare", "main", "relation_rows", "score_rows"]

PER_RELATION = ("precision", "recall", "f1")


def score_rows(runs: Sequence[Predictions], *, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """A row a run and, for several seeds, a last one with their mean; ValueError as `bootstrap_f1`.

    A row has run (its folder), leaky (by its metrics.json, None if not said; for the mean the worst), the scores of
    `vmhan.scoring.scorer.score`, and f1_low and f1_high, the 95 % interval of F1.
    """
    leaks = [leak_reasons(read_if_there(run.path.with_name("metrics.json"))) for run in runs]
    marks = [None if reasons is None else bool(reasons) for reasons in leaks]
    named = [(_name(run), mark, [run]) for run, mark in zip(runs, marks, strict=True)]
    if len(runs) > 1:
        named.append((f"mean of {len(runs)}", next(m for m in (True, None, False) if m in marks), list(runs)))
    rows = []
    for name, leaky, seeds in named:
        scores = {metric: float(np.mean(values)) for metric, values in seed_scores(seeds).items()}
        _, low, high = bootstrap_f1(seeds, resamples=resamples, seed=seed)
        rows.append({"run": name, "leaky": leaky, **scores, "f1_low": low, "f1_high": high})
    return rows


def relation_rows(runs: Sequence[Predictions], labels: Sequence[str]) -> list[dict[str, Any]]:
    """`vmhan.scoring.scorer.per_relation` in the order of `labels`, mean over the runs."""
    tables = [per_relation(run.gold, run.predicted, labels=labels, none_label=run.none_label) for run in runs]
    return [
        same[0] | {name: float(np.mean([row[name] for row in same])) for name in PER_RELATION}
        for same in zip(*tables, strict=True)
    ]


def compare(
    runs: Sequence[Predictions], others: Sequence[Predictions] = (), *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Everything that the command writes, JSON-able; ValueError for runs of other labels or other pairs."""
    labels = runs[0].labels
    for system in (runs, others):
        warn_of_differing_settings([run.path.parent for run in system])
    for run in [*runs, *others]:
        if different := set(run.labels) ^ set(labels):
            raise ValueError(
                f"{runs[0].path} and {run.path}: expected the same labels, received {sorted(different)} in one of "
                "them only. Compare runs on the same data set."
            )
    options = {"resamples": resamples, "seed": seed}
    report = {"split": runs[0].rows[0]["split"], "pairs": len(runs[0]), "sentences": len(set(runs[0].groups))}
    report |= {**options, "scores": score_rows(runs, **options), "per_relation": relation_rows(runs, labels)}
    counts = sum(confusion(run.gold, run.predicted, labels=labels) for run in runs)
    report["confusion"] = {"labels": labels, "counts": counts.tolist()}
    if others:
        report["other_scores"] = score_rows(others, **options)
        report["other_per_relation"] = relation_rows(others, labels)
        report["comparison"] = paired_test(runs, others, **options)._asdict()
    return report


def main(argv: list[str] | None = None) -> None:
    """The command; ValueError, OSError or ImportError for what cannot be scored."""
    arguments = _parse(argv)
    read, read_other = (
        [read_predictions(path, arguments.labels, arguments.none_label) for path in paths]
        for paths in (arguments.runs, arguments.other)
    )
    split = arguments.split or _default_split([*read, *read_other])
    runs, others = [run.split(split) for run in read], [run.split(split) for run in read_other]
    report = compare(runs, others, resamples=arguments.resamples, seed=arguments.seed)
    if arguments.confusion:
        name = _name(runs[0]) if len(runs) == 1 else f"{len(runs)} runs, counts added"
        draw_confusion(arguments.confusion, **report["confusion"], title=f"{name}: {split}")
    if arguments.output:
        write_json(arguments.output, report)
    print(_page(report, with_relations=arguments.per_relation))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan score", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder or file; several are seeds")
    parser.add_argument("--split", help="test if there, else validation")
    parser.add_argument("--other", nargs="+", type=Path, default=[], metavar="RUN", help="what to compare with")
    parser.add_argument("--per_relation", action="store_true", help="also print a table of the relations")
    parser.add_argument("--confusion", type=Path, metavar="PICTURE.png", help="draw the confusion matrix of RUN")
    parser.add_argument("--output", type=Path, metavar="SCORES.json", help="write everything as JSON")
    parser.add_argument("--labels", nargs="+", help="every label in the order of the ids, without a config.json")
    parser.add_argument("--none_label", help="the label that means no relation; else found by its name")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples of the sentences")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    return parser.parse_args(argv)


def _default_split(runs: Sequence[Predictions]) -> str:
    for name in ("test", "validation"):
        if all(name in run.splits for run in runs):
            return name
    received = {_name(run): run.splits for run in runs}
    raise ValueError(f"--split: expected test or validation in every run, received the splits {received}. Name one.")


def _name(run: Predictions) -> str:
    return str(run.path.parent if run.path.name == "predictions.jsonl" else run.path)


def _page(report: dict[str, Any], *, with_relations: bool) -> str:
    """The report in Markdown, scores in per cent."""
    rows, others = report["scores"], report.get("other_scores", [])
    counted = f"{report['pairs']} pairs of {report['sentences']} sentences"
    parts = [f"{report['split']}: {counted}; 95 % intervals of {report['resamples']} resamples of the sentences"]
    cells = []
    for row in [*rows, *others]:
        name = row["run"] + " (leaky)" * bool(row["leaky"])
        low, high, macro_f1 = _percent(row, "f1_low", "f1_high", "macro_f1")
        *scores, f1 = _percent(row, "accuracy", *PER_RELATION)
        cells.append([name, *scores, f"{f1} ({low} to {high})", macro_f1])
    parts.append(markdown_table(["run", "accuracy", "precision", "recall", "F1 (95 % interval)", "macro F1"], cells))
    if others:
        difference, low, high = (f"{100 * report['comparison'][name]:+.2f}" for name in ("difference", "low", "high"))
        parts.append(
            f"{rows[-1]['run']} minus {others[-1]['run']}: F1 {difference} ({low} to {high}), "
            f"p = {report['comparison']['p_value']:.2g} (paired bootstrap, two-sided)"
        )
    if with_relations:
        cells = [
            [row["relation"], *_percent(row, *PER_RELATION), str(row["support"])] for row in report["per_relation"]
        ]
        for row, other in zip(cells, report.get("other_per_relation", [])):
            row += _percent(other, "f1")
        headings = ["relation", "precision", "recall", "F1", "support"] + ["F1 of the other"] * bool(others)
        parts.append(markdown_table(headings, cells))
    return "\n\n".join(parts)


def _percent(row: dict[str, Any], *names: str) -> list[str]:
    return [f"{100 * row[name]:.2f}" for name in names]
