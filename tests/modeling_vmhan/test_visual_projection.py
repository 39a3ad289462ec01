"""The projection of region features: what it normalises, and that padding takes no part."""

import pytest
import torch

from modeling_vmhan.nodes import VisualProjection, masked_batch_norm, project_regions


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
    poisoned[1, 1] = float("nan")
    torch.testing.assert_close(projection(features, mask)[mask], projection(poisoned, mask)[mask])


@pytest.mark.parametrize("given", [torch.float16, torch.float32])
def test_features_as_they_are_stored_are_projected_under_autocast(given):
    """`--bf16 true`: autocast joins no float16 with bfloat16."""
    projection = VisualProjection(feature_size=6, hidden_size=4).eval()
    image, objects = torch.rand(2, 6).to(given), torch.rand(2, 3, 6).to(given)
    masks = torch.ones(2, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    expected = project_regions(projection, image, masks[0], objects, masks[1])
    with torch.autocast("cpu", torch.bfloat16):
        found = project_regions(projection, image, masks[0], objects, masks[1])
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("count", [0, 1])
def test_visual_projection_trains_on_a_batch_with_hardly_a_region(count):
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    mask = torch.zeros(2, 1, dtype=torch.bool)
    mask[:count] = True
    projected = projection(torch.rand(2, 1, 6), mask)
    projected.sum().backward()
    assert projected.isfinite().all() and projected[~mask].eq(0).all()
    assert projection.linear.weight.grad is not None and projection.linear.weight.grad.isfinite().all()


def selected_batch_norm(norm, values, mask):
    """The same with the rows selected, by torch's own batch norm."""
    rows = values[mask]
    if len(rows) > 1:
        rows = norm(rows)
    else:
        rows = torch.nn.functional.batch_norm(rows, norm.running_mean, norm.running_var, training=False, eps=norm.eps)
    return torch.zeros_like(values).masked_scatter(mask.unsqueeze(-1), rows)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_masked_batch_norm_is_batch_norm_of_the_selected_rows(momentum):
    """Outputs, gradients and running statistics, over batches of which some have hardly a row."""
    torch.manual_seed(0)
    masked, selected = (torch.nn.BatchNorm1d(5, affine=False, momentum=momentum).double() for _ in range(2))
    for count in (7, 0, 12, 1, 2, 8):
        values, weights = torch.randn(4, 3, 5, dtype=torch.float64) * 3 + 1, torch.randn(4, 3, 5)
        mask = (torch.randperm(12) < count).view(4, 3)
        inputs = [values.clone().requires_grad_() for _ in range(2)]
        outputs = masked_batch_norm(masked, inputs[0], mask), selected_batch_norm(selected, inputs[1], mask)
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
        for output in outputs:
            (output * weights).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
        for name, value in selected.state_dict().items():
            torch.testing.assert_close(masked.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert selected.num_batches_tracked == 4
    values, mask = torch.randn(2, 2, 5, dtype=torch.float64), torch.tensor([[True, False], [False, False]])
    masked, selected = masked.eval(), selected.eval()
    torch.testing.assert_close(masked_batch_norm(masked, values, mask), selected_batch_norm(selected, values, mask))
    assert masked.num_batches_tracked == 4


def test_two_batches_may_go_forward_before_either_goes_backward():
    """As in gradient accumulation over one graph, and in DDP, which writes into the running statistics in between."""
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    mask = torch.ones(3, 2, dtype=torch.bool)
    first, second = projection(torch.rand(3, 2, 6), mask), projection(torch.rand(3, 2, 6), mask)
    for buffer in projection.buffers():
        buffer.zero_()
    (first.square().sum() + second.sum()).backward()
    assert projection.linear.weight.grad.isfinite().all()


def test_a_frozen_projection_keeps_its_statistics():
    """What is frozen is not saved with an adapter, so training must not change it."""
    projection, mask = VisualProjection(feature_size=6, hidden_size=4), torch.ones(3, 2, dtype=torch.bool)
    for is_frozen in (False, True):
        projection.requires_grad_(not is_frozen)
        before = [buffer.clone() for buffer in projection.buffers()]
        projection.train()(torch.rand(3, 2, 6), mask)
        assert all(map(torch.equal, before, projection.buffers())) == is_frozen
