"""Nodes of every pair's hypergraph, put together from their parts (paper section 4.1).

Shapes: B examples, P pairs, n nodes of one kind, N of all, K objects a pair, O objects an example, L tokens, D size.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .hypergraph import HEAD, TAIL
from .text_encoding import pool_tokens
from .visual_projection import VisualProjection


__all__ = ["Nodes", "join_nodes", "project_regions", "region_nodes", "text_nodes", "with_region_tails"]


class Nodes(NamedTuple):
    """Some or all nodes of each pair."""

    features: Tensor  # (P, n, D)
    present: Tensor  # (P, n) bool
    is_visual: Tensor  # (P, n) bool


def text_nodes(
    states: Tensor,
    pair_to_sequence: Tensor,
    token_index: Tensor,
    projection: Callable[[Tensor], Tensor],
    *,
    is_visual: bool = False,
) -> Nodes:
    """Nodes read from the text encoder: each is the projected mean state of its tokens (see `pool_tokens`).

    is_visual is True for the phrases that describe the image.
    """
    pooled, present = pool_tokens(states, pair_to_sequence, token_index)
    return Nodes(projection(pooled).to(pooled.dtype), present, torch.full_like(present, is_visual))


def project_regions(
    projection: VisualProjection,
    image_features: Tensor,
    image_mask: Tensor,
    object_features: Tensor,
    object_mask: Tensor,
) -> Tensor:
    """Regions projected once an image, (B, 1 + O, D), the image first; zeros where there is none.

    Args:
        image_features: (B, V). image_mask: (B,) bool. object_features: (B, O, V). object_mask: (B, O) bool.

    Raises:
        ValueError: features of another size than the projection's.
    """
    size = projection.linear.in_features
    for name, features in (("image_features", image_features), ("object_features", object_features)):
        if features.shape[-1] != size:
            raise ValueError(
                f"{name} must have config.visual_feature_size={size} numbers, received {features.shape[-1]}."
            )
    features = torch.cat([image_features.unsqueeze(1), object_features], dim=1)  # (B, 1 + O, V)
    return projection(features, torch.cat([image_mask.unsqueeze(1), object_mask], dim=1))


def region_nodes(projected: Tensor, image_mask: Tensor, pair_to_example: Tensor, pair_objects: Tensor) -> Nodes:
    """The image and its chosen objects, gathered for each pair from what is projected once an image.

    Args:
        projected: (B, 1 + O, D), the image first. image_mask: (B,) bool. pair_to_example: (P,).
        pair_objects: (P, K), index into O, -1 for none.
    """
    example = pair_to_example.unsqueeze(1)  # (P, 1)
    image = projected[example, 0]  # (P, 1, D)
    objects = projected[example, pair_objects + 1]  # (P, K, D); a missing one reads the image and is masked
    present = torch.cat([image_mask[example], pair_objects >= 0], dim=1)  # (P, 1 + K)
    return Nodes(torch.cat([image, objects], dim=1), present, torch.ones_like(present))


def with_region_tails(entities: Nodes, projected: Tensor, pair_to_example: Tensor, tail_object: Tensor) -> Nodes:
    """Head and tail, where a tail that is an image object is its region.

    Args:
        entities: (P, 2, D), of the text. projected, pair_to_example: as in `region_nodes`.
        tail_object: (P,), index into O, -1 for a text tail.
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
