"""The exported model behind `vmhan predict --backend onnx`, as `torch_backend` has the pipeline."""

import argparse
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

from model_cards.files import sha256_of
from vmhan.inference.onnx.classifier import EXPORT_FILE, TOKENIZER_FILE, OnnxRelationClassifier
from vmhan.inference.options import optional


__all__ = ["REFUSED", "config_of", "load_pipeline", "state_of_model"]

REFUSED = {  # flags of predict
    "device": "onnxruntime answers on the CPU",
    "detector": "an exported model takes features, in which nothing is detected",
    "trust_remote_code": "the folder has no code that runs",
    "engine": "one process answers",
    "ray_address": "one process answers",
    "dry_run": "it measures the parts of the model in torch",
}


def load_pipeline(arguments: argparse.Namespace) -> OnnxRelationClassifier:
    options = {"top_k": arguments.top_k, "abstain_below": arguments.abstain_below, **optional(arguments)}
    return OnnxRelationClassifier(arguments.model, int8=arguments.int8, **options)


def config_of(pipe: OnnxRelationClassifier) -> SimpleNamespace:
    """What of the model the output depends on."""
    return pipe.config


def state_of_model(pipe: OnnxRelationClassifier) -> dict[str, Any]:
    """Return what of the model and its surroundings the answers depend on."""
    folder = pipe.file.parent
    return {
        "backend": "onnx",
        "weights": sha256_of(pipe.file),
        "config": sha256_of(folder / EXPORT_FILE),
        "processor": sha256_of(folder / TOKENIZER_FILE),
        "device": "cpu",
        "detector": None,
        "versions": {"onnxruntime": version("onnxruntime"), "tokenizers": version("tokenizers")},
    }
