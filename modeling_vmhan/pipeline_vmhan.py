"""The pipeline "multimodal-relation-classification": questions about posts in, relations with their worth out."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.utils import logging

from .drawing import draw_explanation
from .explanation import AttentionRollout, attention_rollout, describe_nodes, explain_pair
from .fetching import fetch_image, is_url
from .hypergraph import HEAD, TAIL
from .images import load_image
from .posts import sentence_of
from .processing_vmhan import SHARED_FIELDS
from .questions import Question, read_question
from .uncertainty import PredictiveUncertainty, monte_carlo_probabilities, uncertainty


__all__ = ["CUSTOM_PIPELINES", "TASK", "MultimodalRelationClassificationPipeline"]

logger = logging.get_logger(__name__)

TASK = "multimodal-relation-classification"

# What config.json says of it, so that `pipeline(model=folder, trust_remote_code=True)` finds this file.
CUSTOM_PIPELINES = {
    TASK: {
        "impl": "pipeline_vmhan.MultimodalRelationClassificationPipeline",
        "pt": ["AutoModelForSequenceClassification"],
        "type": "multimodal",
    }
}


@dataclass(frozen=True)
class _Answer:
    """What the model said of one question, on the CPU: (P, R) probabilities, Monte Carlo results, and explanations."""

    question: Question
    probabilities: torch.Tensor
    uncertainty: PredictiveUncertainty
    explanations: list[dict[str, Any]] | None


class _Rows(Dataset):
    """A data set of another library (datasets.Dataset) as one of torch's, which Pipeline streams."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


