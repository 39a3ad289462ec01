"""The pipeline behind `vmhan predict` and `vmhan serve`: how it is loaded, and what its answers depend on."""

import argparse
import hashlib
from typing import Any

import torch
import transformers

from modeling_vmhan.configuration_vmhan import VMHANConfig
from modeling_vmhan.frozen import fast_dtype
from modeling_vmhan.registration import TASK
from modeling_vmhan.weights import weights_digest
from vmhan.inference.detecting import DetectingPipeline, detector_of
from vmhan.inference.options import optional
from vmhan.training.checkpoints import check_model_folder


__all__ = ["Pipe", "config_of", "load_pipeline", "state_of_model"]

Pipe = transformers.Pipeline | DetectingPipeline


def load_pipeline(arguments: argparse.Namespace) -> Pipe:
    check_model_folder("MODEL", arguments.model)
    names = ("model", "device", "trust_remote_code", "top_k", "abstain_below")
    options = {name: getattr(arguments, name) for name in names} | optional(arguments)
    pipe = transformers.pipeline(TASK, **options)
    detector = detector_of(arguments.detector, pipe.model.config, device=str(pipe.device))
    return pipe if detector is None else DetectingPipeline(pipe, detector)


def config_of(pipe: Pipe) -> VMHANConfig:
    """What of the model the output depends on."""
    return pipe.model.config


def state_of_model(pipe: Pipe) -> dict[str, Any]:
    """Return what of the model and its surroundings the answers depend on."""
    texts = {
        "config": pipe.model.config.to_json_string(use_diff=False),
        "processor": pipe.processor.to_json_string() + pipe.processor.tokenizer.backend_tokenizer.to_str(),
    }
    # frozen encoders compute as the machine does best, in bfloat16 or float32, and their weights do not say in which
    vision = None if pipe.model.vmhan.vision_encoder is None else str(fast_dtype(pipe.device))
    digests = {name: hashlib.sha256(text.encode("utf-8", "surrogatepass")) for name, text in texts.items()}
    return {
        "weights": weights_digest(pipe.model),
        **{name: digest.hexdigest() for name, digest in digests.items()},
        "device": str(pipe.device),
        "precision": {"model": str(pipe.model.dtype), "vision": vision},
        "detector": pipe.detector.description if isinstance(pipe, DetectingPipeline) else None,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
