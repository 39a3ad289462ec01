"""Do probabilities mean what they say: calibration error, NLL, Brier score, and the reliability diagram.

n pairs, R relations. A confidence is the probability of the predicted relation; all relations count, none included.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.calibration import CalibrationDisplay

from modeling_vmhan.decision import UNFITTED, DecisionRule
from vmhan.scoring.pictures import BLUE, ORANGE, picture
from vmhan.scoring.temperature import LEAST_PAIRS, fit_temperature


__all__ = [
    "Reliability", "calibrate", "calibration_metrics", "draw_reliability_diagram", "reliability", "softmax",
    "temperature_of",
]  # fmt: skip

logger = logging.getLogger(__name__)

NUM_BINS = 15


class Reliability(NamedTuple):
    """Of each bin of confidence: its pairs, their mean confidence and their accuracy (both 0 in an empty bin)."""

    count: np.ndarray  # (bins,) int
    confidence: np.ndarray  # (bins,)
    accuracy: np.ndarray  # (bins,)

    @property
    def expected_calibration_error(self) -> float:
        """Mean over pairs of |accuracy - confidence| of their bin (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum())


def softmax(logits: np.ndarray, rule: DecisionRule = UNFITTED) -> np.ndarray:
    """(n, R) logits -> (n, R) probabilities by the rule, float64."""
    return rule.probabilities(torch.as_tensor(logits, dtype=torch.float64)).numpy()


def reliability(probabilities: np.ndarray, gold: Sequence[int], *, num_bins: int = NUM_BINS) -> Reliability:
    """Pairs sorted by confidence into bins of equal width, (i / bins, (i + 1) / bins].

    probabilities are (n, R), gold (n,) relation ids; ValueError if they do not fit or there is no pair.
    """
    probabilities, gold = np.asarray(probabilities, dtype=np.float64), np.asarray(gold)
    if probabilities.ndim != 2 or gold.shape != probabilities.shape[:1] or len(gold) == 0:
        raise ValueError(
            "expected probabilities (n, R) and gold (n,) of n >= 1 pairs, received "
            f"{probabilities.shape} and {gold.shape}."
        )
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == gold
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, correct)]
    return Reliability(count, *(total / np.maximum(count, 1) for total in sums))


def calibration_metrics(logits: np.ndarray, gold: Sequence[int], rule: DecisionRule) -> dict[str, float]:
    """ece, nll (nats a pair) and brier (Brier 1950, in [0, 2]) of the probabilities that the rule makes.

    Those with the suffix `_before` are of softmax(logits). logits are (n, R), gold (n,) relation ids.
    """
    gold = np.asarray(gold)
    metrics = {}
    for suffix, used in (("", rule), ("_before", UNFITTED)):
        probabilities = softmax(logits, used)
        metrics[f"ece{suffix}"] = reliability(probabilities, gold).expected_calibration_error
        of_gold = probabilities[np.arange(len(gold)), gold]
        metrics[f"nll{suffix}"] = float(-np.log(np.maximum(of_gold, np.finfo(np.float64).tiny)).mean())
        metrics[f"brier{suffix}"] = float((np.square(probabilities).sum(axis=-1) - 2 * of_gold + 1).mean())
    return metrics


def calibrate(splits: dict[str, tuple[np.ndarray, np.ndarray]], rule: DecisionRule) -> dict[str, float]:
    """The rule's temperature, and the numbers of `calibration_metrics` as SPLIT_ece and so on. Splits are (logits
    (n, R), gold (n,) relation ids).
    """
    metrics = {"temperature": rule.temperature}
    for split, (logits, gold) in splits.items():
        metrics |= {f"{split}_{name}": value for name, value in calibration_metrics(logits, gold, rule).items()}
    return metrics


def temperature_of(logits: np.ndarray, gold: np.ndarray) -> float:
    """The temperature fitted to a validation split, logits (n, R) and gold (n,) relation ids; 1, with a warning, where
    it has less than LEAST_PAIRS pairs.
    """
    if len(gold) < LEAST_PAIRS:
        said = "not calibrated: %d pairs of validation are too few, %d are the least; the temperature stays 1"
        logger.warning(said, len(gold), LEAST_PAIRS)
        return 1.0
    return fit_temperature(torch.from_numpy(logits), torch.from_numpy(gold))


def draw_reliability_diagram(
    path: str | Path, splits: dict[str, tuple[np.ndarray, Sequence[int]]], rule: DecisionRule
) -> None:
    """Draw accuracy against confidence, before and after the rule, as a PNG; nothing without splits.

    `splits` are as in `calibrate`. ImportError if matplotlib is not installed.
    """
    if not splits:
        return
    with picture(path, width=4.4 * len(splits), height=5.4, dpi=120) as figure:
        axes = figure.subplots(2, len(splits), height_ratios=[4, 1], sharex=True, squeeze=False)
        for (name, (logits, gold)), upper, lower in zip(splits.items(), *axes, strict=True):
            for when, used, colour in (("before", UNFITTED, ORANGE), ("after", rule, BLUE)):
                probabilities = softmax(logits, used)
                confidence, correct = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == gold
                error = reliability(probabilities, gold).expected_calibration_error
                label = {
                    "name": f"{when}: T = {used.temperature:.2f}, ECE = {error:.3f}",
                    "color": colour,
                    "pos_label": 1,
                }
                gold_and_confidence = correct.astype(int), confidence
                CalibrationDisplay.from_predictions(*gold_and_confidence, n_bins=NUM_BINS, ax=upper, **label)
                lower.hist(confidence, bins=NUM_BINS, range=(0, 1), histtype="step", color=colour)
            upper.set(title=name, xlabel=None, ylabel="accuracy")
            lower.set(xlabel="confidence", ylabel="pairs")
