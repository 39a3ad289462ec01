"""A folder written by vmhan export, asked about posts through onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from modeling_vmhan import VMHANProcessor
from vmhan.inference.onnx.inputs import filled_inputs
from vmhan.inference.onnx.runtime import onnx_session, run_session


__all__ = ["EXPORT_FILE", "INT8_FILE", "ONNX_FILE", "OnnxRelationClassifier"]

EXPORT_FILE = "export.json"
ONNX_FILE = "model.onnx"
INT8_FILE = "model_int8.onnx"


class OnnxRelationClassifier:
    """The exported classifier with its processor: posts in, a relation and its calibrated probability a pair out.

    Args:
        folder: --output_dir of `vmhan export --format onnx`.
        int8: take the quantised model, which --int8 wrote. Its activations are scaled batch by batch, so that an
            answer depends a little on the other posts of its batch; the float model's does not.
        num_threads: of a matrix product; None is onnxruntime's choice.
        providers: execution providers of onnxruntime, best first.

    Raises:
        ValueError: the folder holds no such model, or onnxruntime is missing.

    Example:
        classify = OnnxRelationClassifier("outputs/demo-onnx")
        classify({"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]})
        # [{"relation": "/per/per/peer", "score": 0.91}]
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        int8: bool = False,
        num_threads: int | None = None,
        providers: Sequence[str] | None = None,
    ):
        folder, file = Path(folder), INT8_FILE if int8 else ONNX_FILE
        missing = [name for name in (EXPORT_FILE, file) if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"folder must be a finished --output_dir of vmhan export{' --int8' if int8 else ''}, received "
                f"{str(folder)!r} without {missing}. Run: vmhan export MODEL --output_dir {folder}"
                f"{' --int8' if int8 else ''}"
            )
        content = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))
        self.labels: list[str] = content["labels"]
        self.axes: dict[str, list[str | int]] = content["inputs"]
        self.processor = VMHANProcessor.from_pretrained(folder)
        self.session = onnx_session(folder / file, num_threads=num_threads, providers=providers)

    def __call__(self, posts: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list:
        """Answer the posts' pairs in one pass.

        Args:
            posts: one post or a list, as `VMHANProcessor.__call__` takes them; visual features, not pixels.

        Returns:
            of one post, for each pair {relation, score}: the best relation and its probability, softmax(logits /
            calibration_temperature); of a list, a list of these.
        """
        single = isinstance(posts, Mapping)
        batch = [posts] if single else list(posts)
        _, probabilities = self.run(self.processor(batch))
        best = probabilities.argmax(axis=-1)
        rows = [{"relation": self.labels[i], "score": float(of_pair[i])} for i, of_pair in zip(best, probabilities)]
        answers = iter(rows)
        grouped = [[next(answers) for _ in post["pairs"]] for post in batch]
        return grouped[0] if single else grouped

    def run(self, encoded: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """The processor's tensors -> logits (P, R), probabilities (P, R)."""
        return run_session(self.session, filled_inputs(encoded, self.axes))
