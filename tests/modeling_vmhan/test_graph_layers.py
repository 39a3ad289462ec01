"""The four graph layers of Table 2 against their published formulas, worked by hand with loops on small graphs."""

import math

import pytest
import torch
from tiny import elu, times

from modeling_vmhan.graph_layers import (
    GaussianGraphConvolution,
    GraphAttention,
    GraphConvolution,
    HypergraphConvolution,
)
from modeling_vmhan.hypergraph import clique_adjacency
from modeling_vmhan.layers import VariationalHypergraphAttention


D, HEADS, EPS = 6, 2, 1e-3
ABSENT_NODE = 5

# hyperedges {0, 1, 2}, {1, 3}, {4} (a node alone in its hyperedge) and an empty one; node 5 is absent
INCIDENCE = [
    [True, False, False, False],
    [True, True, False, False],
    [True, False, False, False],
    [False, True, False, False],
    [False, False, True, False],
    [False, False, False, False],
]
NODES, EDGES = range(6), range(4)

LAYERS = {
    "hgnn": lambda: HypergraphConvolution(hidden_size=D),
    "gcn": lambda: GraphConvolution(hidden_size=D),
    "variational_gcn": lambda: GaussianGraphConvolution(hidden_size=D, variance_eps=EPS),
    "gat": lambda: GraphAttention(hidden_size=D, num_heads=HEADS),
}
VHAN = {"vhan": lambda: VariationalHypergraphAttention(hidden_size=D, num_heads=HEADS)}
every_graph_layer = pytest.mark.parametrize("name", list(LAYERS))
every_layer = pytest.mark.parametrize("name", [*LAYERS, *VHAN])


def baseline(name, seed=0):
    torch.manual_seed(seed)
    layer = {**LAYERS, **VHAN}[name]().double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def graph(name, *, pairs=1, seed=0):
    """Arguments of `forward`, float64; only the variational layer is given variances."""
    generator = torch.Generator().manual_seed(seed)

    def normal(count):
        return torch.randn(pairs, count, D, dtype=torch.float64, generator=generator)

    node_mean, node_variance = normal(len(NODES)), normal(len(NODES)).exp()
    edge_mean, edge_variance = normal(len(EDGES)), normal(len(EDGES)).exp()
    if name not in ("variational_gcn", "vhan"):
        node_variance = edge_variance = None
    return node_mean, node_variance, edge_mean, edge_variance, torch.tensor(INCIDENCE).expand(pairs, -1, -1)


def changed(tensors, change):
    return [None if tensor is None else change(tensor) for tensor in tensors]


def neighbours(i):
    """Nodes that share a hyperedge with node i, itself included: the clique expansion with self-loops."""
    return [k for k in NODES if any(INCIDENCE[i][e] and INCIDENCE[k][e] for e in EDGES)]


def normalised_adjacency(i, k):
    """Entry (i, k) of D^-1/2 (A + I) D^-1/2 (Kipf and Welling 2016); degrees count the self-loop."""
    return 1 / math.sqrt(len(neighbours(i)) * len(neighbours(k))) if k in neighbours(i) else 0.0


def propagated(weight_of, vectors, weight):
    """sum_k weight_of(i, k) * (weight x_k) for each node i."""
    messages = [times(weight, vector) for vector in vectors]
    return [[sum(weight_of(i, k) * messages[k][d] for k in NODES) for d in range(D)] for i in NODES]


def assert_equal(actual, by_hand):
    torch.testing.assert_close(actual, torch.tensor([by_hand], dtype=torch.float64), rtol=0, atol=1e-12)


def test_hgnn_is_feng_2019():
    layer, inputs = baseline("hgnn"), graph("hgnn")
    node_degree = [sum(INCIDENCE[i]) for i in NODES]
    edge_degree = [sum(INCIDENCE[i][e] for i in NODES) for e in EDGES]

    def weight_of(i, k):  # entry (i, k) of Dv^-1/2 H De^-1 H^T Dv^-1/2
        shared = [1 / edge_degree[e] for e in EDGES if INCIDENCE[i][e] and INCIDENCE[k][e]]
        return sum(shared) / math.sqrt(node_degree[i] * node_degree[k]) if shared else 0.0

    expected = propagated(weight_of, inputs[0][0].tolist(), layer.theta.weight.tolist())
    assert_equal(layer(*inputs).node_mean, [[elu(value) for value in row] for row in expected])


