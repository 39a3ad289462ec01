r"""Error browser: one HTML file about what a run got wrong, which opens offline.

    vmhan browse RUN_DIR --output report.html
    vmhan browse RUN_DIR --split validation --data_dir MNRE_FOLDER --output report.html

RUN_DIR is an --output_dir of run_mmre.py. The page has the scores with their interval, the confusion matrix, each
relation's scores, and every error, the one that the model was surest of first; the --worst N of them with their image
and with the nodes and hyperedges that the model looked at. Sentences and images come from the run's data set, which is
loaded as the run loaded it (give the same --data_dir and --cache_dir); attention needs the run's weights. What is
missing is said on the page. Exit code: 0 written, 2 bad input.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from model_cards.run_metadata import RunMetadata, leak_reasons, read_metadata, write_atomically
from vmhan.evaluation.browser.data import WrongPair, explain, load_posts_of, locate, why_no_attention, wrong_pairs
from vmhan.evaluation.browser.page import render
from vmhan.scoring.bootstrap import bootstrap_f1
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score


__all__ = ["main", "report"]

logger = logging.getLogger(__name__)

LEVEL = 0.95
SHOW = {
    "attention": "everything there is",
    "posts": "no attention, so that no model is run",
    "predictions": "nothing but the run's folder, so no sentences and images either",
}


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments(argv)
    page = report(arguments, made_by=shlex.join(["vmhan", "browse", *argv]))
    write_atomically(arguments.output, page)
    print(f"{arguments.output} ({len(page.encode()) / 1e6:.1f} MB)")
    return 0


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan browse", description=__doc__.split("\n")[0])
    parser.add_argument("run_dir", type=Path, help="--output_dir of a finished run_mmre.py")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--split", default="test", help="of the predictions (default test)")
    parser.add_argument("--worst", type=int, default=50, help="errors that get image and attention (default 50)")
    shown = "; ".join(f"{name}: {meaning}" for name, meaning in SHOW.items())
    parser.add_argument("--show", choices=SHOW, default="attention", help=f"{shown} (default attention)")
    parser.add_argument("--dataset", help="of the run, where that was a local folder")
    parser.add_argument("--data_dir", help="of the run: the folder of the downloaded data")
    parser.add_argument("--cache_dir", help="of the run: where built data sets are kept")
    arguments = parser.parse_args(argv)
    if arguments.worst < 0:
        parser.error(f"--worst: expected a number of errors, 0 or more, received {arguments.worst}")
    return arguments


def report(arguments: argparse.Namespace, made_by: str) -> str:
    """The page.

    Raises:
        ValueError: not the folder of a finished run; no such split; posts that are not those of the predictions.
        OSError: files that cannot be read.
    """
    facts = read_metadata(arguments.run_dir)
    predictions = read_predictions(arguments.run_dir).split(arguments.split)
    pairs = wrong_pairs(predictions.rows, predictions.none_label)
    notes = add_posts(arguments, facts, predictions, pairs)
    page = {
        "title": arguments.run_dir.resolve().name,
        "split": arguments.split,
        "command": facts.run.get("command", ""),
        "facts": describe(facts, predictions),
        "scores": scores_of(predictions, len(pairs)),
        "leaks": leak_reasons(facts.metrics) or [],
        "notes": notes,
        "made_by": made_by,
    }
    return render(page, pairs, predictions)


def add_posts(
    arguments: argparse.Namespace, facts: RunMetadata, predictions: Predictions, pairs: list[WrongPair]
) -> list[str]:
    """Fill in posts and explanations as far as they are wanted and can be had; returns what is missing, and why."""
    if arguments.show == "predictions":
        return ["Sentences, images and attention, as asked by --show predictions."]
    missing = "Attention, as asked by --show posts."
    if arguments.show == "attention":
        missing = why_no_attention(arguments.run_dir, facts)
    local = {name: getattr(arguments, name) for name in ("dataset", "data_dir", "cache_dir")}
    posts = load_posts_of(facts, arguments.split, **local, features=missing is None)
    positions = locate(predictions.rows, posts)
    notes, has_images = [missing] if missing else [], "image" in posts.column_names
    if not has_images:
        notes.append(
            "Images: the run's data set has none. Where its pictures are at hand, build or prepare it with them "
            "(run_mmre.py --images true, datasets_scripts.prepare.command)."
        )
    worst = pairs[: arguments.worst]
    texts = posts.select_columns([name for name in posts.column_names if name != "image"])
    for pair in pairs:
        pair.post = texts[positions[pair.row["id"]]]
    for pair in worst:
        pair.post = posts[positions[pair.row["id"]]]
    if missing is None and worst:
        notes += explain(arguments.run_dir, worst)
    shown = " and ".join(["images"] * has_images + ["attention"] * (missing is None)).capitalize()
    if shown and len(pairs) > len(worst):
        notes.append(f"{shown} of all errors but the first {len(worst)}: ask for more by --worst {len(pairs)}.")
    return notes


def describe(facts: RunMetadata, predictions: Predictions) -> list[tuple[str, Any]]:
    """(name, value) of what tells this run from others."""
    run = facts.run
    found = [
        ("data set", run.get("data", {}).get("dataset")),
        ("model", run.get("model", {}).get("model") or facts.config.get("model_type")),
        ("preset", run.get("model", {}).get("preset")),
        ("seed", facts.metrics.get("seed")),
        ("sentences", len(set(predictions.groups))),
    ]
    return [(name, value) for name, value in found if value is not None]


def scores_of(predictions: Predictions, num_errors: int) -> list[dict[str, str]]:
    """The official scores, in per cent; F1 with its bootstrap interval over sentences."""
    labels, none_label = predictions.labels, predictions.none_label
    numbers = score(predictions.gold, predictions.predicted, labels=labels, none_label=none_label)
    interval = bootstrap_f1(predictions, level=LEVEL)
    between = f"{100 * LEVEL:.0f} % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"
    names = {"f1": "micro F1", "precision": "precision", "recall": "recall", "accuracy": "accuracy, with none"}
    names["macro_f1"] = "macro F1"
    tiles = [{"name": name, "value": f"{100 * numbers[key]:.1f}", "note": ""} for key, name in names.items()]
    tiles[0]["note"] = between
    return [*tiles, {"name": "errors", "value": str(num_errors), "note": f"of {len(predictions.rows)} pairs"}]
