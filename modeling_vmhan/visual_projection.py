"""From region features to node features, V -> D."""

from torch import Tensor, nn


__all__ = ["VisualProjection"]


class VisualProjection(nn.Module):
    """Projection of region features to the node size, V -> D, with both sides normalised.

    Departure from the paper, which has the linear map alone: fc7 vectors are non-negative and those of different
    regions nearly parallel (cosine 0.98 with random weights), so that attention between a word and one of several
    regions did not learn from the raw map. LayerNorm takes out each vector's scale, a BatchNorm over the features what
    all regions share (a running average over all of training: they are data and do not drift), and a BatchNorm over
    the projection sets its scale.

    Args:
        feature_size: V. hidden_size: D.

    Example:
        >>> projection = VisualProjection(feature_size=8, hidden_size=4).eval()
        >>> projection(torch.rand(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)).shape
        torch.Size([2, 3, 4])
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
        evaluation; padding takes no part.
        """
        regions = self.feature_norm(features[mask].to(self.linear.weight.dtype))  # (R, V)
        nodes = _batch_norm(self.node_norm, self.linear(_batch_norm(self.region_norm, regions)))  # (R, D)
        filled = nodes.new_zeros(*mask.shape, nodes.shape[-1])  # (B, O, D)
        return filled.masked_scatter(mask.unsqueeze(-1), nodes)


def _batch_norm(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """`norm`, but with its running statistics for fewer than two rows, of which no variance can be taken."""
    if len(rows) > 1:
        return norm(rows)
    return nn.functional.batch_norm(rows, norm.running_mean, norm.running_var, training=False, eps=norm.eps)
