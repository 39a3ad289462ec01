r"""Score the predictions of a run, and compare two: the field's official numbers, with intervals.

    vmhan score outputs/demo --other outputs/demo-text-only --per_relation \
        --confusion confusion.png --output scores.json

RUN is an --output_dir of run_mmre.py or its predictions.jsonl; several are seeds of one system, whose scores are
averaged. Exit code: 0 scored, 2 bad input.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_cards.run_metadata import leak_reasons, write_atomically
from model_cards.tables import markdown_table
from vmhan.scoring.bootstrap import bootstrap_f1, paired_test
from vmhan.scoring.confusion_figure import draw_confusion
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import confusion, per_relation, score


__all__ = ["compare", "main", "relation_rows", "score_rows"]

DEFAULT_SPLITS = ("test", "validation")


def score_rows(runs: Sequence[Predictions], *, resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """A row a run and, for several seeds, a last one with their mean.

    Returns:
        dicts with run (its folder), leaky (what its metrics.json says; None when it says nothing), the scores of
        `vmhan.scoring.scorer.score`, and f1_low and f1_high, the 95 % interval of F1.

    Raises:
        ValueError: as `bootstrap_f1`.
    """
    options = {"resamples": resamples, "seed": seed}
    rows = []
    for run in runs:
        scores = score(run.gold, run.predicted, labels=run.labels, none_label=run.none_label)
        rows.append({"run": _name(run), "leaky": _leaky(run), **scores, **_interval(bootstrap_f1(run, **options))})
    if len(runs) > 1:
        means = {name: float(np.mean([row[name] for row in rows])) for name in scores}
        marks = {row["leaky"] for row in rows}
        leaky = next(mark for mark in (True, None, False) if mark in marks)  # the worst that is said, or not said
        mean = {"run": f"mean of {len(runs)}", "leaky": leaky, **means}
        rows.append(mean | _interval(bootstrap_f1(list(runs), **options)))
    return rows


def relation_rows(runs: Sequence[Predictions], labels: Sequence[str]) -> list[dict[str, Any]]:
    """`vmhan.scoring.scorer.per_relation` in the order of `labels`, mean over the runs."""
    tables = [per_relation(run.gold, run.predicted, labels=labels, none_label=run.none_label) for run in runs]
    return [
        same[0] | {name: float(np.mean([row[name] for row in same])) for name in ("precision", "recall", "f1")}
        for same in zip(*tables, strict=True)
    ]


def compare(
    runs: Sequence[Predictions], others: Sequence[Predictions] = (), *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Everything that the command line writes, JSON-able; all predictions are of one split.

    Raises:
        ValueError: runs of other labels, or of other pairs (as `paired_test`).
    """
    labels, everyone = runs[0].labels, [*runs, *others]
    for run in everyone:
        if set(run.labels) != set(labels):
            odd = sorted(set(run.labels) ^ set(labels))
            raise ValueError(
                f"{runs[0].path} and {run.path}: expected the same labels, received {odd} in one of them only. "
                "Compare runs on the same data set."
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


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = _parse(argv)
    read = [read_predictions(path, arguments.labels, arguments.none_label) for path in arguments.runs]
    read_other = [read_predictions(path, arguments.labels, arguments.none_label) for path in arguments.other]
    split = arguments.split or _default_split([*read, *read_other])
    runs, others = [run.split(split) for run in read], [run.split(split) for run in read_other]
    report = compare(runs, others, resamples=arguments.resamples, seed=arguments.seed)
    if arguments.confusion:
        name = _name(runs[0]) if len(runs) == 1 else f"{len(runs)} runs, counts added"
        draw_confusion(arguments.confusion, **report["confusion"], title=f"{name}: {split}")
    if arguments.output:
        write_atomically(arguments.output, json.dumps(report, indent=2) + "\n")
    print(_page(report, with_relations=arguments.per_relation))
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan score", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder or file; several are seeds")
    parser.add_argument("--split", help="test if there, else validation")
    parser.add_argument("--other", nargs="+", type=Path, default=[], metavar="RUN", help="what to compare with")
    parser.add_argument("--per_relation", action="store_true", help="a table of the relations, too")
    parser.add_argument("--confusion", type=Path, metavar="PICTURE.png", help="draw the confusion matrix of RUN")
    parser.add_argument("--output", type=Path, metavar="SCORES.json", help="write everything as JSON")
    parser.add_argument(
        "--labels", nargs="+", help="every label in the order of the ids, where config.json is missing"
    )
    parser.add_argument("--none_label", help="the label that means no relation; else found by its name")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples of the sentences")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    return parser.parse_args(argv)


def _default_split(runs: Sequence[Predictions]) -> str:
    for name in DEFAULT_SPLITS:
        if all(name in run.splits for run in runs):
            return name
    received = {_name(run): run.splits for run in runs}
    raise ValueError(f"expected test or validation in every run, received the splits {received}. Pass --split NAME.")


def _name(run: Predictions) -> str:
    return str(run.path.parent if run.path.name == "predictions.jsonl" else run.path)


def _leaky(run: Predictions) -> bool | None:
    """What the metrics.json beside the predictions says of leaks; None when it says nothing or is not there."""
    path = run.path.with_name("metrics.json")
    if not path.is_file():
        return None
    try:
        reasons = leak_reasons(json.loads(path.read_bytes()))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object, received none that can be read ({error}). Run run_mmre.py again, or "
            "move the predictions to a folder of their own."
        ) from error
    return None if reasons is None else bool(reasons)


def _interval(interval) -> dict[str, float]:
    return {"f1_low": interval.low, "f1_high": interval.high}


def _page(report: dict[str, Any], *, with_relations: bool) -> str:
    """The report in Markdown, scores in percent as the field prints them."""
    rows, others = report["scores"], report.get("other_scores", [])
    counted = f"{report['pairs']} pairs of {report['sentences']} sentences"
    parts = [f"{report['split']}: {counted}; 95 % intervals of {report['resamples']} resamples of the sentences"]
    headings = ["run", "accuracy", "precision", "recall", "F1 (95 % interval)", "macro F1"]
    parts.append(markdown_table(headings, map(_score_cells, [*rows, *others])))
    if others:
        difference, low, high = (f"{100 * report['comparison'][name]:+.2f}" for name in ("difference", "low", "high"))
        parts.append(
            f"{rows[-1]['run']} minus {others[-1]['run']}: F1 {difference} ({low} to {high}), "
            f"p = {report['comparison']['p_value']:.2g} (paired bootstrap, two-sided)"
        )
    if with_relations:
        headings = ["relation", "precision", "recall", "F1", "support"] + ["F1 of the other"] * bool(others)
        parts.append(markdown_table(headings, _relation_cells(report)))
    return "\n\n".join(parts)


def _score_cells(row: dict[str, Any]) -> list[str]:
    accuracy, precision, recall, f1, low, high, macro = (
        f"{100 * row[name]:.2f}" for name in ("accuracy", "precision", "recall", "f1", "f1_low", "f1_high", "macro_f1")
    )
    name = f"{row['run']} (leaky)" if row["leaky"] else row["run"]
    return [name, accuracy, precision, recall, f"{f1} ({low} to {high})", macro]


def _relation_cells(report: dict[str, Any]) -> list[list[str]]:
    cells = []
    for i, row in enumerate(report["per_relation"]):
        shown = [f"{100 * row[name]:.2f}" for name in ("precision", "recall", "f1")]
        cells.append([row["relation"], *shown, str(row["support"])])
        if "other_per_relation" in report:
            cells[-1].append(f"{100 * report['other_per_relation'][i]['f1']:.2f}")
    return cells
