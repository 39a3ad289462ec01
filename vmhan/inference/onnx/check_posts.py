"""Posts to check an exported model with."""

from typing import Any

import torch
from torch import Tensor


__all__ = ["check_batches"]


def check_batches(model) -> list[list[dict[str, Any]]]:
    """Make batches of posts unlike each other in every axis, to compare an exported model with its original on."""
    plain = {"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]}
    full = {
        "text": "Ann Keller and Bob Haas back home in Oslo, where the band had played in 1999",
        "pairs": [
            {"head": (0, 10), "tail": (15, 23), "text_phrases": [(24, 33), (49, 57)]},
            {"head": (15, 23), "tail": (37, 41), "text_phrases": [(45, 76)]},
            {"head": (37, 41), "tail": (0, 10)},
        ],
        "caption": "two people in front of a wooden house",
        "image_phrases": ["two people", "a wooden house", "snow"],
    }
    projection = model.base_model.visual_projection
    if projection is None:
        return [[plain], [full], [full, plain, full, full, plain, full, plain]]
    seen = {**plain, **_features(projection, 0)}
    crowded = {**full, **_features(projection, 4)}
    tails = {**plain, **_features(projection, 2)}
    tails["pairs"] = [{"head": (0, 3), "tail_object": 1}, {"head": (8, 11), "tail_object": 0}]
    return [[plain], [seen], [tails], [crowded, plain, tails, seen, full, crowded, plain]]


def _features(projection, objects: int) -> dict[str, Tensor]:
    """Make features of an image and of its objects, distributed as those that the model was trained on."""
    norm = projection.region_norm
    noise = torch.randn(1 + objects, norm.num_features, generator=torch.Generator().manual_seed(objects))
    features = norm.running_mean.cpu().float() + norm.running_var.cpu().float().sqrt() * noise
    return {"image_features": features[0], "object_features": features[1:]}
