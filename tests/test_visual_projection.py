"""The projection of region features: what it normalises, and that padding takes no part."""

import pytest
import torch

from modeling_vmhan.visual_projection import VisualProjection


def test_visual_projection_normalises_what_the_docstring_says():
    torch.manual_seed(0)
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    features, mask = torch.rand(3, 2, 6), torch.tensor([[True, True], [True, False], [True, True]])
    rows = torch.nn.functional.layer_norm(features[mask], (6,))
    rows = projection.linear((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt())
    by_hand = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    projected = projection(features, mask)
    torch.testing.assert_close(projected[mask], by_hand)
    assert projected[1, 1].eq(0).all()


def test_visual_projection_ignores_padding():
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    features, mask = torch.rand(2, 2, 6), torch.tensor([[True, True], [True, False]])
    poisoned = features.clone()
    poisoned[1, 1] = 1e6
    torch.testing.assert_close(projection(features, mask)[mask], projection(poisoned, mask)[mask])


@pytest.mark.parametrize("count", [0, 1])
def test_visual_projection_trains_on_a_batch_with_hardly_a_region(count):
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    mask = torch.zeros(2, 1, dtype=torch.bool)
    mask[:count] = True
    projected = projection(torch.rand(2, 1, 6), mask)
    projected.sum().backward()
    assert projected.isfinite().all() and projected[~mask].eq(0).all()
    assert projection.linear.weight.grad is not None and projection.linear.weight.grad.isfinite().all()
