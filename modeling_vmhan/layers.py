"""One layer of variational hypergraph attention (paper section 4.2, equations 5 to 8).

Shapes: P pairs, N nodes, E hyperedges, D hidden size = heads x d_head.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init


__all__ = ["HypergraphState", "VariationalHypergraphAttention", "check_heads", "initialise", "masked_softmax"]


class HypergraphState(NamedTuple):
    """What every propagation layer returns; the attentions are None for layers that have none."""

    node_mean: Tensor  # (P, N, D)
    node_variance: Tensor | None  # (P, N, D)
    edge_mean: Tensor  # (P, E, D)
    edge_variance: Tensor | None  # (P, E, D)
    node_to_edge: Tensor | None  # (P, heads, E, N), a row sums to 1 over a hyperedge's members
    edge_to_node: Tensor | None  # (P, heads, N, E), a row sums to 1 over a node's hyperedges


def check_heads(hidden_size: int, num_heads: int) -> None:
    """ValueError unless `hidden_size` splits into `num_heads` equal slices."""
    if num_heads < 1 or hidden_size % num_heads != 0:
        raise ValueError(f"num_heads must divide hidden_size={hidden_size}, received num_heads={num_heads}.")


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis where `mask` is True; a row with no True is all zeros, never NaN."""
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(~mask, 0)


def _aggregate(weights: Tensor, values: Tensor) -> Tensor:
    """sum_i weights(j, i) values(i), each head on its own slice of D.

    weights (P, heads, J, I), values (P, I, D) -> (P, J, D).
    """
    heads = weights.shape[1]
    values = values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (P, heads, I, d_head)
    return (weights @ values).transpose(1, 2).flatten(2)  # (P, J, D)


class VariationalHypergraphAttention(nn.Module):
    """Equations 5 to 8: nodes and hyperedges attend to each other, both reading the states of layer l.

    - score(j, i) = (W_e e_j) . (W_x x_i) / sqrt(d_head), one score matrix for both directions (W_e and W_x are the
      same symbols in equations 5 and 7; only the axis of the softmax differs);
    - hyperedge update: a(j, i) = softmax over the members i of j;
      mean' = ELU(sum_i a x_mean W_e,mu) + mean, variance' = ReLU(sum_i a^2 x_var W_e,var) + variance;
    - node update: the same with the roles exchanged.

    Departures from the paper: the scale is sqrt(d_head), where it prints sqrt(d); and it writes one
    sigma for both activations and does not name it, where ELU and ReLU are the pair of Zhu et al. 2019
    (https://doi.org/10.1145/3292500.3330851), whom it cites for the diagonal variance. No variance can shrink, so one
    that starts >= eps stays >= eps. Dense and masked: with N <= ~12 and E = 5 the matrices are too small for a sparse
    library to pay (docs/speed has the figures).

    Args:
        hidden_size: D, a multiple of `num_heads`. variational: False builds no variance path.
        update_hyperedges: False for the last layer of a stack, whose hyperedges no node would read: its hyperedge
            values are not built and the hyperedges come back as they went in.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, variational: bool = True, update_hyperedges: bool = True):
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.variational = variational
        self.update_hyperedges = update_hyperedges

        def linear() -> nn.Linear:
            return nn.Linear(hidden_size, hidden_size, bias=False)

        self.edge_query = linear()  # W_e
        self.node_key = linear()  # W_x
        self.node_mean_value = linear()  # W_x,mu
        self.node_variance_value = linear() if variational else None  # W_x,var
        self.edge_mean_value = linear() if update_hyperedges else None  # W_e,mu
        self.edge_variance_value = linear() if update_hyperedges and variational else None  # W_e,var

    def _scores(self, edge_mean: Tensor, node_mean: Tensor) -> Tensor:
        """(P, heads, E, N), not yet masked."""
        query = self.edge_query(edge_mean).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (P, heads, E, d_head)
        key = self.node_key(node_mean).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (P, heads, N, d_head)
        return query @ key.transpose(-1, -2) / self.head_size**0.5

    @staticmethod
    def _updated_mean(weights: Tensor, values: Tensor, previous: Tensor) -> Tensor:
        """First lines of equations 6 and 8."""
        return nn.functional.elu(_aggregate(weights, values)) + previous

    @staticmethod
    def _updated_variance(weights: Tensor, values: Tensor, previous: Tensor) -> Tensor:
        """Second lines of equations 6 and 8: the variance of a weighted sum has squared weights."""
        return nn.functional.relu(_aggregate(weights.square(), values)) + previous

    def forward(self, node_mean, node_variance, edge_mean, edge_variance, incidence) -> HypergraphState:
        """Nodes (P, N, D), hyperedges (P, E, D), whose variances are None without the variational path, and incidence
        (P, N, E) bool -> the state of layer l + 1.
        """
        scores = self._scores(edge_mean, node_mean)
        incidence = incidence.unsqueeze(1)  # (P, 1, N, E)
        node_to_edge = masked_softmax(scores, incidence.transpose(-1, -2))  # (P, heads, E, N), equation 5
        edge_to_node = masked_softmax(scores.transpose(-1, -2), incidence)  # (P, heads, N, E), equation 7

        new_node_mean = self._updated_mean(edge_to_node, self.node_mean_value(edge_mean), node_mean)
        new_edge_mean, new_node_variance, new_edge_variance = edge_mean, node_variance, edge_variance
        if self.update_hyperedges:
            new_edge_mean = self._updated_mean(node_to_edge, self.edge_mean_value(node_mean), edge_mean)
        if self.variational:
            values = self.node_variance_value(edge_variance)
            new_node_variance = self._updated_variance(edge_to_node, values, node_variance)
        if self.variational and self.update_hyperedges:
            values = self.edge_variance_value(node_variance)
            new_edge_variance = self._updated_variance(node_to_edge, values, edge_variance)
        return HypergraphState(
            new_node_mean, new_node_variance, new_edge_mean, new_edge_variance, node_to_edge, edge_to_node
        )


@torch.no_grad()
def initialise(module: nn.Module, *, std: float) -> None:
    """First weights of a module that is not pretrained; what was loaded is left alone (HF's `init` sees to it).

    Linear layers get normal weights of deviation `std` and no bias, norms start as the identity, and convolutions are
    He's (https://arxiv.org/abs/1502.01852); any other module is left as it is.
    """
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, mean=0.0, std=std)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d):
        init.zeros_(module.running_mean)
        init.ones_(module.running_var)
        init.zeros_(module.num_batches_tracked)
    elif isinstance(module, nn.LayerNorm) and module.weight is not None:
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):  # a frozen VGG16 or ResNet, until weights are loaded into it
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            init.zeros_(module.bias)
