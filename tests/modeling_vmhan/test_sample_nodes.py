"""Sampled nodes: draws in training, the mean in evaluation, and a gradient that reaches the variance."""

import pytest
import torch
from tiny import ALL_MODES, close, without_labels

from modeling_vmhan.variational import sampled


@ALL_MODES
def test_training_draws_and_evaluation_does_not(mode, make_model, encode, posts):
    model = make_model(entity_representation=mode, sample_nodes=True)
    plain = make_model(entity_representation=mode)
    inputs = encode(model, posts())
    with torch.no_grad():
        close(model(**inputs).logits, plain(**inputs).logits)
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)
        model.train(), plain.train()
        assert (model(**inputs).logits - model(**inputs).logits).abs().max() > 1e-2
        close(plain(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize(("preset", "scope"), [("full", "pair"), ("full", "post"), ("no_vhan", "pair")])
def test_the_logits_drawn_have_the_moments_of_the_gaussians(preset, scope, make_model, encode, posts):
    """Of a linear classifier: the mean is evaluation's logits, the variance W^2 v over the means it reads."""
    model = make_model(preset, sample_nodes=True, hypergraph_scope=scope)
    inputs = without_labels(encode(model, posts()[:1]))
    with torch.no_grad():
        output = model(**inputs, output_gaussians=True)
        model.train()
        model.vmhan.eval()  # whose batch norms would take the statistics of the batch
        drawn = torch.stack([model(**inputs).logits for _ in range(4000)])  # (draws, P, R)
    weight = model.classifier.weight.detach().unflatten(1, (-1, 2, model.config.hidden_size))[:, :, 0]  # (R, n, D)
    spread = torch.einsum("rnd,pnd->pr", weight.square(), output.read_variance)
    error = (drawn.mean(dim=0) - output.logits).abs() / (spread / len(drawn)).sqrt()
    assert error.max() < 4.5
    torch.testing.assert_close(drawn.var(dim=0), spread, atol=0, rtol=0.15)


def test_the_gradient_reaches_the_variance():
    mean, variance, noise = torch.zeros(2, 3), torch.full((2, 3), 0.25, requires_grad=True), torch.randn(2, 3)
    sampled(mean, variance, noise).sum().backward()
    close(variance.grad, noise)  # d sqrt(v) = 1 / (2 sqrt(v)) = 1 at a quarter


def test_the_variance_learns_from_the_relations_alone(make_model, encode, posts):
    """Even where the classifier reads no variance, as at a safe start."""
    gradients = []
    for sample_nodes in (False, True):
        weights = {"reconstruction_loss_weight": 0.0, "kl_loss_weight": 0.0}
        model = make_model(safe_start=True, sample_nodes=sample_nodes, **weights).train()
        model(**encode(model, posts())).loss.backward()
        gradients.append(model.vmhan.gaussian_nodes.variance_projection.weight.grad.abs().max().item())
    assert gradients[0] == 0 and gradients[1] > 1e-4
