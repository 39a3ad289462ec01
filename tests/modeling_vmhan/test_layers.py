"""Variational hypergraph attention (equations 5 to 8) against loops, and its invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import elu, times

from modeling_vmhan.graph_layers import GraphAttention
from modeling_vmhan.layers import VariationalHypergraphAttention, masked_softmax
from modeling_vmhan.variational import initial_hyperedges


D, HEADS = 6, 2
EMPTY_EDGE, ABSENT_NODE = 2, 4

# 4 nodes and 2 hyperedges, {0, 1, 2} and {1, 3}
SMALL = [[True, False], [True, True], [True, False], [False, True]]
# the same with a fifth, absent node and a third, empty hyperedge
PADDED = [[*row, False] for row in SMALL] + [[False, False, False]]


def graph(incidence, *, pairs=1, seed=0):
    """Arguments of `forward`: random Gaussians (float64) for every node and hyperedge, empty ones included."""
    generator = torch.Generator().manual_seed(seed)
    incidence = torch.tensor(incidence).expand(pairs, -1, -1)  # (P, N, E)
    _, num_nodes, num_edges = incidence.shape

    def normal(count):
        return torch.randn(pairs, count, D, dtype=torch.float64, generator=generator)

    return normal(num_nodes), normal(num_nodes).exp(), normal(num_edges), normal(num_edges).exp(), incidence


def attention_layer(*, seed=0, **settings_of_layer):
    torch.manual_seed(seed)
    layer = VariationalHypergraphAttention(hidden_size=D, num_heads=HEADS, **settings_of_layer).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def update_by_hand(targets, sources, members, target_weight, source_weight, mean_weight, variance_weight):
    """One direction of the layer with loops; `targets` and `sources` are (means, variances) as lists of vectors.

    Returns the new means, the new variances and the attention [head][target][source].
    """
    size = D // HEADS
    attention = [[[0.0] * len(sources[0]) for _ in targets[0]] for _ in range(HEADS)]
    new_means, new_variances = [], []
    for t, target_mean in enumerate(targets[0]):
        mean_message, variance_message = [0.0] * D, [0.0] * D
        query = times(target_weight, target_mean)
        for head in range(HEADS):
            channels = range(head * size, (head + 1) * size)
            exponentials = {}
            for s in members[t]:
                key = times(source_weight, sources[0][s])
                exponentials[s] = math.exp(sum(query[c] * key[c] for c in channels) / math.sqrt(size))
            for s in members[t]:
                a = exponentials[s] / sum(exponentials.values())
                attention[head][t][s] = a
                for c in channels:
                    mean_message[c] += a * times(mean_weight, sources[0][s])[c]
                    variance_message[c] += a**2 * times(variance_weight, sources[1][s])[c]
        new_means.append([elu(m) + old for m, old in zip(mean_message, target_mean, strict=True)])
        new_variances.append([max(m, 0.0) + old for m, old in zip(variance_message, targets[1][t], strict=True)])
    return new_means, new_variances, attention


@pytest.mark.parametrize(
    "incidence", [SMALL, PADDED], ids=["4 nodes, 2 hyperedges", "with absent node, empty hyperedge"]
)
def test_layer_equals_equations_5_to_8_by_hand(incidence):
    layer, inputs = attention_layer(), graph(incidence)
    state = layer(*inputs)

    weight = {name: child.weight.tolist() for name, child in layer.named_children()}
    nodes = inputs[0][0].tolist(), inputs[1][0].tolist()
    edges = inputs[2][0].tolist(), inputs[3][0].tolist()
    nodes_of = [[i for i, row in enumerate(incidence) if row[j]] for j in range(len(incidence[0]))]
    edges_of = [[j for j, inside in enumerate(row) if inside] for row in incidence]
    of_edges = [weight[name] for name in ("edge_query", "node_key", "edge_mean_value", "edge_variance_value")]
    of_nodes = [weight[name] for name in ("node_key", "edge_query", "node_mean_value", "node_variance_value")]
    edge_mean, edge_variance, node_to_edge = update_by_hand(edges, nodes, nodes_of, *of_edges)
    node_mean, node_variance, edge_to_node = update_by_hand(nodes, edges, edges_of, *of_nodes)
    expected = [node_mean, node_variance, edge_mean, edge_variance, node_to_edge, edge_to_node]
    for name, actual, by_hand in zip(state._fields, state, expected, strict=True):
        by_hand = torch.tensor([by_hand], dtype=torch.float64)
        torch.testing.assert_close(actual, by_hand, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


def test_a_role_is_added_to_a_node_in_one_hyperedge_alone():
    """There it is as if the node's mean were x + r, for its key and its value."""
    layer, (*tensors, incidence) = attention_layer(num_roles=2), graph(PADDED, pairs=2)
    roles = torch.randint(2, (*incidence.shape, 2), generator=torch.Generator().manual_seed(0)).double()
    state = layer(*tensors, incidence, roles)
    node_mean, node_variance, edge_mean, edge_variance = tensors
    query, scores = layer.edge_query(edge_mean).unflatten(-1, (HEADS, -1)), []
    for edge in range(incidence.shape[-1]):
        moved = node_mean + layer.role(roles[:, :, edge])
        alone = layer(moved, node_variance, edge_mean, edge_variance, incidence)
        for name in ("edge_mean", "edge_variance"):
            torch.testing.assert_close(getattr(state, name)[:, edge], getattr(alone, name)[:, edge])
        torch.testing.assert_close(state.node_to_edge[:, :, edge], alone.node_to_edge[:, :, edge])
        key = layer.node_key(moved).unflatten(-1, (HEADS, -1))  # (P, N, heads, d_head)
        scores.append(torch.einsum("phd,pnhd->phn", query[:, edge], key) / (D // HEADS) ** 0.5)
    attention = masked_softmax(torch.stack(scores, dim=-1), incidence.unsqueeze(1))
    torch.testing.assert_close(state.edge_to_node, attention)
    plain = layer(*tensors, incidence)
    assert (state.edge_mean - plain.edge_mean).abs().max() > 0.1
    assert (state.node_mean - plain.node_mean).abs().max() > 0.1


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(5)), st.permutations(range(3)))
def test_permuting_nodes_and_hyperedges_permutes_the_output(node_order, edge_order):
    layer = attention_layer()
    *tensors, incidence = graph(PADDED, pairs=2)
    before, orders = layer(*tensors, incidence), (node_order, node_order, edge_order, edge_order)
    permuted = [tensor[:, order] for tensor, order in zip(tensors, orders, strict=True)]
    after = layer(*permuted, incidence[:, node_order][:, :, edge_order])
    for new, old, order in zip(after, before, orders):
        torch.testing.assert_close(new, old[:, order])
    torch.testing.assert_close(after.node_to_edge, before.node_to_edge[:, :, edge_order][..., node_order])
    torch.testing.assert_close(after.edge_to_node, before.edge_to_node[:, :, node_order][..., edge_order])


