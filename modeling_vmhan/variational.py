"""Gaussian nodes and hyperedges, and the two losses on them (paper equations 4, 10 and 11).

Shapes: P pairs, N nodes, E hyperedges, D hidden size. Every Gaussian is diagonal: a mean and a `variance`. The paper
writes N(x_mu, diag(x_sigma)), so its sigma is the variance, not the standard deviation.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .hypergraph import TAIL, build_incidence


__all__ = [
    "GaussianNodes",
    "entity_features",
    "initial_hyperedges",
    "kl_to_standard_normal",
    "nodes_read",
    "reconstruction_error",
    "sampled",
]


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

    def start_safely(self) -> None:
        """First weights of a safe start: the mean is the feature, and the variance log 2 + eps everywhere."""
        init.eye_(self.mean_projection.weight)
        if self.variance_projection is not None:
            init.zeros_(self.variance_projection.weight)

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
    """A hyperedge starts as the average of its members, taken as independent Gaussians (the paper gives no start), or
    of those of them that `incidence` has, as `hypergraph.first_members`.

    mean = sum of means / |e|, variance = sum of variances / |e|^2, zeros for an empty hyperedge.
    (P, N, D), (P, N, D) or None, (P, N, E) bool -> (P, E, D), (P, E, D) or None.
    """
    membership = incidence.transpose(1, 2).to(node_mean.dtype)  # (P, E, N)
    size = membership.sum(dim=-1, keepdim=True).clamp(min=1)  # (P, E, 1)
    edge_mean = membership @ node_mean / size
    if node_variance is None:
        return edge_mean, None
    return edge_mean, membership @ node_variance / size.square()


def nodes_read(
    node_mean: Tensor, node_variance: Tensor | None, node_mask: Tensor, node_is_visual: Tensor, *, with_averages: bool
) -> tuple[Tensor, Tensor | None]:
    """The Gaussians that equation 9's classifier reads: head and tail.

    `with_averages` adds two, of the text phrases and of the visual nodes besides the tail: each is their average, as a
    hyperedge starts, and zeros where there are none. Nodes are (P, N, D), masks (P, N) bool -> mean and variance
    (P, n, D) or None, with n = 2 or 4.
    """
    entities = slice(TAIL + 1)
    mean, variance = node_mean[:, entities], None if node_variance is None else node_variance[:, entities]
    if not with_averages:
        return mean, variance
    others = node_mask & (torch.arange(node_mask.shape[1], device=node_mask.device) > TAIL)
    groups = build_incidence(others, node_is_visual, families=["intra"])  # (P, N, 2)
    average_mean, average_variance = initial_hyperedges(node_mean, node_variance, groups)  # (P, 2, D)
    mean = torch.cat([mean, average_mean], dim=1)
    return mean, None if variance is None else torch.cat([variance, average_variance], dim=1)


def sampled(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Draws mean + sqrt(variance) * noise, reparameterised, so that the gradient reaches the variance."""
    return mean + variance.sqrt() * noise


def entity_features(mean: Tensor, variance: Tensor | None) -> Tensor:
    """What equation 9's classifier reads: [h_mu; h_var; t_mu; t_var], or [h_mu; t_mu] without variances.

    mean and variance (..., n, D) of `nodes_read` -> (..., 2 n D) or (..., n D).
    """
    if variance is None:
        return mean.flatten(-2)
    return torch.stack([mean, variance], dim=-2).flatten(-3)  # (..., n, mean and variance, D) -> (..., 2 n D)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is True (same shape); 0 where it is True nowhere."""
    # departure from the paper's 1/n of each hypergraph: over all nodes of the batch, so a pair of many weighs more
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
    before propagation, so it is the target, detached. Averaged as the KL is. All are (P, N, D), or None for variances;
    node_mask is (P, N) bool.
    """
    error = (mean.float() - initial_mean.detach().float()).square().mean(dim=-1)  # (P, N)
    if variance is not None:
        error = error + (variance.float() - initial_variance.detach().float()).square().mean(dim=-1)
    return _masked_mean(error, node_mask)
