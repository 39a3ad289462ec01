"""The one file that imports onnxruntime: sessions, runs, int8 weights."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


__all__ = ["INT8_OPERATORS", "OUTPUTS", "need", "onnx_session", "quantise", "run_session"]

OUTPUTS = ("logits", "probabilities")
# Matrix products with constant weights, and the table of word embeddings; activations are scaled batch by batch.
INT8_OPERATORS = ("MatMul", "Gemm", "Gather")


def need(*packages: str) -> None:
    """Raise a ValueError unless these packages can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the packages {list(packages)}, missing {missing}: pip install 'vmhan[onnx]'.")


def onnx_session(path: Path, *, num_threads: int | None = None):
    """An `onnxruntime.InferenceSession` of this file on the CPU. Without a number of threads it has that of
    OMP_NUM_THREADS, as torch does, or onnxruntime's choice.
    """
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_session(session, inputs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Run inputs without an empty axis; returns logits (P, R) and probabilities (P, R)."""
    return tuple(session.run(OUTPUTS, {name: np.asarray(values) for name, values in inputs.items()}))


def quantise(source: Path, target: Path) -> None:
    """Quantise the weights of `INT8_OPERATORS` to int8 dynamically, with a scale for each output channel."""
    need("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = {"op_types_to_quantize": list(INT8_OPERATORS), "weight_type": QuantType.QInt8}
    quantize_dynamic(source, target, per_channel=True, **kinds)
