"""From region features to node features, V -> D."""

import torch
from torch import Tensor, nn


__all__ = ["VisualProjection", "masked_batch_norm"]


class VisualProjection(nn.Module):
    """Projection of region features to the node size, V -> D, with both sides normalised.

    Departure from the paper, which has the linear map alone: fc7 vectors are non-negative and those of different
    regions nearly parallel (cosine 0.98 with random weights), so that attention between a word and one of several
    regions did not learn from the raw map. LayerNorm takes out each vector's scale, a BatchNorm over the features what
    all regions share (a running average over all of training: they are data and do not drift), and a BatchNorm over
    the projection sets its scale.

    feature_size is V, hidden_size D.
    """

    def __init__(self, *, feature_size: int, hidden_size: int):
        super().__init__()
        self.feature_norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.region_norm = nn.BatchNorm1d(feature_size, affine=False, momentum=None)
        self.linear = nn.Linear(feature_size, hidden_size, bias=False)  # the norm behind it would take a bias out
        self.node_norm = nn.BatchNorm1d(hidden_size, affine=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (B, O, V), mask (B, O) bool -> (B, O, D), zeros where no region is.

        Statistics are those of the batch's regions in training (of a batch with two or more) and the running ones in
        evaluation; padding takes no part, whatever it holds.
        """
        features = self.feature_norm(features.to(self.linear.weight.dtype)).masked_fill(~mask.unsqueeze(-1), 0)
        regions = masked_batch_norm(self.region_norm, features, mask)  # (B, O, V)
        return masked_batch_norm(self.node_norm, self.linear(regions), mask)  # (B, O, D)


def masked_batch_norm(norm: nn.BatchNorm1d, values: Tensor, mask: Tensor) -> Tensor:
    """What `norm` makes of the rows where `mask` is True, without selecting them; zeros where it is False.

    Selecting rows needs their number, for which the host would wait for the device. Statistics are in float32, and
    running ones change as `norm` changes its own; in training, fewer than two rows, of which no variance can be taken,
    are normalised with the running statistics, which then stay.

    Args:
        norm: without weight and bias. values: (B, O, F), finite everywhere. mask: (B, O) bool.
    """
    rows, weight = values.float(), mask.unsqueeze(-1).float()  # (B, O, F), (B, O, 1)
    mean, variance = norm.running_mean.float(), norm.running_var.float()  # (F,)
    if norm.training:
        count = weight.sum()
        enough = count > 1
        own_mean = (rows * weight).sum(dim=(0, 1)) / count.clamp(min=1)  # (F,)
        own_variance = ((rows - own_mean).square() * weight).sum(dim=(0, 1)) / count.clamp(min=1)
        _track(norm, own_mean.detach(), own_variance.detach() * count / (count - 1).clamp(min=1), enough)
        mean, variance = torch.where(enough, own_mean, mean), torch.where(enough, own_variance, variance)
    return ((rows - mean) * (variance + norm.eps).rsqrt() * weight).to(values.dtype)


@torch.no_grad()
def _track(norm: nn.BatchNorm1d, mean: Tensor, unbiased_variance: Tensor, enough: Tensor) -> None:
    """One step of the running statistics, if there is `enough`; without a momentum, of their cumulative average."""
    norm.num_batches_tracked.add_(enough)
    share = 1 / norm.num_batches_tracked.clamp(min=1) if norm.momentum is None else norm.momentum
    share = share * enough
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share.to(norm.running_mean.dtype))
    norm.running_var.lerp_(unbiased_variance.to(norm.running_var.dtype), share.to(norm.running_var.dtype))
