"""The four graph layers of Table 2 against their published formulas, worked by hand with loops on small graphs."""

import math

import pytest
import torch
from tiny import elu, times

from modeling_vmhan.configuration_vmhan import PRESETS
from modeling_vmhan.graph_layers import (
    GaussianGraphConvolution,
    GraphAttention,
    GraphConvolution,
    HypergraphConvolution,
)
from modeling_vmhan.hypergraph import build_incidence, with_self_loops
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
LOOPED = [[*row, *(i == k and any(row) for k in NODES)] for i, row in enumerate(INCIDENCE)]  # S, with self-loops

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


def shared(i, k):
    """Entry (i, k) of A = S S^T: how many hyperedges two nodes share; with itself a node shares its loop too."""
    return sum(of_i and of_k for of_i, of_k in zip(LOOPED[i], LOOPED[k], strict=True))


def normalised_adjacency(i, k):
    """Entry (i, k) of D^-1/2 A D^-1/2 (Kipf and Welling 2016), whose I is the loops of A."""
    degrees = [sum(shared(node, other) for other in NODES) for node in (i, k)]
    return shared(i, k) / math.sqrt(math.prod(degrees)) if shared(i, k) else 0.0


def propagated(weight_of, vectors, weight):
    """sum_k weight_of(i, k) * (weight x_k) for each node i."""
    messages = [times(weight, vector) for vector in vectors]
    return [[sum(weight_of(i, k) * messages[k][d] for k in NODES) for d in range(D)] for i in NODES]


def assert_equal(actual, by_hand):
    torch.testing.assert_close(actual, torch.tensor([by_hand], dtype=torch.float64), rtol=0, atol=1e-12)


def test_hgnn_is_feng_2019():
    layer, inputs = baseline("hgnn"), graph("hgnn")
    node_degree = [sum(LOOPED[i]) for i in NODES]
    edge_degree = [sum(column) for column in zip(*LOOPED, strict=True)]

    def weight_of(i, k):  # entry (i, k) of Dv^-1/2 S De^-1 S^T Dv^-1/2
        parts = [1 / degree for degree, a, b in zip(edge_degree, LOOPED[i], LOOPED[k], strict=True) if a and b]
        return sum(parts) / math.sqrt(node_degree[i] * node_degree[k]) if parts else 0.0

    expected = propagated(weight_of, inputs[0][0].tolist(), layer.theta.weight.tolist())
    assert_equal(layer(*inputs).node_mean, [[elu(value) for value in row] for row in expected])


def test_gcn_is_kipf_2016_over_the_weighted_clique_expansion():
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
            exponentials = {k: math.exp(score(i, k, d // size)) for k in NODES if shared(i, k)}
            total = sum(exponentials.values())
            row.append(elu(sum(value / total * projected[k][d] for k, value in exponentials.items())))
        expected.append(row)
    assert_equal(layer(*inputs).node_mean, expected)


# nodes: head, tail, two text phrases, image, object. Which are present.
PAIRS = {"no image": [1, 1, 0, 0, 0, 0], "image": [1, 1, 0, 0, 1, 1], "phrases": [1, 1, 1, 1, 0, 0], "all": [1] * 6}


@pytest.mark.parametrize("present", PAIRS.values(), ids=PAIRS)
@every_graph_layer
def test_head_and_tail_do_not_come_out_alike(name, present):
    """As far apart as a tenth of their length, on average over pairs; in a clique expansion of 0 and 1, GCN has 0."""
    mask, is_visual = torch.tensor([present]).bool(), torch.tensor([[False] * 4 + [True] * 2])
    *tensors, _ = graph(name, pairs=50)
    incidence = build_incidence(mask, is_visual, families=PRESETS[name]["hyperedges"]).expand(50, -1, -1)
    head, tail = baseline(name)(*tensors, incidence).node_mean[:, :2].unbind(dim=1)
    apart = (head - tail).norm(dim=-1) / (head.norm(dim=-1) + tail.norm(dim=-1))
    assert apart.mean() > 0.1 and "global" not in PRESETS[name]["hyperedges"]


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
    incidence = with_self_loops(incidence)
    pair, node, edge = incidence.nonzero(as_tuple=True)
    index = torch.stack([pair * len(NODES) + node, pair * incidence.shape[-1] + edge])
    theirs = geometric.HypergraphConv(D, D, bias=False).double()
    theirs.lin.weight.data.copy_(layer.theta.weight.data)
    root = incidence.sum(dim=2).clamp(min=1).double().sqrt().unsqueeze(-1)  # (P, N, 1)
    output = root * theirs((node_mean / root).flatten(0, 1), index, num_edges=3 * incidence.shape[-1]).view(
        3, len(NODES), D
    )
    torch.testing.assert_close(layer(*inputs).node_mean, torch.nn.functional.elu(output))


def test_plain_graph_layers_are_those_of_torch_geometric(geometric):
    """On the clique expansion, whose self-loops it has already; a GAT reads which weights are not 0."""
    inputs, membership = graph("gcn", pairs=3), with_self_loops(torch.tensor(INCIDENCE)).double()
    adjacency = (membership @ membership.T).expand(3, -1, -1)
    pair, one, other = adjacency.nonzero(as_tuple=True)  # node `one` reads node `other`
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
        weights = {"edge_weight": adjacency[pair, one, other]} if name == "gcn" else {}
        output = theirs[name](inputs[0].flatten(0, 1), index, **weights).view(3, len(NODES), D)
        torch.testing.assert_close(layer(*inputs).node_mean, torch.nn.functional.elu(output))
