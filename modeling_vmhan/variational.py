"""Gaussian nodes and hyperedges, and the two losses on them (paper equations 4, 10 and 11).

Shapes: P pairs, N nodes, E hyperedges, D hidden size. Every Gaussian is diagonal: a mean and a `variance`. The paper
writes N(x_mu, diag(x_sigma)), so its sigma is the variance, not the standard deviation.
"""

import torch
from torch import Tensor, nn


__all__ = ["GaussianNodes", "entity_features", "initial_hyperedges", "kl_to_standard_normal", "reconstruction_error"]


class GaussianNodes(nn.Module):
    """Equation 4: mean = W_mu x, variance = softplus(W_sigma x) + eps; None without the variational path.

    Departure from the paper: its equation 4 is linear for the variance too, which can be negative, and the KL term
    needs a positive one; softplus and `variance_eps` > 0 make it so.
    """

    def __init__(self, *, input_size: int, hidden_size: int, variance_eps: float, variational: bool = True):
        super().__init__()
        self.variance_eps = variance_eps
        self.mean_projection = nn.Linear(input_size, hidden_size, bias=False)
        self.variance_projection = nn.Linear(input_size, hidden_size, bias=False) if variational else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """features (P, N, input_size) -> mean (P, N, D), variance (P, N, D) or None."""
        # in the type of the features, under autocast too: what the layers add to a Gaussian is small beside it
        mean = self.mean_projection(features).to(features.dtype)
        if self.variance_projection is None:
            return mean, None
        variance = self.variance_projection(features).to(features.dtype)
        return mean, nn.functional.softplus(variance) + self.variance_eps


def initial_hyperedges(
    node_mean: Tensor, node_variance: Tensor | None, incidence: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A hyperedge starts as the average of its members, taken as independent Gaussians (the paper gives no start).

    mean = sum of means / |e|, variance = sum of variances / |e|^2, zeros for an empty hyperedge.
    (P, N, D), (P, N, D) or None, (P, N, E) bool -> (P, E, D), (P, E, D) or None.
    """
    membership = incidence.transpose(1, 2).to(node_mean.dtype)  # (P, E, N)
    size = membership.sum(dim=-1, keepdim=True).clamp(min=1)  # (P, E, 1)
    edge_mean = membership @ node_mean / size
    if node_variance is None:
        return edge_mean, None
    return edge_mean, membership @ node_variance / size.square()


def entity_features(mean: Tensor, variance: Tensor | None) -> Tensor:
    """What equation 9's classifier reads: [h_mu; h_var; t_mu; t_var], or [h_mu; t_mu] without variances.

    mean and variance (..., 2, D) of head and tail -> (..., 4 D) or (..., 2 D).
    """
    if variance is None:
        return mean.flatten(-2)
    return torch.stack([mean, variance], dim=-2).flatten(-3)  # (..., 2 entities, mean and variance, D) -> (..., 4 D)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is True (same shape); 0 where it is True nowhere."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def kl_to_standard_normal(mean: Tensor, variance: Tensor, node_mask: Tensor) -> Tensor:
    """Equation 11: KL(N(mean, diag(variance)) || N(0, I)), closed form, in float32.

    Departure from the paper, which sums over D and averages per hypergraph: averaged over D, so that its weight does
    not depend on the hidden size, then over the batch's present nodes. mean, variance (P, N, D), node_mask (P, N).
    """
    mean, variance = mean.float(), variance.float()
    variance = variance.masked_fill(~node_mask.unsqueeze(-1), 1)  # whatever an absent node holds, its log is finite
    divergence = 0.5 * (variance + mean.square() - 1 - variance.log()).mean(dim=-1)  # (P, N)
    return _masked_mean(divergence, node_mask)


def reconstruction_error(mean, variance, initial_mean, initial_variance, node_mask) -> Tensor:
    """Equation 10: squared distance of the final node Gaussians from the initial ones, in float32.

    The paper's "true" mean and variance are not defined; the initial Gaussian is the only node distribution there is
    before propagation, so it is the target, detached. Averaged over D, then over the batch's present nodes. All are
    (P, N, D), or None for variances; node_mask is (P, N) bool.
    """
    error = (mean.float() - initial_mean.detach().float()).square().mean(dim=-1)  # (P, N)
    if variance is not None:
        error = error + (variance.float() - initial_variance.detach().float()).square().mean(dim=-1)
    return _masked_mean(error, node_mask)
