"""Temperature scaling: the one number that makes a model's probabilities honest on a validation split."""

import logging
import math

import torch
from torch import Tensor


__all__ = ["LEAST_PAIRS", "MAX_TEMPERATURE", "fit_temperature"]

logger = logging.getLogger(__name__)

# Pairs below which a run keeps 1. Of overconfident logits (their best temperature 1.5, five relations, accuracy 0.65)
# 50 pairs give one in 1.1 to 1.8, and 98 of 100 draws a better likelihood than 1; 20 pairs give one in 0.8 to 2.4, and
# 82 of 100; 5 pairs one in 0.4 to 3.6, and 64 of 100. docs/your-own-posts.md names the number.
LEAST_PAIRS = 50
MAX_TEMPERATURE = 100.0  # where the likelihood wants uniform probabilities, the best temperature is infinite


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes `labels` likeliest under softmax(logits / temperature) (Guo et al. 2017, section 4.2,
    https://arxiv.org/abs/1706.04599): it changes confidences, never which relation is best.

    The negative log-likelihood, convex in 1 / temperature, is minimised by LBFGS in float64. Without a single wrong
    answer the optimum is 0, and 1 is returned; where it is infinite, `MAX_TEMPERATURE` is, and where none is found,
    1; each with a warning. logits (n, R) are of pairs that were not trained on, labels (n,) their relation ids;
    ValueError for no pair, shapes that do not fit, or logits that are not finite.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            "logits must be (n, R) and labels (n,) of n >= 1 validation pairs, received "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    logits, labels = logits.detach().double(), labels.detach()
    if wrong := (~logits.isfinite()).any(dim=-1).sum().item():
        raise ValueError(f"logits must be finite, received others for {wrong} of {len(labels)} pairs.")
    if torch.equal(logits.argmax(dim=-1), labels):
        logger.warning("no wrong answer among %d pairs to calibrate on: temperature stays 1", len(labels))
        return 1.0
    inverse = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def negative_log_likelihood() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(inverse * logits, labels)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(negative_log_likelihood)
    found = inverse.item()
    if not math.isfinite(found):
        logger.warning("no temperature is found for %d pairs: it stays 1", len(labels))
        return 1.0
    if found <= 1 / MAX_TEMPERATURE:
        said = "the likeliest temperature of %d pairs is %g or more, which is taken"
        logger.warning(said, len(labels), MAX_TEMPERATURE)
        return MAX_TEMPERATURE
    return 1 / found
