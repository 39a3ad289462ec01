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


def _split_heads(values: Tensor, heads: int) -> Tensor:
    # contiguous: MKL takes sixty times as long over a batch of small matrices that are all transposed, as the backward
    # pass of scores from strided keys has them; matmul would copy them anyway
    return values.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()  # (P, n, D) -> (P, heads, n, d_head)


def _aggregate(weights: Tensor, values: Tensor) -> Tensor:
    """sum_i weights(j, i) values(i), each head on its own slice: (P, heads, J, I), (P, I, D) -> (P, J, D)."""
    return (weights @ _split_heads(values, weights.shape[1])).transpose(1, 2).flatten(2)  # (P, J, D)


class VariationalHypergraphAttention(nn.Module):
    """Equations 5 to 8: nodes and hyperedges attend to each other, both reading the states of layer l.

    - score(j, i) = (W_e e_j) . (W_x x_i) / sqrt(d_head), the same scores for both directions (equations 5 and 7 share
      W_e and W_x; only the axis of the softmax differs);
    - hyperedge update: a(j, i) = softmax over the members i of j;
      mean' = ELU(sum_i a x_mean W_e,mu) + mean, variance' = ReLU(sum_i a^2 x_var W_e,var) + variance;
    - node update: the same with the roles exchanged.

    Departure from the paper: it writes one unnamed sigma for both activations, where ELU and ReLU are those of Zhu et
    al. 2019 (https://doi.org/10.1145/3292500.3330851), whom it cites for the diagonal variance. It is dense and
    masked; why is measured in docs/speed.

    With roles (ours, of `post_graph`), the mean of node i in hyperedge j is x_i + r_ij for its key and its value, r_ij
    being the sum of the learned vectors of the roles that it has there. They are constants and add no variance.

    Args:
        hidden_size: D, a multiple of `num_heads`. variational: False builds no variance path.
        update_hyperedges: False for the last layer of a stack, whose hyperedges no node would read.
        num_roles: that a node can have in a hyperedge; 0 for none.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        variational: bool = True,
        update_hyperedges: bool = True,
        num_roles: int = 0,
    ):
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.num_heads = num_heads
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
        self.role = nn.Linear(num_roles, hidden_size, bias=False) if num_roles else None  # whose columns are r

    def start_safely(self) -> None:
        """First weights of a safe start: no node's mean changes, as ELU(0) = 0, whose derivative is 1.

        The variances' values keep their random weights: at 0 they would stay, as ReLU's derivative there is 0.
        """
        init.zeros_(self.node_mean_value.weight)

    def forward(self, node_mean, node_variance, edge_mean, edge_variance, incidence, roles=None) -> HypergraphState:
        """Nodes (P, N, D), hyperedges (P, E, D), whose variances are None without the variational path, incidence
        (P, N, E) bool, and of layers with roles (P, N, E, roles) of 0 and 1 -> the state of layer l + 1.
        """
        query = _split_heads(self.edge_query(edge_mean), self.num_heads)  # (P, heads, E, d_head)
        key = _split_heads(self.node_key(node_mean), self.num_heads)  # (P, heads, N, d_head)
        # departure: sqrt(d_head), where the paper prints sqrt(d)
        scores = query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5  # (P, heads, E, N)
        if roles is not None:
            role = self.role.weight.T.unsqueeze(0)  # (1, roles, D)
            of_roles = query @ _split_heads(self.node_key(role), self.num_heads).transpose(-1, -2)
            scores = scores + torch.einsum("pher,pner->phen", of_roles, roles) / key.shape[-1] ** 0.5
        incidence = incidence.unsqueeze(1)  # (P, 1, N, E)
        node_to_edge = masked_softmax(scores, incidence.transpose(-1, -2))  # (P, heads, E, N), equation 5
        edge_to_node = masked_softmax(scores.transpose(-1, -2), incidence)  # (P, heads, N, E), equation 7

        def mean(weights: Tensor, values: Tensor, previous: Tensor) -> Tensor:  # first lines of equations 6 and 8
            return nn.functional.elu(_aggregate(weights, values)) + previous

        def variance(weights: Tensor, values: Tensor, previous: Tensor) -> Tensor:  # second: of a weighted sum
            return nn.functional.relu(_aggregate(weights.square(), values)) + previous

        new_node_mean = mean(edge_to_node, self.node_mean_value(edge_mean), node_mean)
        new_edge_mean, new_node_variance, new_edge_variance = edge_mean, node_variance, edge_variance
        if self.update_hyperedges:
            weights, values = node_to_edge, self.edge_mean_value(node_mean)
            if roles is not None:  # as further members, whose weights are those of the nodes that have them
                of_roles = torch.einsum("phen,pner->pher", node_to_edge, roles)
                weights = torch.cat([weights, of_roles], dim=-1)  # (P, heads, E, N + roles)
                values = torch.cat([values, self.edge_mean_value(role).expand(len(values), -1, -1)], dim=1)
            new_edge_mean = mean(weights, values, edge_mean)
        if self.variational:
            new_node_variance = variance(edge_to_node, self.node_variance_value(edge_variance), node_variance)
        if self.variational and self.update_hyperedges:
            new_edge_variance = variance(node_to_edge, self.edge_variance_value(node_variance), edge_variance)
        return HypergraphState(
            new_node_mean, new_node_variance, new_edge_mean, new_edge_variance, node_to_edge, edge_to_node
        )


@torch.no_grad()
def initialise(module: nn.Module, *, std: float) -> None:
    """First weights of a module that is not pretrained; what was loaded is left alone (HF's `init` sees to it).

    Linear layers get normal weights of deviation `std` and no bias, norms start as the identity, and convolutions are
    He's (https://arxiv.org/abs/1502.01852).
    """
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, mean=0.0, std=std)
    elif isinstance(module, nn.Conv2d):  # a frozen VGG16 or ResNet, until weights are loaded into it
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.LayerNorm) and module.weight is not None:
        init.ones_(module.weight)
    elif isinstance(module, nn.BatchNorm1d):
        init.zeros_(module.running_mean)
        init.ones_(module.running_var)
        init.zeros_(module.num_batches_tracked)
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm)) and module.bias is not None:
        init.zeros_(module.bias)
