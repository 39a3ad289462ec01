"""The one file that imports onnxruntime: sessions, runs, int8 weights."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor


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
    """An `onnxruntime.InferenceSession` of this file on the CPU; None leaves the number of threads to onnxruntime."""
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_session(session, inputs: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Run inputs without an empty axis; returns logits (P, R) and probabilities (P, R)."""
    return tuple(session.run(OUTPUTS, {name: tensor.numpy() for name, tensor in inputs.items()}))


def quantise(source: Path, target: Path) -> None:
    """Quantise the weights of `INT8_OPERATORS` to int8 dynamically, with a scale for each output channel."""
    need("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    kinds = {"op_types_to_quantize": list(INT8_OPERATORS), "weight_type": QuantType.QInt8}
    quantize_dynamic(source, target, per_channel=True, **kinds)
