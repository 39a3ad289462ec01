"""The inputs of an exported model: their axes, how an empty axis is filled, and posts to check an export with.

Notation: modeling_vmhan.py. An axis that is a name varies from batch to batch; a number is what it is in every batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


__all__ = ["check_batches", "filled_inputs", "input_axes"]

ABSENT = -1  # what fills up token positions, object indices and numbers of nodes
DERIVED = "incidence"
TEXT_ROWS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")


def input_axes(config, names: list[str]) -> dict[str, tuple[str | int, ...]]:
    """Return the axes of these inputs of a `VMHANConfig`'s model, in the order of `names`.

    Pairwise hyperedges keep the number of nodes at its most: their number, N (N - 1) / 2, is not traced as a symbol.
    `incidence` is left out: its axis of nodes is a sum of open ones, which is not traced, so the graph takes no
    hyperedges of the data and makes those of equations 1 to 3. With hypergraph_scope="post" they are inputs.
    """
    size = config.visual_feature_size
    mention = "mention_tokens" if config.entity_representation == "span" else 1  # a marker is one token
    text_phrases, image_phrases, objects = "text_phrases", "image_phrases", "pair_objects"
    if "pairwise" in config.hyperedges:
        text_phrases, image_phrases = config.num_text_phrases, config.num_image_phrases
        objects = config.num_objects
    axes: dict[str, tuple[str | int, ...]] = {
        **dict.fromkeys(TEXT_ROWS, ("rows", "tokens")),
        "pair_to_sequence": ("pairs",),
        "pair_to_example": ("pairs",),
        "entity_tokens": ("pairs", 2, mention),
        "text_phrase_tokens": ("pairs", text_phrases, "text_phrase_length"),
        "image_phrase_tokens": ("pairs", image_phrases, "image_phrase_length"),
        "image_features": ("examples", size),
        "image_mask": ("examples",),
        "object_features": ("examples", "objects", size),
        "object_mask": ("examples", "objects"),
        "pair_objects": ("pairs", objects),
        "tail_object": ("pairs",),
        "entity_nodes": ("pairs", 3),
        "text_phrase_nodes": ("pairs", text_phrases),
        "image_nodes": ("pairs", 1),
        "object_nodes": ("pairs", objects),
        "image_phrase_nodes": ("pairs", image_phrases),
        "membership": ("examples", "nodes", "hyperedges"),
        "hyperedge_family": ("examples", "hyperedges"),
    }
    return {name: axes[name] for name in names if name != DERIVED}


def filled_inputs(encoded: Mapping[str, Tensor], axes: Mapping[str, Sequence[str | int]]) -> dict[str, Tensor]:
    """Return the processor's tensors as float32, filled up with absent nodes, tokens and objects to what the graph
    takes: the size of a fixed axis, and at least 1 along an open one (a batch in which nothing has, say, an object has
    0).
    """
    filled = {}
    for name, tensor in encoded.items():
        if name == DERIVED:
            continue
        value = ABSENT if name.endswith(("_tokens", "_nodes")) or name == "pair_objects" else 0
        least = (axis if isinstance(axis, int) else 1 for axis in axes[name])
        missing = [max(wanted - size, 0) for wanted, size in zip(least, tensor.shape, strict=True)]
        after = [amount for count in reversed(missing) for amount in (0, count)]  # the last axis first, as pad has it
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        filled[name] = torch.nn.functional.pad(tensor, after, value=value)
    return filled


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
