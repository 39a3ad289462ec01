"""Monte Carlo probabilities against their exact moments, entropies against torch, the temperature against a grid."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.monte_carlo import monte_carlo_probabilities
from modeling_vmhan.uncertainty import uncertainty
from modeling_vmhan.variational import entity_features


def gaussians(pairs=3, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(pairs, 2, size, generator=generator)
    return mean, torch.rand(pairs, 2, size, generator=generator) + 0.1


def classifier(size=5, relations=4, seed=1):
    torch.manual_seed(seed)
    return nn.Linear(4 * size, relations).requires_grad_(False)


def test_sampled_logits_have_the_moments_that_the_gaussians_give():
    """A linear classifier of Gaussians is Gaussian: mean W m + b, variance W^2 v; log-probabilities show it."""
    mean, variance = gaussians(pairs=2)
    linear = classifier(relations=2)
    samples = monte_carlo_probabilities(linear, mean, variance, num_samples=20_000)
    margin = samples[..., 0].log() - samples[..., 1].log()  # = logit 0 - logit 1
    row = (linear.weight[0] - linear.weight[1]).unflatten(0, (2, 2, 5))  # (entity, mean or variance, D)
    expected = linear(entity_features(mean, variance))
    torch.testing.assert_close(margin.mean(0), expected[:, 0] - expected[:, 1], atol=0.03, rtol=0)
    spread = (row[:, 0].square() * variance).sum(dim=(1, 2))
    torch.testing.assert_close(margin.var(0), spread, atol=0, rtol=0.05)


def test_without_variance_every_sample_is_the_prediction():
    mean, variance = gaussians()
    samples = monte_carlo_probabilities(classifier(), mean, torch.zeros_like(variance), num_samples=4)
    expected = classifier()(entity_features(mean, torch.zeros_like(variance))).softmax(dim=-1)
    torch.testing.assert_close(samples, expected.expand(4, -1, -1))
    assert uncertainty(samples.numpy()).mutual_information.max() < 1e-6


def test_samples_are_answered_by_the_rule():
    mean, variance = gaussians()
    options = {"num_samples": 6}
    plain = monte_carlo_probabilities(classifier(), mean, variance, **options)
    biased = monte_carlo_probabilities(classifier(), mean, variance, rule=DecisionRule(2, 1.7, 0.9), **options)
    expected = (plain.log() + 0.9 * torch.tensor([0.0, 0.0, 1.0, 0.0])) / 1.7
    torch.testing.assert_close(biased, expected.softmax(dim=-1))


def test_a_pair_does_not_depend_on_the_batch_but_on_the_seed():
    mean, variance = gaussians()
    options = {"num_samples": 6, "rule": DecisionRule(temperature=1.7)}
    together = monte_carlo_probabilities(classifier(), mean, variance, **options)
    alone = monte_carlo_probabilities(classifier(), mean[2:], variance[2:], **options)
    torch.testing.assert_close(together[:, 2:], alone)
    other = monte_carlo_probabilities(classifier(), mean, variance, seed=1, **options)
    assert (other - together).abs().max() > 1e-3


def test_the_global_generator_is_left_alone():
    linear = classifier()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    monte_carlo_probabilities(linear, *gaussians(), num_samples=2)
    assert torch.equal(torch.rand(1), expected)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.1, 1.0, 20.0]))
def test_entropy_is_torchs_and_information_lies_between_0_and_it(seed, num_samples, scale):
    logits = scale * torch.randn(num_samples, 3, 5, generator=torch.Generator().manual_seed(seed))
    worth = uncertainty(logits.softmax(dim=-1).numpy())
    expected = torch.distributions.Categorical(probs=logits.softmax(dim=-1).mean(dim=0)).entropy()
    torch.testing.assert_close(torch.tensor(worth.entropy), expected, atol=1e-5, rtol=1e-4)
    assert (worth.mutual_information >= 0).all() and (worth.mutual_information <= worth.entropy + 1e-6).all()
    assert (worth.entropy <= math.log(5) + 1e-5).all()


def test_information_by_hand():
    """Two samples sure of different relations: all of the entropy, log 2, is disagreement. Two alike: none of it."""
    disagreeing = uncertainty(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert disagreeing.entropy.item() == pytest.approx(math.log(2))
    assert disagreeing.mutual_information.item() == pytest.approx(math.log(2))
    agreeing = uncertainty(np.array([[[0.5, 0.5]], [[0.5, 0.5]]]))
    assert agreeing.entropy.item() == pytest.approx(math.log(2)) and agreeing.mutual_information.item() == 0
