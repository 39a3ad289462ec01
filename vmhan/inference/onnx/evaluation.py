"""Measure F1 and time of the exported forms on the validation split, post by post beside each other."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm

from vmhan.inference.onnx.exporting import ExportableClassifier, Run, filled_tensors
from vmhan.inference.onnx.runtime import onnx_session, run_session
from vmhan.scoring.bootstrap import bootstrap_f1, paired_test
from vmhan.scoring.predictions import Predictions
from vmhan.training.arguments import parse_arguments
from vmhan.training.posts.data import load_posts
from vmhan.training.posts.mapped_features import with_mapped_features
from vmhan.training.results import prediction_rows


__all__ = ["SPLIT", "evaluate", "load_validation"]

SPLIT = "validation"


class Answers(NamedTuple):
    """The logits (pairs, R) that one form of the model gives for each post, and the seconds that its pass took."""

    logits: list[np.ndarray]
    seconds: list[float]


def load_validation(argv: list[str]) -> datasets.Dataset:
    """Load the validation split that run_mmre.py would take with these arguments; ValueError if there is none."""
    _, data_args, run_args = parse_arguments([*argv, "--do_train", "false"])
    posts = load_posts(data_args, run_args)
    if SPLIT not in posts:
        raise ValueError(f"--evaluate: expected data with a {SPLIT} split, received {list(posts)}. Name other data.")
    return with_mapped_features(posts[SPLIT])


def evaluate(model, processor, posts: datasets.Dataset, folder: Path, files: Iterable[str]) -> dict[str, Any]:
    """Measure the model and the ONNX `files`, with equally many threads; ValueError for posts of other labels."""
    config, threads = model.config, torch.get_num_threads()
    names = posts.features["pairs"].feature["relation"].names
    if names != config.labels:
        raise ValueError(
            f"--evaluate: expected data with the model's labels {config.labels}, received {names}. Name the data that "
            "the model was trained on."
        )
    eager = ExportableClassifier(model)
    runs: dict[str, Run] = {"torch": lambda inputs: eager(inputs)}
    runs |= {name: partial(run_session, onnx_session(folder / name, num_threads=threads)) for name in files}
    answers = answer_one_by_one(posts, processor, config, runs)
    gold = [[pair["relation"] for pair in post["pairs"]] for post in posts.select_columns(["pairs"])]
    forms, before = {}, {}
    for name, own in answers.items():
        result = SimpleNamespace(predictions=own.logits, label_ids=gold)
        rows = prediction_rows(result, posts, SPLIT, config)
        predictions = Predictions(rows=rows, labels=config.labels, none_label=config.none_label, path=Path(name))
        forms[name] = {
            "f1": bootstrap_f1(predictions)._asdict(),
            "milliseconds_per_post": 1000 * float(np.median(own.seconds)),
        }
        for other, (its, its_predictions) in before.items():
            differences = [abs(a - b).max() for a, b in zip(own.logits, its.logits, strict=True)]
            scores = [(a["score"], b["score"]) for a, b in zip(rows, its_predictions.rows, strict=True)]
            same = [a["predicted"] == b["predicted"] for a, b in zip(rows, its_predictions.rows, strict=True)]
            ratios = np.quantile(np.array(own.seconds) / np.array(its.seconds), [0.25, 0.5, 0.75]).tolist()
            forms[name][f"against {other}"] = {
                "f1_difference": paired_test(predictions, its_predictions)._asdict(),
                "largest_logit_difference": float(max(differences)),
                "same_answers": float(np.mean(same)),
                "largest_score_difference": max(abs(a - b) for a, b in scores),
                "time_ratio": dict(zip(("quartile_1", "median", "quartile_3"), ratios)),
            }
        before[name] = own, predictions
    return {"split": SPLIT, "posts": len(posts), "pairs": sum(map(len, gold)), "threads": threads, "forms": forms}


@torch.no_grad()
def answer_one_by_one(
    posts: Iterable[Mapping[str, Any]], processor, config, runs: Mapping[str, Run]
) -> dict[str, Answers]:
    """Let every form answer a post before the next one comes, each post by itself, as a server would see them. The
    runs take filled inputs and take turns in going first. Encoding is not timed, since all forms share it.
    """
    answers = {name: Answers([], []) for name in runs}
    order = list(runs)
    for post in tqdm(posts, desc="measure", unit="post"):
        encoded = processor([post])
        filled = filled_tensors(encoded, config)
        for name in order:
            start = time.perf_counter()
            logits, _ = runs[name](filled)
            answers[name].seconds.append(time.perf_counter() - start)
            answers[name].logits.append(np.array(logits))
        order.append(order.pop(0))
    return answers
