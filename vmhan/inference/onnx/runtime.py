"""onnxruntime, and what is asked of it: sessions, runs, int8 weights. The one file that imports it."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor


__all__ = ["INT8_OPERATORS", "OUTPUTS", "need", "onnx_session", "quantise", "run_session"]

OUTPUTS = ("logits", "probabilities")
# Matrix products with constant weights, and the table of word embeddings; activations are scaled batch by batch.
INT8_OPERATORS = ("MatMul", "Gemm", "Gather")


def need(*packages: str) -> None:
    """ValueError unless these packages can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the packages {list(packages)}, missing {missing}: pip install 'vmhan[onnx]'.")


def onnx_session(path: Path, *, num_threads: int | None = None, providers: Sequence[str] | None = None):
    """An `onnxruntime.InferenceSession` of this file, on the CPU unless providers are named."""
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0  # 0: onnxruntime's choice
    return onnxruntime.InferenceSession(path, options, providers=list(providers or ["CPUExecutionProvider"]))


def run_session(session, inputs: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs without an empty axis -> logits (P, R), probabilities (P, R)."""
    return tuple(session.run(OUTPUTS, {name: tensor.numpy() for name, tensor in inputs.items()}))


def quantise(source: Path, target: Path) -> None:
    """Dynamic int8 quantisation by onnxruntime: the weights of `INT8_OPERATORS`, a scale for each output channel.

    Raises:
        ValueError: packages are missing.
    """
    need("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    operators = list(INT8_OPERATORS)
    quantize_dynamic(source, target, op_types_to_quantize=operators, per_channel=True, weight_type=QuantType.QInt8)
