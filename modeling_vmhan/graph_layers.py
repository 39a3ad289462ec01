"""The four rows of Table 2 that replace V-HAN by a known graph layer, over the same nodes and hyperedges; and the
layers of a model by name.

Each layer has the signature of `VariationalHypergraphAttention.forward` and returns a `HypergraphState` with the
hyperedges as they came in. As published, none has a residual connection. All activations of means are ELU, whatever
the papers have, so that a row differs from V-HAN in the propagation alone. Shapes: P pairs, N nodes, E hyperedges, D.

S is `incidence` with self-loops: each node is also a hyperedge of its own. The graph is the weighted clique expansion
A = S S^T, (P, N, N): how many hyperedges two nodes share. Departure from a clique expansion of 0 and 1: in it the head
and the tail of a text pair have the same neighbours, so that a GCN, and without an image HGNN, makes them one vector.
"""

import torch
from torch import Tensor, nn

from .hypergraph import with_self_loops
from .layers import HypergraphState, VariationalHypergraphAttention, check_heads, masked_softmax


__all__ = ["GaussianGraphConvolution", "GraphAttention", "GraphConvolution", "HypergraphConvolution"]
__all__ += ["propagation_layers"]


def _inverse_sqrt(degree: Tensor) -> Tensor:
    """degree^-1/2, 0 where the degree is 0."""
    return degree.clamp(min=1).rsqrt() * (degree > 0)


def _clique_weights(incidence: Tensor, dtype: torch.dtype) -> Tensor:
    """A = S S^T, (P, N, N); rows of absent nodes are zero."""
    membership = with_self_loops(incidence).to(dtype)  # (P, N, E + N)
    return membership @ membership.transpose(1, 2)


def _normalised_adjacency(incidence: Tensor, dtype: torch.dtype) -> Tensor:
    """D^-1/2 A D^-1/2, (P, N, N), with D the row sums of A."""
    adjacency = _clique_weights(incidence, dtype)
    scale = _inverse_sqrt(adjacency.sum(dim=-1))  # (P, N)
    return scale.unsqueeze(-1) * adjacency * scale.unsqueeze(-2)


class _GraphLayer(nn.Module):
    """A layer of the nodes' means alone; `propagate`: (P, N, D), (P, N, E) -> (P, N, D), before the activation."""

    def forward(self, node_mean, node_variance, edge_mean, edge_variance, incidence) -> HypergraphState:
        updated = nn.functional.elu(self.propagate(node_mean, incidence))
        return HypergraphState(updated, node_variance, edge_mean, edge_variance, None, None)


class HypergraphConvolution(_GraphLayer):
    """HGNN (Feng et al. 2019, https://arxiv.org/abs/1809.09401): ELU(Dv^-1/2 S W De^-1 S^T Dv^-1/2 X Theta), W = I.

    Dv and De are the degrees of S's nodes and hyperedges.
    """

    def __init__(self, *, hidden_size: int):
        super().__init__()
        self.theta = nn.Linear(hidden_size, hidden_size, bias=False)

    def propagate(self, node_mean, incidence):
        membership = with_self_loops(incidence).to(node_mean.dtype)  # (P, N, E + N)
        node_scale = _inverse_sqrt(membership.sum(dim=2)).unsqueeze(-1)  # (P, N, 1)
        edge_size = membership.sum(dim=1).clamp(min=1).unsqueeze(-1)  # (P, E + N, 1)
        gathered = membership.transpose(1, 2) @ (node_scale * self.theta(node_mean)) / edge_size  # (P, E + N, D)
        return node_scale * (membership @ gathered)  # (P, N, D)


class GraphConvolution(_GraphLayer):
    """GCN (Kipf and Welling 2016, https://arxiv.org/abs/1609.02907): ELU(D^-1/2 A D^-1/2 X W), Kipf's I is in A."""

    def __init__(self, *, hidden_size: int):
        super().__init__()
        self.weight = nn.Linear(hidden_size, hidden_size, bias=False)

    def propagate(self, node_mean, incidence):
        return _normalised_adjacency(incidence, node_mean.dtype) @ self.weight(node_mean)  # (P, N, D)


