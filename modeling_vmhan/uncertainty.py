"""What a prediction is worth: Monte Carlo class probabilities from the node variances, and entropies.

Shapes: S samples, P pairs, n labelled pairs, R relations, D hidden size. Entropies are in nats.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .decision import UNFITTED, DecisionRule
from .variational import entity_features, sampled


__all__ = ["PredictiveUncertainty", "check_finite", "monte_carlo_probabilities", "uncertainty"]

PAIRS_AT_ONCE = 256  # that are sampled, whose means take memory S times over


class PredictiveUncertainty(NamedTuple):
    probabilities: Tensor  # (P, R), mean over the samples
    entropy: Tensor  # (P,), of that mean, in [0, log R]: how unsure the answer is, for whatever reason
    mutual_information: Tensor | None  # (P,), in [0, entropy]: the part that comes from the node variances


def monte_carlo_probabilities(
    classifier: nn.Module,
    mean: Tensor,
    variance: Tensor,
    *,
    num_samples: int,
    rule: DecisionRule = UNFITTED,
    seed: int = 0,
) -> Tensor:
    """Class probabilities under S draws of the nodes that it reads: those that `rule` makes of logits_s.

    Sampled are the means that equation 9's classifier reads, m_s ~ N(mean, diag(variance)); its variance inputs stay,
    and one encoder pass serves all samples. All pairs share the same S draws of noise, made on the CPU: an answer
    depends on the seed, and neither on the other pairs of the batch nor on the device.

    classifier: (..., 2 n D) -> (..., R). mean, variance: (P, n, D), of `nodes_read`. Returns (S, P, R) float32.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_samples, 1, *mean.shape[1:], generator=generator).to(mean)  # (S, 1, n, D)
    logits = []
    for of_some, their_variance in zip(mean.split(PAIRS_AT_ONCE), variance.split(PAIRS_AT_ONCE)):
        means = sampled(of_some, their_variance, noise)  # (S, p, n, D)
        logits.append(classifier(entity_features(means, their_variance.expand_as(means))))  # (S, p, R)
    return rule.probabilities(torch.cat(logits, dim=1))


def uncertainty(probabilities: Tensor, *, sampled: bool = True) -> PredictiveUncertainty:
    """Entropy of the mean of S predictions, and its part that is disagreement between them.

    entropy H = -sum_r p_r log p_r of p = mean_s p_s; mutual_information = H(p) - mean_s H(p_s), which is 0 where all
    samples agree (Depeweg et al. 2018, https://arxiv.org/abs/1710.07283). probabilities are (S, P, R); where they are
    not `sampled` there is no mutual_information.
    """
    mean = probabilities.mean(dim=0)  # (P, R)
    entropy = torch.special.entr(mean).sum(dim=-1)  # (P,)
    if not sampled:
        return PredictiveUncertainty(mean, entropy, None)
    expected = torch.special.entr(probabilities).sum(dim=-1).mean(dim=0)  # (P,)
    return PredictiveUncertainty(mean, entropy, (entropy - expected).clamp(min=0))  # below 0 by rounding only


def check_finite(name: str, scores: Iterable[Tensor], features: Iterable[Tensor | None] = ()) -> None:
    """ValueError if what a model says of the post called `name` is not finite; `features` are what it was given."""
    if not all(bool(values.isfinite().all()) for values in scores):
        largest = max((float(each.abs().max()) for each in features if each is not None and each.numel()), default=0.0)
        why = f"its features, of up to {largest:g}, may be too large for the model: extract them again"
        raise ValueError(f"{name}: the scores are not finite: {why if largest else 'the weights may not be either'}.")
