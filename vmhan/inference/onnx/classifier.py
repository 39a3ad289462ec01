"""Answer posts with a folder that vmhan export wrote, through onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modeling_vmhan import VMHANProcessor
from modeling_vmhan.direction import inverse_id, is_reversed
from modeling_vmhan.posts import post_name
from modeling_vmhan.questions import PASSED, passed_on, read_question
from modeling_vmhan.uncertainty import check_finite
from vmhan.inference.onnx.inputs import filled_inputs
from vmhan.inference.onnx.runtime import onnx_session, run_session


__all__ = ["EXPORT_FILE", "INT8_FILE", "ONNX_FILE", "OnnxRelationClassifier"]

EXPORT_FILE = "export.json"
ONNX_FILE = "model.onnx"
INT8_FILE = "model_int8.onnx"


class OnnxRelationClassifier:
    """The exported classifier in `folder` (by `vmhan export --format onnx`) with its processor: posts in, a relation
    and its calibrated probability a pair out.

    The answers of the quantised model (`int8`) depend a little on the other posts of a batch. `num_threads` is that of
    a matrix product, None onnxruntime's choice. ValueError if there is no such model, or onnxruntime is missing.

    Example:
        classify = OnnxRelationClassifier("outputs/demo-onnx")
        classify({"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]})
        # [{"relation": "/per/per/peer", "score": 0.91}]
    """

    def __init__(self, folder: str | Path, *, int8: bool = False, num_threads: int | None = None):
        folder, file = Path(folder), INT8_FILE if int8 else ONNX_FILE
        if missing := [name for name in (EXPORT_FILE, file) if not (folder / name).is_file()]:
            raise ValueError(
                f"folder: expected what vmhan export writes, received {str(folder)!r} without {missing}. "
                f"Run: vmhan export MODEL --output_dir {folder}{' --int8' if int8 else ''}"
            )
        content = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))
        self.labels: list[str] = content["labels"]
        self.axes: dict[str, list[str | int]] = content["inputs"]
        self.processor = VMHANProcessor.from_pretrained(folder)
        self.session = onnx_session(folder / file, num_threads=num_threads)

    def __call__(self, posts: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
        """Answer the pairs of one post, or of a list of posts, in one pass: {relation, score} for each pair, the best
        relation and its probability. Posts are as the pipeline takes them: the answer of a post of one pair is a dict,
        that of a post with `pairs` a list, and keys that no post has stand under `input`. They have features, not
        pixels, and name their pairs. Of an order-blind model "RELATION (inverse)" points from the pair's tail to its
        head. A post that cannot be read, or whose scores are not finite, is a ValueError.
        """
        is_alone = isinstance(posts, (Mapping, str))
        batch = [passed_on(post) for post in ([posts] if is_alone else posts)]
        names = [post_name(post, f"post {i}") for i, (post, _) in enumerate(batch)]
        questions = [read_question(post, name=name) for name, (post, _) in zip(names, batch)]
        for question in questions:
            if self.processor.visual_feature_size and question.post.keys() & {"image", "image_features"} == {"image"}:
                wanted = "give image_features and object_features, or use the pipeline of the model itself"
                raise ValueError(f"{question.name}: an exported model takes no image: {wanted}.")
        _, probabilities = self.run(self.processor([question.post for question in questions]))
        each, answers = iter(probabilities), []
        for question, (_, passed) in zip(questions, batch):
            of_post = [self._answer(pair, next(each)) for pair in question.post["pairs"]]
            check_finite(question.name, [torch.tensor([answer["score"] for answer in of_post])])
            of_post = [{**answer, PASSED: passed} if passed else answer for answer in of_post]
            answers.append(of_post[0] if question.single else of_post)
        return answers[0] if is_alone else answers

    def _answer(self, pair: Mapping[str, Any], probabilities: np.ndarray) -> dict[str, Any]:
        best = label = int(probabilities.argmax())
        if self.processor.order_blind and is_reversed(pair):  # it was asked about in text order
            label = inverse_id(best, {name: i for i, name in enumerate(self.labels)})
        return {"relation": self.labels[label], "score": float(probabilities[best])}

    def run(self, encoded: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (P, R) and probabilities (P, R) of the processor's tensors."""
        return run_session(self.session, filled_inputs(encoded, self.axes))
