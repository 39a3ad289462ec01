"""Nodes of every pair's hypergraph, put together from their parts (paper section 4.1).

Shapes: B examples, P pairs, n nodes of one kind, N of all, K objects a pair, O objects an example, L tokens, D size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .hypergraph import HEAD, TAIL
from .text_encoding import pool_tokens


__all__ = [
    "Nodes",
    "VisualProjection",
    "join_nodes",
    "masked_batch_norm",
    "project_regions",
    "region_nodes",
    "text_nodes",
    "with_region_tails",
]


class Nodes(NamedTuple):
    """Some or all nodes of each pair."""

    features: Tensor  # (P, n, D)
    present: Tensor  # (P, n) bool
    is_visual: Tensor  # (P, n) bool


def text_nodes(
    states: Tensor, pair_to_sequence: Tensor, token_index: Tensor, projection: nn.Module, *, is_visual: bool = False
) -> Nodes:
    """Nodes read from the text encoder: each is the projected mean state of its tokens (see `pool_tokens`)."""
    pooled, present = pool_tokens(states, pair_to_sequence, token_index)
    return Nodes(projection(pooled).to(pooled.dtype), present, torch.full_like(present, is_visual))


class VisualProjection(nn.Module):
    """Projection of region features to the node size, V -> D, with both sides normalised.

    Departure from the paper, which has the linear map alone: fc7 vectors are non-negative and nearly parallel, so that
    attention between a word and one of several regions did not learn from the raw map. LayerNorm takes out each
    vector's scale, a BatchNorm over the features what all regions share (a running average over all of training: they
    are data and do not drift), and a BatchNorm over the projection sets its scale.
    """

    def __init__(self, *, feature_size: int, hidden_size: int):
        super().__init__()
        self.feature_norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.region_norm = nn.BatchNorm1d(feature_size, affine=False, momentum=None)
        self.linear = nn.Linear(feature_size, hidden_size, bias=False)  # the norm behind it would take a bias out
        self.node_norm = nn.BatchNorm1d(hidden_size, affine=False)

    def train(self, mode: bool = True) -> "VisualProjection":
        """As in torch, but where `linear` is frozen the statistics stay, too: an adapter (LoRA) does not save them."""
        weight = self.linear.weight  # FSDP may have a view there, whose requires_grad says nothing
        return super().train(mode and (weight.requires_grad or not isinstance(weight, nn.Parameter)))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (B, O, V), mask (B, O) bool -> (B, O, D), zeros where no region is; padding takes no part."""
        features = self.feature_norm(features).masked_fill(~mask.unsqueeze(-1), 0)
        regions = masked_batch_norm(self.region_norm, features, mask)  # (B, O, V)
        return masked_batch_norm(self.node_norm, self.linear(regions), mask)  # (B, O, D)


def masked_batch_norm(norm: nn.BatchNorm1d, values: Tensor, mask: Tensor) -> Tensor:
    """What `norm` makes of the rows where `mask` is True, without selecting them; zeros where it is False.

    Selecting rows needs their number, for which the host would wait for the device. Statistics are in float32; in
    training, fewer than two rows, of which no variance can be taken, are normalised with the running statistics, which
    then stay. norm has no weight and bias, values (B, O, F) are finite everywhere, mask is (B, O) bool.
    """
    rows, weight = values.float(), mask.unsqueeze(-1).float()  # (B, O, F), (B, O, 1)
    mean, variance = norm.running_mean.float(), norm.running_var.float()  # (F,)
    if norm.training:
        count = weight.sum()
        enough = count > 1
        own_mean = (rows * weight).sum(dim=(0, 1)) / count.clamp(min=1)  # (F,)
        own_variance = ((rows - own_mean).square() * weight).sum(dim=(0, 1)) / count.clamp(min=1)
        with torch.no_grad():  # one step of the running statistics, or of their cumulative average
            norm.num_batches_tracked.add_(enough)
            share = 1 / norm.num_batches_tracked.clamp(min=1) if norm.momentum is None else norm.momentum
            unbiased = own_variance * count / (count - 1).clamp(min=1)
            for running, own in ((norm.running_mean, own_mean), (norm.running_var, unbiased)):
                running.lerp_(own.to(running.dtype), (share * enough).to(running.dtype))
        mean, variance = torch.where(enough, own_mean, mean), torch.where(enough, own_variance, variance)
    return ((rows - mean) * (variance + norm.eps).rsqrt() * weight).to(values.dtype)


def project_regions(projection: nn.Module, image_features, image_mask, object_features, object_mask) -> Tensor:
    """Regions projected once an image, (B, 1 + O, D), the image first; zeros where there is none.

    image_features (B, V), image_mask (B,) bool, object_features (B, O, V), object_mask (B, O) bool.
    """
    dtype = projection.linear.weight.dtype  # not the stored float16, which autocast to bfloat16 does not join
    features = torch.cat([image_features.unsqueeze(1).to(dtype), object_features.to(dtype)], dim=1)  # (B, 1 + O, V)
    return projection(features, torch.cat([image_mask.unsqueeze(1), object_mask], dim=1))


def region_nodes(projected: Tensor, image_mask: Tensor, pair_to_example: Tensor, pair_objects: Tensor) -> Nodes:
    """The image and its chosen objects, gathered for each pair from what is projected once an image.

    projected (B, 1 + O, D), image_mask (B,) bool, pair_to_example (P,), pair_objects (P, K) into O, -1 for none.
    """
    example = pair_to_example.unsqueeze(1)  # (P, 1)
    image = projected[example, 0]  # (P, 1, D)
    objects = projected[example, pair_objects + 1]  # (P, K, D); a missing one reads the image and is masked
    present = torch.cat([image_mask[example], pair_objects >= 0], dim=1)  # (P, 1 + K)
    return Nodes(torch.cat([image, objects], dim=1), present, torch.ones_like(present))


def with_region_tails(entities: Nodes, projected: Tensor, pair_to_example: Tensor, tail_object: Tensor) -> Nodes:
    """Head and tail, where a tail that is an image object is its region.

    entities (P, 2, D), of the text; tail_object (P,), index into O, -1 for a text tail; others as in `region_nodes`.
    """
    is_region = tail_object >= 0  # (P,)
    region = projected[pair_to_example, tail_object + 1]  # (P, D)
    tail = torch.where(is_region.unsqueeze(-1), region, entities.features[:, TAIL])
    features = torch.stack([entities.features[:, HEAD], tail], dim=1)  # (P, 2, D)
    present = torch.stack([entities.present[:, HEAD], entities.present[:, TAIL] | is_region], dim=1)
    return Nodes(features, present, torch.stack([torch.zeros_like(is_region), is_region], dim=1))


def join_nodes(*groups: Nodes | None) -> Nodes:
    """All nodes, (P, N, ...), in the order given; None is a kind that the model does not have."""
    return Nodes(*(torch.cat(parts, dim=1) for parts in zip(*(group for group in groups if group is not None))))
