"""Do probabilities mean what they say: calibration error, NLL, Brier score, and the reliability diagram.

n pairs, R relations. A confidence is the probability of the predicted relation; all relations count, none included.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from modeling_vmhan.uncertainty import fit_temperature


__all__ = ["Reliability", "calibrate", "calibration_metrics", "draw_reliability_diagram", "reliability", "softmax"]

NUM_BINS = 15


class Reliability(NamedTuple):
    """Of each bin of confidence: its pairs, their mean confidence and their accuracy (both 0 in an empty bin)."""

    count: np.ndarray  # (bins,) int
    confidence: np.ndarray  # (bins,)
    accuracy: np.ndarray  # (bins,)

    @property
    def expected_calibration_error(self) -> float:
        """Mean over pairs of |accuracy - confidence| of their bin, in [0, 1] (Guo et al. 2017, equation 3,
        https://arxiv.org/abs/1706.04599)."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum())


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, R) logits -> (n, R) probabilities, float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def reliability(probabilities: np.ndarray, gold: Sequence[int], *, num_bins: int = NUM_BINS) -> Reliability:
    """Pairs sorted by confidence into bins of equal width, (i / bins, (i + 1) / bins] for i = 0, 1, ...

    Args:
        probabilities: (n, R). gold: (n,) relation ids. num_bins: 15 is the number that papers report.

    Raises:
        ValueError: no pair, or shapes that do not fit.
    """
    probabilities, gold = np.asarray(probabilities, dtype=np.float64), np.asarray(gold)
    if probabilities.ndim != 2 or gold.shape != probabilities.shape[:1] or len(gold) == 0:
        raise ValueError(
            "expected probabilities (n, R) and gold (n,) of n >= 1 pairs, received "
            f"{probabilities.shape} and {gold.shape}. Give one row of probabilities and one relation id a pair."
        )
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == gold
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, correct)]
    return Reliability(count, *(total / np.maximum(count, 1) for total in sums))


def calibration_metrics(logits: np.ndarray, gold: Sequence[int], temperature: float) -> dict[str, float]:
    """Numbers of softmax(logits / temperature), and with `_before` behind their names those of softmax(logits).

    Args:
        logits: (n, R). gold: (n,) relation ids.

    Returns:
        ece (15 bins of equal width), nll (nats a pair) and brier (mean over pairs of the squared distance between the
        probabilities and the one-hot gold, in [0, 2]; Brier 1950), and ece_before, nll_before, brier_before.
    """
    gold = np.asarray(gold)
    metrics = {}
    for suffix, divisor in (("", temperature), ("_before", 1.0)):
        probabilities = softmax(logits, divisor)
        metrics[f"ece{suffix}"] = reliability(probabilities, gold).expected_calibration_error
        of_gold = probabilities[np.arange(len(gold)), gold]
        metrics[f"nll{suffix}"] = float(-np.log(np.maximum(of_gold, np.finfo(np.float64).tiny)).mean())
        metrics[f"brier{suffix}"] = float((np.square(probabilities).sum(axis=-1) - 2 * of_gold + 1).mean())
    return metrics


def calibrate(
    splits: dict[str, tuple[np.ndarray, np.ndarray]], *, temperature: float | None = None
) -> dict[str, float]:
    """The temperature fitted on the validation split, and what it does to every split.

    The validation split's own numbers are thereby a little too good (one parameter was fitted on it); the test split's
    are not.

    Args:
        splits: name -> (logits (n, R), gold (n,) relation ids).
        temperature: of a model that has its own; None fits it.

    Returns:
        temperature (where it is fitted, 1 without a validation split), and the numbers of `calibration_metrics` as
        SPLIT_ece and so on.
    """
    if temperature is None:
        fitted = "validation" in splits
        temperature = fit_temperature(*map(torch.from_numpy, splits["validation"])) if fitted else 1.0
    metrics = {"temperature": temperature}
    for split, (logits, gold) in splits.items():
        metrics |= {f"{split}_{name}": value for name, value in calibration_metrics(logits, gold, temperature).items()}
    return metrics


def draw_reliability_diagram(
    path: str | Path, splits: dict[str, tuple[np.ndarray, Sequence[int]]], temperature: float
) -> None:
    """Accuracy against confidence, before and after temperature scaling; on the diagonal they agree.

    Each panel has the bins' accuracies, the gap to their mean confidence, and below how many pairs lie in each.

    Args:
        path: of the PNG, written atomically.
        splits: name -> (logits (n, R), gold (n,)); without any, nothing is drawn.
        temperature: the fitted one.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if not splits:
        return
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no display
    except ImportError as error:
        raise ImportError("the reliability diagram needs matplotlib: pip install 'vmhan[report]'") from error
    columns = [(name, when, value) for name in splits for when, value in (("before", 1.0), ("after", temperature))]
    figure = Figure(figsize=(3.4 * len(columns), 4.4), layout="constrained")
    axes = figure.subplots(2, len(columns), height_ratios=[4, 1], sharex=True, squeeze=False)
    for (name, when, value), upper, lower in zip(columns, *axes, strict=True):
        logits, gold = splits[name]
        bins = reliability(softmax(logits, value), gold)
        _draw_panel(upper, lower, bins)
        error = bins.expected_calibration_error
        upper.set_title(f"{name}, {when}\nT = {value:.2f}, ECE = {error:.3f}", fontsize=10)
        lower.set_xlabel("confidence")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    axes[0][0].set_ylabel("accuracy")
    axes[1][0].set_ylabel("pairs")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, path)


def _draw_panel(upper, lower, bins: Reliability) -> None:
    """One split at one temperature: bars of accuracy, hatched gaps up or down to the confidence, counts below."""
    width = 1 / len(bins.count)
    filled = bins.count > 0
    left = np.arange(len(bins.count))[filled] * width
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1)
    upper.bar(left, accuracy, width, align="edge", color="#0072b2", edgecolor="white", label="accuracy")
    gap = {"align": "edge", "facecolor": "#d55e0055", "edgecolor": "#d55e00", "hatch": "//", "linewidth": 0.8}
    upper.bar(left, confidence - accuracy, width, bottom=accuracy, label="gap to confidence", **gap)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    lower.bar(np.arange(len(bins.count)) * width, bins.count, width, align="edge", color="0.6", edgecolor="white")
