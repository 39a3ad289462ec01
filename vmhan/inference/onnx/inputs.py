"""The inputs of an exported model: their axes, and how an empty axis is filled.

Notation: modeling_vmhan.py. An axis that is a name varies from batch to batch; a number is what it is in every batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


__all__ = ["filled_inputs", "input_axes"]

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


def filled_inputs(encoded: Mapping[str, Any], axes: Mapping[str, Sequence[str | int]]) -> dict[str, np.ndarray]:
    """Return the encoder's arrays as float32, filled up with absent nodes, tokens and objects to what the graph takes:
    the size of a fixed axis, and at least 1 along an open one (a batch in which nothing has, say, an object has 0).
    """
    filled = {}
    for name, values in encoded.items():
        if name == DERIVED:
            continue
        array = np.asarray(values)
        value = ABSENT if name.endswith(("_tokens", "_nodes")) or name == "pair_objects" else 0
        least = (axis if isinstance(axis, int) else 1 for axis in axes[name])
        missing = [max(wanted - size, 0) for wanted, size in zip(least, array.shape, strict=True)]
        array = array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
        after = [(0, count) for count in missing]
        filled[name] = np.pad(array, after, constant_values=value) if any(missing) else array
    return filled
