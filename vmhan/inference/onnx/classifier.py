"""Answer posts with a folder that vmhan export wrote, through onnxruntime, without torch and transformers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from modeling_vmhan.answers import (
    ANSWER_OPTIONS,
    TYPE_CONSTRAINTS,
    Judged,
    answer_of,
    check_needs,
    checked_options,
    joined,
    judged,
)
from modeling_vmhan.asking import encode_question, is_for_several_passes, passes_of
from modeling_vmhan.batching import EncodedPost, of_like_length
from modeling_vmhan.questions import PASSED, Question, passed_on, read_question, without_pandas
from modeling_vmhan.values import Kind, read_value, reworded
from vmhan.inference.onnx.encoder import PlainEncoder, answer_config
from vmhan.inference.onnx.inputs import filled_inputs
from vmhan.inference.onnx.runtime import onnx_session, run_session


__all__ = ["EXPORT_FILE", "INT8_FILE", "ONNX_FILE", "TOKENIZER_FILE", "OnnxRelationClassifier"]

EXPORT_FILE = "export.json"
ONNX_FILE = "model.onnx"
INT8_FILE = "model_int8.onnx"
TOKENIZER_FILE = "tokenizer.json"


def _function(value: Any) -> Callable[[str], Any]:
    if not callable(value):
        raise TypeError("no function")
    return value


FUNCTION = Kind("a function of a text, such as vmhan.inference.mention_finders.find_mention_finder(NAME)", _function)
OPTIONS = {**ANSWER_OPTIONS, "type_constraints": TYPE_CONSTRAINTS, "mentions": FUNCTION}
REFUSED = {  # options of the pipeline
    "num_samples": "draws samples of the node Gaussians",
    "seed": "draws samples of the node Gaussians",
    "explain": "gives its attention",
}


class OnnxRelationClassifier:
    """The exported classifier in `folder` (by `vmhan export --format onnx`), which answers as the pipeline does.

    int8: True takes the quantised model, whose answers depend a little on the other posts of a batch; False the one in
        float32; None this one where there are both. num_threads: of a matrix product; None is OMP_NUM_THREADS, or
        onnxruntime's choice. Others are defaults of the options of `__call__`.

    ValueError if there is no such model, or onnxruntime is missing.

    Example:
        classify = OnnxRelationClassifier("outputs/demo-onnx")
        classify({"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]}, top_k=1)
        # [{"head": "Ann", "tail": "Bob", "relation": "/per/per/peer", "score": 0.91, ...}]
    """

    def __init__(
        self, folder: str | Path, *, int8: bool | None = None, num_threads: int | None = None, **options: Any
    ):
        folder = Path(folder)
        int8 = int8 if int8 is not None else not (folder / ONNX_FILE).exists() and (folder / INT8_FILE).exists()
        self.file = folder / (INT8_FILE if int8 else ONNX_FILE)
        if missing := [name for name in (EXPORT_FILE, self.file.name) if not (folder / name).is_file()]:
            raise ValueError(
                f"folder: expected what vmhan export writes, received {str(folder)!r} without {missing}. "
                f"Run: vmhan export MODEL --output_dir {folder}{' --int8' if int8 else ''}"
            )
        self.content: dict[str, Any] = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))
        if "processor" not in self.content:
            raise ValueError(
                f"{folder / EXPORT_FILE}: expected what vmhan export writes today, received that of an older version, "
                f"without 'processor'. Export the model again: vmhan export MODEL --output_dir {folder}"
            )
        self.config = answer_config(self.content["config"])
        self.encoder = PlainEncoder(self.content["processor"], folder / TOKENIZER_FILE)
        self.session = onnx_session(self.file, num_threads=num_threads)
        self.defaults = self._read_options(options)

    def __call__(self, posts: Any, *, batch_size: int | None = None, **options: Any) -> Any:
        """Answer a post or several, `batch_size` (None: all) in a batch, as the pipeline does; several give a list.

        options: mentions (a function), top_k, abstain_below, type_constraints, min_score, min_precision and all_pairs,
        as there. Posts name their pairs or mentions, unless `mentions` finds these, and have features where the model
        takes them; an image is never opened.
        What cannot be answered is the pipeline's ValueError.
        """
        read = {**self.defaults, **self._read_options(options)}
        check_needs(self.defaults, options)
        posts = without_pandas(posts)
        if isinstance(posts, (Mapping, str)) or not isinstance(posts, Iterable):
            return self._answers([posts], [""], **read)[0]
        answers, rest = [], iter(posts)
        while batch := list(islice(rest, batch_size or None)):
            places = [f"input {i}: " for i in range(len(answers), len(answers) + len(batch))]
            answers += self._answers(batch, places, **read)
        return answers

    def _read_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name in REFUSED and value:
                raise ValueError(
                    f"{name}: an exported model never {REFUSED[name]}, received {name}={value!r}. Ask the "
                    "pipeline of the model itself."
                )
            if name not in {*OPTIONS, *REFUSED}:
                raise ValueError(f"the options must be among {list(OPTIONS)}, received {[name]}.")
        read = {
            name: value if name == "top_k" and value is None else read_value(value, OPTIONS[name], name)
            for name, value in options.items()
            if name not in REFUSED
        }
        return checked_options(read, self.config)

    def _answers(
        self,
        posts: Sequence[Any],
        places: Sequence[str],
        mentions: Callable[[str], Any] | None = None,
        type_constraints: Any = None,
        **options: Any,
    ) -> list[Any]:
        """Answer a batch; `places` stand before what is said of a post that cannot be read."""
        passed, questions, encoded = [], [], []
        for post, place in zip(posts, places, strict=True):
            try:
                own, of_post = passed_on(post)
                question = read_question(own)
                question, row = encode_question(question, self.encoder, self.config, mentions, can_find=False)
            except ValueError as error:
                raise reworded(error, f"{place}{error}") from error
            passed.append(of_post)
            questions.append(question)
            encoded.append(row)
        answers: list[Any] = [None] * len(questions)
        for group in of_like_length(encoded):
            of_group = self._judged([questions[i] for i in group], [encoded[i] for i in group], type_constraints)
            for i, of_question in zip(group, of_group):
                answers[i] = answer_of(of_question, self.config, **options)
                for each in (answers[i] if isinstance(answers[i], list) else [answers[i]]) if passed[i] else ():
                    each[PASSED] = passed[i]
        return answers

    def _judged(self, questions: list[Question], encoded: list[EncodedPost], type_constraints: Any) -> list[Judged]:
        """All pairs of all posts in one pass, but for those of a post of very many."""
        judge = partial(judged, config=self.config, type_constraints=type_constraints)
        found: list[Judged] = [(question, None, None, None) for question in questions]
        many = [i for i, of_post in enumerate(encoded) if is_for_several_passes(questions[i], of_post)]
        asked = [i for i, of_post in enumerate(encoded) if of_post.pairs and i not in many]
        if asked:
            of_asked = [questions[i] for i in asked], [encoded[i] for i in asked]
            for i, of_question in zip(asked, judge(*of_asked, self.run(of_asked[1])[1])):
                found[i] = of_question
        for i in many:
            parts = passes_of(questions[i], encoded[i], self.encoder)
            found[i] = joined(questions[i], [judge([part], [own], self.run([own])[1])[0] for part, own in parts])
        return found

    def run(self, encoded: list[EncodedPost]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (P, R) and probabilities (P, R) of encoded posts."""
        return run_session(self.session, filled_inputs(self.encoder.arrays(encoded), self.content["inputs"]))