class MultimodalRelationClassificationPipeline(Pipeline):
    """Relation between two entities of a post. `__call__` says what it takes and gives.

    Args:
        model, processor: a `VMHANForRelationClassification` and its own `VMHANProcessor`.
        **kwargs: what every Pipeline takes (device, batch_size, ...), and defaults of `__call__`'s options.

    Raises:
        ValueError: no processor, one that belongs to another model, or an unknown option.

    Example:
        pipe = pipeline(model="outputs/demo", trust_remote_code=True)
        pipe({"text": "Ann Keller in Oslo", "head": "Ann Keller", "tail": "Oslo", "image": "photo.jpg"})
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, model, processor=None, **kwargs):
        _check_processor(model, processor)
        super().__init__(model=model.eval(), processor=processor, **{"task": TASK, **kwargs})

    def __call__(self, inputs: Any, **kwargs) -> Any:
        """Answer one question, or many.

        Args:
            inputs: a question, or a list, generator, `KeyDataset`, `datasets.Dataset` (streaming too) or other
                iterable of questions, of which a list gives a list and anything else an iterator. A question is a
                dict of

                text or tokens: the sentence.
                head, tail: each a string that stands once in the sentence, or a span: (start, end) in characters of
                    `text`, in tokens of `tokens`. The tail may be a box (x1, y1, x2, y2) in pixels of the image, or
                    `tail_object`, an index into `boxes`.
                pairs: instead, a list of such {head, tail} for several pairs of the post, answered in one pass; then
                    the answer is a list. Rows of this project's data sets are questions as they are.
                image: path, http(s) URL, PIL image or encoded bytes; may be missing.
                boxes, object_labels, image_features, object_features, caption, image_phrases: as for VMHANProcessor.
                text_phrases (strings or spans), objects (indices into boxes): of the pair.
            top_k: how many relations to rank, best first (default 5; None: all).
            abstain_below: with a score below it (default 0) the answer's relation is None and abstained is True.
            num_samples: Monte Carlo samples of the node Gaussians (default 32). seed: of their noise (default 0).
            explain: add what carried the decision, as data and as a picture (default False).
            url_timeout (10 seconds), url_max_bytes (20 MiB), allow_private_urls (False): see `fetching.fetch_image`.
            batch_size, num_workers: as in every Pipeline; batch_size counts questions.

        Returns:
            for each pair a dict of
                head, tail: the words, or the tail's box. relation, score: the best one and its probability,
                    softmax(logits / config.calibration_temperature). abstained. none_score: of the none label.
                top_k: [{relation, score}].
                uncertainty: {monte_carlo_score, entropy, mutual_information}: the relation's probability and the two
                    in nats, under samples of the node Gaussians (`uncertainty.py`); mutual_information is None for a
                    model without variances, whose only sample is the prediction itself.
                explanation: {nodes, hyperedges, picture}, with explain=True (`explanation.py`).

        Raises:
            ValueError: a question that cannot be read or encoded; the message names the value and the fix.
            OSError: an image that cannot be had.
        """
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        return super().__call__(_as_inputs(inputs), **kwargs)

    def _sanitize_parameters(self, **options) -> tuple[dict, dict, dict]:
        options.pop("local_files_only", None)  # transformers.pipeline passes its own on
        if options.get("num_samples", 1) < 1:
            raise ValueError(f"num_samples must be at least 1, received {options['num_samples']}.")
        if not 0 <= options.get("abstain_below", 0) <= 1:
            raise ValueError(f"abstain_below must be a probability in [0, 1], received {options['abstain_below']}.")
        if options.get("top_k", 1) is not None and options.get("top_k", 1) < 1:
            raise ValueError(f"top_k must be at least 1, or None for all relations, received {options['top_k']}.")
        steps = (
            ("url_timeout", "url_max_bytes", "allow_private_urls"),
            ("num_samples", "seed", "explain"),
            ("top_k", "abstain_below"),
        )
        unknown = set(options) - {name for names in steps for name in names}
        if unknown:
            raise ValueError(
                f"unknown options {sorted(unknown)}: the pipeline has {[n for names in steps for n in names]}."
            )
        return tuple({name: options[name] for name in names if name in options} for names in steps)

    def preprocess(self, input_: Any, **limits) -> dict[str, Question]:
        question = read_question(input_, partial(_open_image, **limits))
        self._check_image(question.post)
        return {"question": question}  # opaque to Pipeline's collation, which makes a list of a batch's

    def _check_image(self, post: dict[str, Any]) -> None:
        config = self.model.config
        if post.get("image") is None or post.get("image_features") is not None:
            return
        if not config.visual_feature_size:
            logger.warning_once("this model was trained without images (visual_feature_size=0): it ignores them.")
        elif config.vision_encoder is None:
            raise ValueError(
                "this model has no vision encoder (config.vision_encoder is None), so it takes image_features of size "
                f"{config.visual_feature_size} and object_features instead of an image. Extract them with the encoder "
                "it was trained with, or leave the image out."
            )

    def _forward(
        self, model_inputs: dict[str, Any], num_samples: int = 32, seed: int = 0, explain: bool = False
    ) -> dict[str, Any]:
        """Encode the batch's posts and answer all their pairs in one pass."""
        given = model_inputs["question"]
        questions = given if isinstance(given, list) else [given]
        inputs = self.processor([question.post for question in questions]).to(self.device)
        output = self.model(**inputs, output_gaussians=True, output_attentions=explain)
        temperature = self.model.config.calibration_temperature
        probabilities = (output.logits.float() / temperature).softmax(dim=-1)  # (P, R)
        samples, is_sampled = probabilities.unsqueeze(0), output.node_variance is not None
        if is_sampled:
            entities = slice(HEAD, TAIL + 1)
            samples = monte_carlo_probabilities(
                self.model.classifier,
                output.node_mean[:, entities],
                output.node_variance[:, entities],
                num_samples=num_samples,
                temperature=temperature,
                seed=seed,
            )
        explanations = self._explain(questions, inputs, output) if explain else None
        counts = [len(question.post["pairs"]) for question in questions]
        answers, start = [], 0
        worth = uncertainty(samples.cpu(), sampled=is_sampled)
        for question, count in zip(questions, counts, strict=True):
            own = slice(start, start + count)
            of_question = PredictiveUncertainty(*(None if value is None else value[own] for value in worth))
            explained = None if explanations is None else explanations[own]
            answers.append(_Answer(question, probabilities[own].cpu(), of_question, explained))
            start += count
        return {"answer": answers if isinstance(given, list) else answers[0]}

    def _explain(self, questions: list[Question], inputs: Any, output: Any) -> list[dict[str, Any]]:
        """Of every pair of the batch, in order."""
        rollout = attention_rollout(output.attentions, output.incidence)
        rollout = AttentionRollout(*(tensor.cpu() for tensor in rollout))
        incidence, present = output.incidence.cpu(), output.node_mask.cpu()
        limits = {name: getattr(self.processor, name) for name in ("num_objects", "num_image_phrases")}
        explained = []
        for question in questions:
            for pair in question.post["pairs"]:
                i = len(explained)
                nodes = describe_nodes(question.post, pair, inputs, limits)
                of_pair = AttentionRollout(*(tensor[i] for tensor in rollout))
                families = self.model.config.hyperedges
                explained.append(explain_pair(nodes, present[i], of_pair, incidence[i], families))
        return explained

    def postprocess(
        self, model_outputs: dict[str, Any], top_k: int | None = 5, abstain_below: float = 0.0
    ) -> dict[str, Any] | list[dict[str, Any]]:
        answer: _Answer = model_outputs["answer"]
        post = answer.question.post
        labels, none = self.model.config.labels, self.model.config.label2id[self.model.config.none_label]
        results = []
        for i, (pair, probabilities) in enumerate(zip(post["pairs"], answer.probabilities)):
            ranked = probabilities.argsort(descending=True, stable=True).tolist()
            best, score = ranked[0], float(probabilities[ranked[0]])
            result = {
                **_entities(post, pair),
                "relation": labels[best] if score >= abstain_below else None,
                "score": score,
                "abstained": not score >= abstain_below,
                "none_score": float(probabilities[none]),
                "top_k": [{"relation": labels[j], "score": float(probabilities[j])} for j in ranked[:top_k]],
                "uncertainty": _worth(answer.uncertainty, i, best),
            }
            if answer.explanations is not None:
                explanation = answer.explanations[i]
                text, title = sentence_of(post)[0], _title(result, labels[best])
                picture = draw_explanation(explanation, text, post.get("image"), title)
                result["explanation"] = {**explanation, "picture": picture}
            results.append(result)
        return results[0] if answer.question.single else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Model and processor, with all their code and this pipeline's: a complete repository."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _check_processor(model: Any, processor: Any) -> None:
    """ValueError unless the processor makes what the model takes."""
    if processor is None:
        raise ValueError(
            "the pipeline needs the model's processor: pass processor=AutoProcessor.from_pretrained(...)."
        )
    config = model.config
    differing = {
        name: (getattr(config, name), getattr(processor, name, None))
        for name in SHARED_FIELDS
        if getattr(config, name) != getattr(processor, name, None)
    }
    if differing:
        listed = ", ".join(f"{name} {ours!r} against {theirs!r}" for name, (ours, theirs) in differing.items())
        raise ValueError(
            f"this processor belongs to another model: {listed} (model against processor). Load both from one folder, "
            "or make it by VMHANProcessor.for_config(model.config, tokenizer)."
        )
    embedded = model.get_input_embeddings().weight.shape[0]
    if len(processor.tokenizer) > embedded:
        raise ValueError(
            f"this processor's tokenizer has {len(processor.tokenizer)} tokens, the model embeds {embedded}: it "
            "belongs to another model. Load both from one folder, or resize_token_embeddings before training."
        )


