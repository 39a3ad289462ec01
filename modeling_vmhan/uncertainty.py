"""What a prediction is worth: the entropy of its probabilities, or of their mean over samples (monte_carlo.py).

Shapes: S samples, P pairs, R relations. Entropies are in nats.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


__all__ = ["PredictiveUncertainty", "check_finite", "uncertainty"]


class PredictiveUncertainty(NamedTuple):
    probabilities: np.ndarray  # (P, R), mean over the samples
    entropy: np.ndarray  # (P,), of that mean, in [0, log R]: how unsure the answer is, for whatever reason
    mutual_information: np.ndarray | None  # (P,), in [0, entropy]: the part that comes from the node variances


def uncertainty(probabilities: np.ndarray, *, sampled: bool = True) -> PredictiveUncertainty:
    """Entropy of the mean of S predictions, and its part that is disagreement between them.

    entropy H = -sum_r p_r log p_r of p = mean_s p_s; mutual_information = H(p) - mean_s H(p_s), which is 0 where all
    samples agree (Depeweg et al. 2018, https://arxiv.org/abs/1710.07283). probabilities are (S, P, R); where they are
    not `sampled` there is no mutual_information.
    """
    mean = probabilities.mean(axis=0)  # (P, R)
    entropy = _entropy(mean)  # (P,)
    if not sampled:
        return PredictiveUncertainty(mean, entropy, None)
    expected = _entropy(probabilities).mean(axis=0)  # (P,)
    return PredictiveUncertainty(mean, entropy, np.maximum(entropy - expected, 0))  # below 0 by rounding only


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """-sum_r p_r log p_r, (..., R) -> (...), where 0 log 0 is 0."""
    return -(probabilities * np.log(np.where(probabilities == 0, 1, probabilities))).sum(axis=-1)


def check_finite(name: str, scores: Iterable[np.ndarray], features: Iterable[np.ndarray | None] = ()) -> None:
    """ValueError if what a model says of the post called `name` is not finite; `features` are what it was given."""
    if not all(np.isfinite(values).all() for values in scores):
        largest = max((float(np.abs(each).max()) for each in features if each is not None and each.size), default=0.0)
        why = f"its features, of up to {largest:g}, may be too large for the model: extract them again"
        raise ValueError(f"{name}: the scores are not finite: {why if largest else 'the weights may not be either'}.")
