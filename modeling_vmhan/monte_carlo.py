"""Monte Carlo class probabilities from the node variances.

Shapes: S samples, P pairs, n labelled pairs, R relations, D hidden size.
"""

import torch
from torch import Tensor, nn

from .decision import UNFITTED, DecisionRule
from .variational import entity_features, sampled


__all__ = ["monte_carlo_probabilities"]

PAIRS_AT_ONCE = 256  # that are sampled, whose means take memory S times over


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
