r"""Error browser: one HTML file about what a run got wrong, which opens offline.

    vmhan browse RUN_DIR --split validation --data_dir MNRE_FOLDER --output report.html

The page has the scores, the confusion matrix, each relation's scores, and every error, the surest first; the --worst N
of them with their image and with what the model looked at, for which it needs the run's weights. Posts are loaded as
the run loaded them (give the same --data_dir and --cache_dir). The page says what is missing.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from model_cards.files import write_text
from model_cards.run_metadata import RunMetadata, leak_reasons, read_metadata
from vmhan.evaluation.browser.data import WrongPair, explain, why_no_attention, wrong_pairs
from vmhan.evaluation.browser.page import render
from vmhan.evaluation.run_posts import LOCAL, load_run_posts
from vmhan.scoring.bootstrap import bootstrap_f1
from vmhan.scoring.predictions import Predictions, read_predictions
from vmhan.scoring.scorer import score


__all__ = ["main", "report"]

FEATURE_COLUMNS = ("image_features", "object_features")
SHOW = {
    "attention": "everything there is",
    "posts": "no attention, so that no model is run",
    "predictions": "nothing but the run's folder, so no sentences and images either",
}
SCORES = {"f1": "micro F1", "precision": "precision", "recall": "recall", "accuracy": "accuracy, with none"}
SCORES |= {"macro_f1": "macro F1"}


def main(argv: list[str] | None = None) -> None:
    """The command; ValueError or OSError for what cannot be shown."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments(argv)
    page = report(arguments, made_by=shlex.join(["vmhan", "browse", *argv]))
    write_text(arguments.output, page)
    print(f"{arguments.output} ({len(page.encode()) / 1e6:.1f} MB)")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan browse", description=__doc__.split("\n")[0])
    parser.add_argument("run_dir", type=Path, help="--output_dir of a finished run_mmre.py")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--split", default="test", help="of the predictions (default test)")
    parser.add_argument("--worst", type=int, default=50, help="errors that get image and attention (default 50)")
    shown = "; ".join(f"{name}: {meaning}" for name, meaning in SHOW.items())
    parser.add_argument("--show", choices=SHOW, default="attention", help=f"{shown} (default attention)")
    for name in LOCAL:
        parser.add_argument(f"--{name}", help="as the run was given it, where run.json cannot say it")
    arguments = parser.parse_args(argv)
    if arguments.worst < 0:
        raise ValueError(f"--worst: expected a number of errors, 0 or more, received {arguments.worst}")
    return arguments


def report(arguments: argparse.Namespace, made_by: str) -> str:
    """The page; ValueError or OSError for what is no finished run, no split of it, or not its posts."""
    metadata = read_metadata(arguments.run_dir)
    predictions = read_predictions(arguments.run_dir).split(arguments.split)
    pairs = wrong_pairs(predictions.rows, predictions.none_label)
    notes = add_posts(arguments, metadata, predictions, pairs)
    data, model = metadata.run.get("data", {}), metadata.run.get("model", {})
    about = {"data set": data.get("dataset"), "model": model.get("model") or metadata.config.get("model_type")}
    about |= {"preset": model.get("preset"), "seed": metadata.metrics.get("seed")}
    about["sentences"] = len(set(predictions.groups))
    page = {"title": arguments.run_dir.resolve().name, "split": arguments.split, "made_by": made_by, "notes": notes}
    page["about"] = [(name, value) for name, value in about.items() if value is not None]
    page |= {"scores": scores_of(predictions, len(pairs)), "leaks": leak_reasons(metadata.metrics) or []}
    page["command"] = metadata.run.get("command", "")
    return render(page, pairs, predictions)


def add_posts(
    arguments: argparse.Namespace, metadata: RunMetadata, predictions: Predictions, pairs: list[WrongPair]
) -> list[str]:
    """Fill in posts and explanations as far as they are wanted and can be had; returns what is missing, and why."""
    if arguments.show == "predictions":
        return ["Sentences, images and attention, as asked by --show predictions."]
    missing = "Attention, as asked by --show posts."
    if arguments.show == "attention":
        missing = why_no_attention(arguments.run_dir, metadata)
    local = {name: getattr(arguments, name) for name in LOCAL}
    without = ["features"] if missing else []  # only a model looks at them
    posts = load_run_posts(metadata.run.get("data", {}), predictions.rows, local=local, without=without)
    if missing:
        posts = posts.remove_columns([name for name in FEATURE_COLUMNS if name in posts.column_names])
    notes, has_images = [missing] if missing else [], "image" in posts.column_names
    if not has_images:
        notes.append("Images: the run's data set has none. Build or prepare it with its pictures to see them.")
    positions = {name: position for position, name in enumerate(posts["id"])}
    worst = pairs[: arguments.worst]
    texts = posts.select_columns([name for name in posts.column_names if name != "image"])
    for i, pair in enumerate(pairs):
        pair.post = (posts if i < len(worst) else texts)[positions[pair.row["id"]]]
    if missing is None and worst:
        notes += explain(arguments.run_dir, worst)
    shown = " and ".join(["images"] * has_images + ["attention"] * (missing is None)).capitalize()
    if shown and len(pairs) > len(worst):
        notes.append(f"{shown} of all errors but the first {len(worst)}: ask for more by --worst {len(pairs)}.")
    return notes


def scores_of(predictions: Predictions, num_errors: int) -> list[dict[str, Any]]:
    """The official scores, in per cent; F1 with its bootstrap interval over sentences."""
    labels, none_label = predictions.labels, predictions.none_label
    numbers = score(predictions.gold, predictions.predicted, labels=labels, none_label=none_label)
    _, low, high = bootstrap_f1(predictions)
    tiles = [{"name": name, "value": f"{100 * numbers[key]:.1f}"} for key, name in SCORES.items()]
    tiles[0]["note"] = f"95 % interval {100 * low:.1f} to {100 * high:.1f}"
    return [*tiles, {"name": "errors", "value": str(num_errors), "note": f"of {len(predictions)} pairs"}]