def test_gcn_is_kipf_2016_over_the_clique_expansion():
    layer, inputs = baseline("gcn"), graph("gcn")
    expected = propagated(normalised_adjacency, inputs[0][0].tolist(), layer.weight.weight.tolist())
    assert_equal(layer(*inputs).node_mean, [[elu(value) for value in row] for row in expected])


def test_variational_gcn_propagates_variances_with_the_squared_adjacency():
    layer, inputs = baseline("variational_gcn"), graph("variational_gcn")
    state = layer(*inputs)
    mean = propagated(normalised_adjacency, inputs[0][0].tolist(), layer.mean_weight.weight.tolist())
    assert_equal(state.node_mean, [[elu(value) for value in row] for row in mean])
    variance = propagated(
        lambda i, k: normalised_adjacency(i, k) ** 2, inputs[1][0].tolist(), layer.variance_weight.weight.tolist()
    )
    assert_equal(state.node_variance, [[max(value, 0.0) + EPS for value in row] for row in variance])


def test_gat_is_velickovic_2018_over_the_clique_expansion():
    layer, inputs = baseline("gat"), graph("gat")
    size = D // HEADS
    left, right = layer.left.weight.tolist(), layer.right.weight.tolist()
    projected = [times(layer.weight.weight.tolist(), vector) for vector in inputs[0][0].tolist()]

    def score(i, k, head):
        slices = [projected[node][head * size : (head + 1) * size] for node in (i, k)]
        value = times([left[head]], slices[0])[0] + times([right[head]], slices[1])[0]
        return value if value > 0 else 0.2 * value

    expected = []
    for i in NODES:
        row = []
        for d in range(D):
            exponentials = {k: math.exp(score(i, k, d // size)) for k in neighbours(i)}
            total = sum(exponentials.values())
            row.append(elu(sum(value / total * projected[k][d] for k, value in exponentials.items())))
        expected.append(row)
    assert_equal(layer(*inputs).node_mean, expected)


@every_graph_layer
def test_hyperedges_come_back_as_they_came_in(name):
    inputs = graph(name)
    state = baseline(name)(*inputs)
    assert torch.equal(state.edge_mean, inputs[2])
    assert state.node_mean.shape == inputs[0].shape
    if name == "variational_gcn":
        assert torch.equal(state.edge_variance, inputs[3])
    else:
        assert state.node_variance is None
        assert state.edge_variance is None


@every_graph_layer
def test_absent_nodes_stay_zero_and_reach_nobody(name):
    layer = baseline(name)
    *tensors, incidence = graph(name)
    before = layer(*tensors, incidence)
    assert not before.node_mean[:, ABSENT_NODE].any()
    if name == "variational_gcn":
        torch.testing.assert_close(before.node_variance[:, ABSENT_NODE], torch.full((1, D), EPS, dtype=torch.float64))

    def overwrite(tensor):
        tensor = tensor.clone()
        tensor[:, ABSENT_NODE:] = 1e4
        return tensor

    after = layer(*changed(tensors[:2], overwrite), *tensors[2:], incidence)
    for old, new in zip(before[:2], after[:2], strict=True):
        assert old is new is None or torch.equal(old, new)


@every_layer
def test_padding_nodes_and_hyperedges_changes_nothing(name):
    layer = baseline(name)
    node_mean, node_variance, edge_mean, edge_variance, incidence = graph(name)
    padded = layer(node_mean, node_variance, edge_mean, edge_variance, incidence)
    nodes = changed((node_mean, node_variance), lambda tensor: tensor[:, :5])
    edges = changed((edge_mean, edge_variance), lambda tensor: tensor[:, :3])
    without = layer(*nodes, *edges, incidence[:, :5, :3])
    torch.testing.assert_close(padded.node_mean[:, :5], without.node_mean)
    if node_variance is not None:
        torch.testing.assert_close(padded.node_variance[:, :5], without.node_variance)


@every_layer
def test_permuting_nodes_permutes_the_output(name):
    layer, order = baseline(name), [3, 5, 0, 4, 2, 1]
    node_mean, node_variance, edge_mean, edge_variance, incidence = graph(name, pairs=2)
    before = layer(node_mean, node_variance, edge_mean, edge_variance, incidence)
    nodes = changed((node_mean, node_variance), lambda tensor: tensor[:, order])
    after = layer(*nodes, edge_mean, edge_variance, incidence[:, order])
    torch.testing.assert_close(after.node_mean, before.node_mean[:, order])
    if node_variance is not None:
        torch.testing.assert_close(after.node_variance, before.node_variance[:, order])


@every_layer
def test_pairs_of_a_batch_do_not_mix(name):
    layer = baseline(name)
    *tensors, incidence = graph(name, pairs=3)
    together = layer(*tensors, incidence)
    alone = layer(*changed(tensors, lambda tensor: tensor[1:2]), incidence[1:2])
    torch.testing.assert_close(alone.node_mean, together.node_mean[1:2])


@every_layer
def test_gradients_are_finite_and_reach_every_parameter(name):
    layer = baseline(name)
    *tensors, incidence = graph(name, pairs=2)
    tensors = changed(tensors, lambda tensor: tensor.clone().requires_grad_())
    incidence = torch.stack([incidence[0], torch.zeros_like(incidence[0])])  # the second pair has no member at all
    state = layer(*tensors, incidence)
    assert all(torch.isfinite(tensor).all() for tensor in state[:2] if tensor is not None)
    sum(tensor.square().sum() for tensor in state[:4] if tensor is not None).backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in tensors[:2] if tensor is not None)
    for parameter_name, parameter in layer.named_parameters():
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_variational_gcn_keeps_its_variance_above_eps_for_any_weights():
    for seed in range(20):
        layer, state = baseline("variational_gcn", seed), graph("variational_gcn", seed=seed)
        for _ in range(3):
            state = (*layer(*state)[:4], state[4])
            assert (state[1] >= EPS).all()


@pytest.fixture
def geometric():
    return pytest.importorskip("torch_geometric.nn", reason="needs torch_geometric: pip install -e '.[bench]'")


def test_hypergraph_convolution_is_that_of_torch_geometric(geometric):
    """Theirs is D^-1 H B^-1 H^T X Theta, ours D^-1/2 H B^-1 H^T D^-1/2 X Theta: one is the other between D^1/2."""
    layer, inputs = baseline("hgnn"), graph("hgnn", pairs=3)
    node_mean, incidence = inputs[0], inputs[-1]
    pair, node, edge = incidence.nonzero(as_tuple=True)
    index = torch.stack([pair * len(NODES) + node, pair * len(EDGES) + edge])
    theirs = geometric.HypergraphConv(D, D, bias=False).double()
    theirs.lin.weight.data.copy_(layer.theta.weight.data)
    root = incidence.sum(dim=2).clamp(min=1).double().sqrt().unsqueeze(-1)  # (P, N, 1)
    output = root * theirs((node_mean / root).flatten(0, 1), index, num_edges=3 * len(EDGES)).view(3, len(NODES), D)
    torch.testing.assert_close(layer(*inputs).node_mean, torch.nn.functional.elu(output))


def test_plain_graph_layers_are_those_of_torch_geometric(geometric):
    """On the clique expansion, whose self-loops it has already."""
    inputs = graph("gcn", pairs=3)
    pair, one, other = clique_adjacency(inputs[-1]).nonzero(as_tuple=True)  # node `one` reads node `other`
    index = torch.stack([pair * len(NODES) + other, pair * len(NODES) + one])
    layers = {"gcn": baseline("gcn"), "gat": baseline("gat")}
    options = {"bias": False, "add_self_loops": False}
    theirs = {
        "gcn": geometric.GCNConv(D, D, **options).double(),
        "gat": geometric.GATConv(D, D // HEADS, heads=HEADS, **options).double(),
    }
    theirs["gat"].att_dst.data.copy_(layers["gat"].left.weight.data)
    theirs["gat"].att_src.data.copy_(layers["gat"].right.weight.data)
    for name, layer in layers.items():
        theirs[name].lin.weight.data.copy_(layer.weight.weight.data)
        output = theirs[name](inputs[0].flatten(0, 1), index).view(3, len(NODES), D)
        torch.testing.assert_close(layer(*inputs).node_mean, torch.nn.functional.elu(output))
