"""What an exported form costs and gains: its answers and its time, post by post beside the other forms."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from vmhan.inference.onnx.exporting import Run
from vmhan.inference.onnx.inputs import filled_inputs, input_axes


__all__ = ["Answers", "answer_one_by_one", "time_ratio"]


class Answers(NamedTuple):
    """Of one form of the model: for each post its logits (pairs, R), and the seconds that its pass took."""

    logits: list[np.ndarray]
    seconds: list[float]


@torch.no_grad()
def answer_one_by_one(
    posts: Iterable[Mapping[str, Any]], processor, config, runs: Mapping[str, Run]
) -> dict[str, Answers]:
    """Every form answers a post before the next one comes, each post by itself, as a server would see them.

    Args:
        posts: as the processor takes them. processor, config: of the model.
        runs: the forms by name, of inputs that are filled up; see `vmhan.inference.onnx.inputs.filled_inputs`. Encoding a post is
            not timed: all forms share it. The forms take turns in going first.
    """
    answers = {name: Answers([], []) for name in runs}
    order = list(runs)
    for post in tqdm(posts, desc="measure", unit="post"):
        encoded = processor([post])
        filled = filled_inputs(encoded, input_axes(config, list(encoded)))
        for name in order:
            start = time.perf_counter()
            logits, _ = runs[name](filled)
            answers[name].seconds.append(time.perf_counter() - start)
            answers[name].logits.append(np.array(logits))
        order.append(order.pop(0))
    return answers


def time_ratio(answers: Answers, other: Answers) -> dict[str, float]:
    """Seconds of `answers` over those of `other`, post by post: the median and the quartiles."""
    ratios = np.array(answers.seconds) / np.array(other.seconds)
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartile_1": float(low), "quartile_3": float(high)}