def test_absent_nodes_and_empty_hyperedges_reach_nobody():
    layer, before = attention_layer(), graph(PADDED)
    changed = [tensor.clone() for tensor in before[:4]]
    for tensor, index in zip(changed, (ABSENT_NODE, ABSENT_NODE, EMPTY_EDGE, EMPTY_EDGE), strict=True):
        tensor[:, index] = 1e4
    state, other = layer(*before), layer(*changed, before[-1])
    for new, same, old, count in zip(state, other, before[:4], (4, 4, 2, 2)):
        assert torch.equal(new[:, :count], same[:, :count])
        assert torch.equal(new[:, count:], old[:, count:])  # which keep their own state


def test_pair_without_any_node_and_batch_without_any_pair_are_defined():
    layer, inputs = attention_layer(), graph(PADDED)
    state = layer(*inputs[:4], torch.zeros_like(inputs[-1]))
    assert all(torch.equal(new, old) for new, old in zip(state[:4], inputs[:4], strict=True))
    assert layer(*(tensor[:0] for tensor in inputs)).node_mean.shape == (0, 5, D)


@pytest.mark.parametrize("variational", [True, False])
def test_every_parameter_of_two_layers_gets_a_gradient(variational):
    layers = [attention_layer(seed=1, variational=variational)]
    layers.append(attention_layer(seed=2, variational=variational, update_hyperedges=False))
    node_mean, node_variance, _, _, incidence = graph(PADDED, pairs=2)
    node_variance = node_variance if variational else None
    state = (node_mean, node_variance, *initial_hyperedges(node_mean, node_variance, incidence))
    for layer in layers:
        state = layer(*state, incidence)[:4]
    loss = state[0].square().sum()
    (loss + state[1].square().sum() if variational else loss).backward()
    for number, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, f"layer {number}, {name}"
            assert parameter.grad.abs().sum() > 0, f"layer {number}, {name}"


def test_last_layer_leaves_the_hyperedges_and_has_no_weights_for_them():
    full, inputs = attention_layer(), graph(PADDED)
    last = attention_layer(update_hyperedges=False)
    names = {name for name, _ in last.named_parameters()}
    assert names == {f"{name}.weight" for name in ("edge_query", "node_key", "node_mean_value", "node_variance_value")}
    last.load_state_dict({name: tensor for name, tensor in full.state_dict().items() if name in names})
    state, expected = last(*inputs), full(*inputs)
    assert torch.equal(state.edge_mean, inputs[2])
    assert torch.equal(state.edge_variance, inputs[3])
    torch.testing.assert_close(state.node_mean, expected.node_mean)
    torch.testing.assert_close(state.node_variance, expected.node_variance)


def test_without_variational_the_means_are_the_same_and_there_is_no_variance():
    full, inputs = attention_layer(), graph(PADDED)
    plain = attention_layer(variational=False)
    names = {name for name, _ in plain.named_parameters()}
    assert names == {f"{name}.weight" for name in ("edge_query", "node_key", "node_mean_value", "edge_mean_value")}
    plain.load_state_dict({name: tensor for name, tensor in full.state_dict().items() if name in names})
    state, expected = plain(inputs[0], None, inputs[2], None, inputs[4]), full(*inputs)
    assert state.node_variance is None
    assert state.edge_variance is None
    torch.testing.assert_close(state.node_mean, expected.node_mean)
    torch.testing.assert_close(state.edge_mean, expected.edge_mean)


@pytest.mark.parametrize("layer", [VariationalHypergraphAttention, GraphAttention])
def test_hidden_size_that_heads_do_not_divide_is_refused(layer):
    with pytest.raises(ValueError, match="hidden_size=6.*num_heads=4"):
        layer(hidden_size=6, num_heads=4)


def test_masked_softmax_is_softmax_over_the_mask_and_zero_where_nothing_is_left():
    scores = torch.tensor([[1.0, 2.0, 1e4], [0.0, 5.0, 3.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    weights = masked_softmax(scores, mask)
    first = 1 / (1 + math.e)
    expected = torch.tensor([[first, 1 - first, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    weights[:, 0].sum().backward()
    slope = first * (1 - first)
    torch.testing.assert_close(scores.grad, torch.tensor([[slope, -slope, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64))
