"""Gaussian nodes (equation 4), hyperedge starts and the two node losses against formulas worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from modeling_vmhan.layers import VariationalHypergraphAttention
from modeling_vmhan.variational import GaussianNodes, initial_hyperedges, kl_to_standard_normal, reconstruction_error


EPS = 1e-3


def gaussians(*shape, seed=0):
    """A mean and a positive variance, float64."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return mean, torch.rand(*shape, dtype=torch.float64, generator=generator) + 0.1


def some_mask():
    """2 pairs of 3 nodes, 4 of them valid."""
    return torch.tensor([[True, True, False], [True, False, True]])


def test_mean_is_linear_and_variance_is_softplus_plus_eps():
    torch.manual_seed(0)
    nodes = GaussianNodes(input_size=3, hidden_size=2, variance_eps=EPS).double()
    features = torch.randn(2, 4, 3, dtype=torch.float64)
    mean, variance = nodes(features)
    assert mean.shape == variance.shape == (2, 4, 2)

    mean_weight, variance_weight = nodes.mean_projection.weight.tolist(), nodes.variance_projection.weight.tolist()
    for pair in range(2):
        for node in range(4):
            x = features[pair, node].tolist()
            for d in range(2):
                by_hand = sum(w * value for w, value in zip(mean_weight[d], x, strict=True))
                assert mean[pair, node, d].item() == pytest.approx(by_hand, abs=1e-12)
                logit = sum(w * value for w, value in zip(variance_weight[d], x, strict=True))
                by_hand = math.log1p(math.exp(logit)) + EPS
                assert variance[pair, node, d].item() == pytest.approx(by_hand, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from([0.01, 1.0, 30.0]), st.integers(1, 4), st.sampled_from([1e-6, 1e-3, 0.5])
)
def test_variance_never_falls_below_eps_whatever_the_weights_and_depth(seed, scale, depth, eps):
    torch.manual_seed(seed)
    nodes = GaussianNodes(input_size=5, hidden_size=4, variance_eps=eps).double()
    layers = [VariationalHypergraphAttention(hidden_size=4, num_heads=2).double() for _ in range(depth)]
    for module in [nodes, *layers]:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=scale)
    incidence = torch.rand(3, 6, 5) < 0.5
    mean, variance = nodes(scale * torch.randn(3, 6, 5, dtype=torch.float64))
    assert (variance >= eps).all()
    edge_mean, edge_variance = initial_hyperedges(mean, variance, incidence)
    state = (mean, variance, edge_mean, edge_variance)
    for layer in layers:
        state = layer(*state, incidence)[:4]
        assert (state[1] >= eps).all()
        assert (state[3] >= edge_variance).all()  # a layer only ever adds to a variance
        assert all(torch.isfinite(tensor).all() for tensor in state)


def test_initial_hyperedge_is_the_gaussian_of_the_average_of_its_members():
    node_mean, node_variance = gaussians(1, 4, 3)
    incidence = torch.zeros(1, 4, 3, dtype=torch.bool)
    incidence[0, [0, 1, 3], 0] = True
    incidence[0, 2, 1] = True  # one member; column 2 is empty
    edge_mean, edge_variance = initial_hyperedges(node_mean, node_variance, incidence)
    assert edge_mean.shape == edge_variance.shape == (1, 3, 3)
    x, v = node_mean[0], node_variance[0]
    torch.testing.assert_close(edge_mean[0, 0], (x[0] + x[1] + x[3]) / 3)
    torch.testing.assert_close(edge_variance[0, 0], (v[0] + v[1] + v[3]) / 9)
    torch.testing.assert_close(edge_mean[0, 1], x[2])
    torch.testing.assert_close(edge_variance[0, 1], v[2])
    assert not edge_mean[0, 2].any()
    assert not edge_variance[0, 2].any()


def test_kl_equals_torch_distributions_averaged_over_d_and_valid_nodes():
    mean, variance = gaussians(2, 3, 5)
    mask = some_mask()
    terms = kl_divergence(Normal(mean, variance.sqrt()), Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    expected = terms.mean(-1)[mask].mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, variance, mask).double(), expected, rtol=1e-6, atol=1e-6)


def test_kl_of_half_precision_is_computed_in_float32():
    mean, variance = (tensor.to(torch.bfloat16) for tensor in gaussians(2, 3, 5))
    kl = kl_to_standard_normal(mean, variance, some_mask())
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, kl_to_standard_normal(mean.float(), variance.float(), some_mask()))


def test_reconstruction_error_does_not_reach_the_initial_gaussians():
    mean, variance = (tensor.requires_grad_() for tensor in gaussians(2, 3, 5, seed=1))
    mean_0, variance_0 = (tensor.requires_grad_() for tensor in gaussians(2, 3, 5, seed=2))
    reconstruction_error(mean, variance, mean_0, variance_0, some_mask()).backward()
    assert mean_0.grad is None
    assert variance_0.grad is None
    scale = 2 / (5 * 4)  # d/dx of x^2, averaged over D = 5 and 4 valid nodes
    difference = (mean - mean_0).detach() * some_mask()[..., None]
    torch.testing.assert_close(mean.grad, scale * difference, rtol=1e-6, atol=1e-7)


def test_masked_nodes_change_no_loss_and_get_no_gradient():
    mean, variance = (tensor.requires_grad_() for tensor in gaussians(2, 3, 5, seed=1))
    mean_0, variance_0 = gaussians(2, 3, 5, seed=2)
    hidden = ~some_mask()[..., None]
    before = [
        kl_to_standard_normal(mean, variance, some_mask()),
        reconstruction_error(mean, variance, mean_0, variance_0, some_mask()),
    ]
    sum(before).backward()
    for leaf in (mean, variance):
        assert not leaf.grad.masked_select(hidden).any()
        assert (leaf.grad.abs().sum(-1) > 0)[some_mask()].all()
    other_mean = torch.where(hidden, 1e6, mean)
    other_variance = torch.where(hidden, 1e6, variance)
    after = [
        kl_to_standard_normal(other_mean, other_variance, some_mask()),
        reconstruction_error(other_mean, other_variance, mean_0, variance_0, some_mask()),
    ]
    torch.testing.assert_close(after, before)


def test_losses_without_a_valid_node_are_zero_and_not_nan():
    mean, variance = (tensor.requires_grad_() for tensor in gaussians(2, 3, 5))
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    losses = kl_to_standard_normal(mean, variance, nothing) + reconstruction_error(
        mean, variance, mean, variance, nothing
    )
    losses.backward()
    assert losses.item() == 0.0
    assert not mean.grad.any()
