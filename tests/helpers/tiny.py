"""Names and sizes of the tiny models and posts, and what their tests share."""

import math

import pytest
import torch


VISUAL_SIZE = 8
LABELS = ["peer", "None", "member_of", "located_in"]  # the none label is deliberately not id 0
WORDS = "ann met bob in paris with the band they played a red car next to big stage and blue sky at night".split()

MODES = ("marker", "span", "packed")
ALL_MODES = pytest.mark.parametrize("mode", MODES)


# What a saved folder's config.json says of its code.
AUTO_MAP = {
    "AutoConfig": "configuration_vmhan.VMHANConfig",
    "AutoModel": "modeling_vmhan.VMHANForRelationClassification",
    "AutoModelForSequenceClassification": "modeling_vmhan.VMHANForRelationClassification",
}


def without_labels(inputs):
    return {name: value for name, value in inputs.items() if name != "labels"}


def close(first, second, tolerance=1e-5):
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)


def times(weight, vector):
    return [sum(w * value for w, value in zip(row, vector, strict=True)) for row in weight]


def elu(value):
    return value if value > 0 else math.exp(value) - 1