def _as_inputs(inputs: Any) -> Any:
    """What Pipeline can take: a question, a list, a torch data set or a generator."""
    if isinstance(inputs, (Mapping, str, bytes, Dataset)):
        return inputs
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
        return _Rows(inputs)
    if hasattr(inputs, "__iter__"):
        return (question for question in inputs)
    return inputs


def _open_image(
    source: Any, url_timeout: float = 10.0, url_max_bytes: int = 20 << 20, allow_private_urls: bool = False
) -> Image.Image:
    """RGB, upright, in the pixels that boxes count. The one place where the pipeline opens an image."""
    if is_url(source):
        source = fetch_image(source, timeout=url_timeout, max_bytes=url_max_bytes, allow_private=allow_private_urls)
    return load_image(source)


def _entities(post: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
    """The words of head and tail; of a tail that is an object its box, or its index where boxes are not given."""
    text, unit_spans = sentence_of(post)
    words = {}
    for role in ("head", "tail"):
        span = pair.get(role)
        if span:
            words[role] = text[unit_spans[span[0]][0] : unit_spans[span[1] - 1][1]]
    if pair.get("tail_object") is not None and pair["tail_object"] >= 0:
        boxes, index = post.get("boxes"), int(pair["tail_object"])
        has_box = boxes is not None and index < len(boxes)
        words["tail"] = [float(value) for value in boxes[index]] if has_box else f"object {index}"
    return words


def _title(result: dict[str, Any], best: str) -> str:
    tail = result["tail"] if isinstance(result["tail"], str) else "[object]"
    return f"{result['head']}  ->  {tail}:  {best}  ({result['score']:.0%})"


def _worth(worth: PredictiveUncertainty, pair: int, best: int) -> dict[str, float | None]:
    information = worth.mutual_information
    return {
        "monte_carlo_score": float(worth.probabilities[pair, best]),
        "entropy": float(worth.entropy[pair]),
        "mutual_information": None if information is None else float(information[pair]),
    }
