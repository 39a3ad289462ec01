"""From region features to node features, V -> D, and from an image's regions to those of each of its pairs."""

import torch
from torch import Tensor, nn


__all__ = ["REGION_INPUTS", "VisualProjection", "pair_regions"]

# Of the processor's tensors, those that `pair_regions` reads.
REGION_INPUTS = (
    "image_features", "image_mask", "object_features", "object_mask", "pair_to_example", "pair_objects", "tail_object",
)  # fmt: skip


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


def pair_regions(
    projection: VisualProjection,
    image_features: Tensor,
    image_mask: Tensor,
    object_features: Tensor,
    object_mask: Tensor,
    pair_to_example: Tensor,
    pair_objects: Tensor,
    tail_object: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Regions projected once per image, then gathered per pair.

    Args:
        image_features: (B, V). image_mask: (B,) bool. object_features: (B, O, V). object_mask: (B, O) bool.
        pair_to_example: (P,). pair_objects: (P, K), index into O, -1 fills up. tail_object: (P,), -1 for a text tail.

    Returns:
        nodes (P, 1 + K, D): image and objects; present (P, 1 + K) bool; tail (P, D): the tail's region.

    Raises:
        ValueError: features of another size than the projection's.
    """
    size = projection.linear.in_features
    for name, features in (("image_features", image_features), ("object_features", object_features)):
        if features.shape[-1] != size:
            raise ValueError(
                f"{name} must have config.visual_feature_size={size} numbers, received {features.shape[-1]}. Extract "
                "them with the encoder the model was trained with."
            )
    features = torch.cat([image_features.unsqueeze(1), object_features], dim=1)  # (B, 1 + O, V)
    mask = torch.cat([image_mask.unsqueeze(1), object_mask], dim=1)  # (B, 1 + O)
    projected = projection(features, mask)  # (B, 1 + O, D)
    per_pair = pair_to_example.unsqueeze(1)  # (P, 1)
    image = projected[per_pair, 0]  # (P, 1, D)
    objects = projected[per_pair, pair_objects + 1]  # (P, K, D); a missing one reads the image and is masked
    present = torch.cat([image_mask[per_pair], pair_objects >= 0], dim=1)  # (P, 1 + K)
    return torch.cat([image, objects], dim=1), present, projected[pair_to_example, tail_object + 1]