class GaussianGraphConvolution(nn.Module):
    """A GCN on Gaussians, as the RGCN of Zhu et al. 2019 (https://doi.org/10.1145/3292500.3330851).

    mean' = ELU(L mean W_mu), variance' = ReLU((L * L) variance W_var) + eps with L = D^-1/2 A D^-1/2. Zhu's
    variance-based attention is left out: the row asks for a plain GCN on Gaussians. `eps` keeps the KL finite.
    """

    def __init__(self, *, hidden_size: int, variance_eps: float):
        super().__init__()
        self.variance_eps = variance_eps
        self.mean_weight = nn.Linear(hidden_size, hidden_size, bias=False)
        self.variance_weight = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, node_mean, node_variance, edge_mean, edge_variance, incidence) -> HypergraphState:
        adjacency = _normalised_adjacency(incidence, node_mean.dtype)
        new_mean = nn.functional.elu(adjacency @ self.mean_weight(node_mean))  # (P, N, D)
        spread = adjacency.square() @ self.variance_weight(node_variance)  # (P, N, D)
        new_variance = nn.functional.relu(spread) + self.variance_eps
        return HypergraphState(new_mean, new_variance, edge_mean, edge_variance, None, None)


class GraphAttention(_GraphLayer):
    """GAT (Velickovic et al. 2018, https://arxiv.org/abs/1710.10903) over the neighbours of A > 0, heads concatenated.

    a(i, j) = softmax over neighbours j of LeakyReLU_0.2(left . W x_i + right . W x_j); x_i' = ELU(sum_j a(i, j) Wx_j).
    """

    def __init__(self, *, hidden_size: int, num_heads: int):
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.num_heads = num_heads
        self.weight = nn.Linear(hidden_size, hidden_size, bias=False)
        self.left = nn.Linear(hidden_size // num_heads, num_heads, bias=False)  # row k scores head k
        self.right = nn.Linear(hidden_size // num_heads, num_heads, bias=False)

    def propagate(self, node_mean, incidence):
        values = self.weight(node_mean).unflatten(-1, (self.num_heads, -1))  # (P, N, heads, d_head)
        left = (values * self.left.weight).sum(dim=-1).transpose(1, 2)  # (P, heads, N)
        right = (values * self.right.weight).sum(dim=-1).transpose(1, 2)  # (P, heads, N)
        scores = nn.functional.leaky_relu(left.unsqueeze(-1) + right.unsqueeze(-2), 0.2)  # (P, heads, N, N)
        weights = masked_softmax(scores, _clique_weights(incidence, scores.dtype).unsqueeze(1) > 0)
        return (weights @ values.transpose(1, 2)).transpose(1, 2).flatten(2)  # (P, N, D)


def propagation_layers(
    encoder: str,
    num_layers: int,
    *,
    hidden_size: int,
    num_heads: int,
    variational: bool,
    variance_eps: float,
    num_roles: int = 0,
) -> list[nn.Module]:
    """The layers of what `hypergraph_encoder` names; "mean" and "none" have none. V-HAN's alone know roles, and its
    last one updates nodes only.
    """
    if encoder in ("mean", "none"):
        return []
    heads = {"num_heads": num_heads}
    layer, options = {
        "vhan": (VariationalHypergraphAttention, {**heads, "variational": variational, "num_roles": num_roles}),
        "gat": (GraphAttention, heads),
        "variational_gcn": (GaussianGraphConvolution, {"variance_eps": variance_eps}),
        "hgnn": (HypergraphConvolution, {}),
        "gcn": (GraphConvolution, {}),
    }[encoder]
    of_last = {"update_hyperedges": False} if encoder == "vhan" else {}
    ends = [{}] * (num_layers - 1) + [of_last]
    return [layer(hidden_size=hidden_size, **options, **of_layer) for of_layer in ends]
