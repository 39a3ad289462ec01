"""The pipeline "multimodal-relation-classification": questions about posts in, relations with their worth out."""

import os
from functools import partial
from typing import Any

from PIL import Image
from transformers.utils import logging

from .addresses import is_url
from .calling import CallingPipeline
from .direction import INVERSE, inverse_id, to_text_order
from .drawing import draw_explanation
from .explanation import explain_pairs
from .fetching import fetch_image
from .fonts import LEFT_TO_RIGHT
from .images import MAX_PIXELS, load_image, stored_image
from .posts import sentence_of
from .processing_vmhan import SHARED_FIELDS
from .questions import read_question
from .uncertainty import check_finite, monte_carlo_probabilities, uncertainty
from .values import FLAG, choice, number, read_value


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

# What the options of each step must be.
STEPS = (
    {
        "max_pixels": number(1, 2**40, whole=True),
        "url_timeout": number(0.001, 86_400),
        "url_max_bytes": number(1, 2**40, whole=True),
        "allow_private_urls": FLAG,
    },
    {"num_samples": number(1, 10_000, whole=True), "seed": number(0, 2**63 - 1, whole=True), "explain": FLAG},
    {
        "top_k": number(1, 10**9, whole=True),
        "abstain_below": number(0, 1),
        "on_error": choice("raise", "return"),
        "with_post": FLAG,
    },
)
OPTIONS = {name: kind for step in STEPS for name, kind in step.items()}


class MultimodalRelationClassificationPipeline(CallingPipeline):
    """Relation between two entities of a post; keywords may be defaults of `__call__`'s options.

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

    def __call__(self, inputs: Any = None, image: Any = None, **kwargs) -> Any:
        """Answer one question, or many.

        Args:
            inputs: a question, or a list, generator, `datasets.Dataset` (streaming too) or other iterable of
                questions, of which a list gives a list and anything else an iterator. A question is a dict of
                what VMHANProcessor takes, or a text; its image may also be an http(s) URL. The post of one pair has
                the pair's keys itself; with `pairs` the answer is a list. docs/posts.md has every key.
            image, and every other key of a post, as keywords: they are one question, or complete `inputs`.
            top_k: how many relations to rank, best first (default 5; None: all).
            abstain_below: with a score below it (default 0) the answer's relation is None and abstained is True.
            num_samples: Monte Carlo samples of the node Gaussians (default 32, at most 10,000). seed: of their noise
                (default 0).
            explain: add what carried the decision, as data and as a picture (default False).
            max_pixels: the most that an image may have, width times height (default 2**26, 67 million).
            url_timeout (10 seconds), url_max_bytes (20 MiB), allow_private_urls (False): see `fetching.fetch_image`.
            on_error: "raise" (default), with the question's index in the message, or "return": then the answer of a
                question that has none is {error, index, id}.
            with_post: answers have the question's text or tokens and its image under `input` (default False), where
                keys stand that no question has.
            batch_size, num_workers: as in every Pipeline; batch_size counts questions. Workers tokenize.

        Returns:
            for each pair a dict of head and tail (the words, or the tail's box; of an order-blind model in the
            direction of the relation, whichever was given as which), relation and score (the best one's
            probability, softmax(logits / config.calibration_temperature)), abstained, none_score, top_k (dicts of
            relation and score), with explain=True explanation (nodes, hyperedges, picture), and uncertainty:
            {monte_carlo_score, entropy, mutual_information}, the relation's probability and the two in nats, under
            samples of the node Gaussians; mutual_information is None for a model without variances. A question or an
            image that cannot be read, and scores that are not finite, are a ValueError or OSError that names the post.
        """
        return super().__call__(inputs, image, **kwargs)

    def _sanitize_parameters(self, **options) -> tuple[dict, dict, dict]:
        options.pop("local_files_only", None)  # transformers.pipeline passes its own on
        if unknown := [name for name in options if name not in OPTIONS]:
            raise ValueError(f"the options must be among {list(OPTIONS)}, received {unknown}.")
        for name, value in options.items():
            if name != "top_k" or value is not None:  # None: all
                options[name] = read_value(value, OPTIONS[name], name)
        return tuple({name: options[name] for name in names if name in options} for names in STEPS)

    def preprocess(self, input_: Any, **limits) -> dict[str, Any]:
        """All that needs no model, in a worker process where there are any: tokens, positions and pixels."""
        question = read_question(input_, partial(_open_image, **limits))
        config, post = self.model.config, question.post
        if config.order_blind:
            post["pairs"] = [to_text_order(pair) for pair in post["pairs"]]
        if post.get("image") is not None and post.get("image_features") is None:
            if not config.visual_feature_size:
                logger.warning_once("this model was trained without images (visual_feature_size=0): it ignores them.")
            elif config.vision_encoder is None:
                wanted = f"image_features of size {config.visual_feature_size}"
                raise ValueError(f"this model takes {wanted}, and no image; --visual pixels trains one that does.")
        encoded = self.processor.encode(post, question.name)
        # both are opaque to Pipeline's collation, which makes lists of a batch's
        return {"question": question, "encoded": encoded}

    def _forward(
        self, model_inputs: dict[str, Any], num_samples: int = 32, seed: int = 0, explain: bool = False
    ) -> dict[str, Any]:
        """Answer all pairs of the batch's posts in one pass."""
        questions, encoded = model_inputs["question"], model_inputs["encoded"]
        is_batch = isinstance(questions, list)
        if not is_batch:
            questions, encoded = [questions], [encoded]
        inputs = self.processor.collate(encoded).to(self.device)
        output = self.model(**inputs, output_gaussians=True, output_attentions=explain)
        temperature = self.model.config.calibration_temperature
        probabilities = (output.logits.float() / temperature).softmax(dim=-1)  # (P, R)
        samples, is_sampled = probabilities.unsqueeze(0), output.node_variance is not None
        if is_sampled:
            gaussians, noise = (output.read_mean, output.read_variance), {"num_samples": num_samples, "seed": seed}
            samples = monte_carlo_probabilities(self.model.classifier, *gaussians, temperature=temperature, **noise)
        explanations = None
        if explain:
            posts, families = [question.post for question in questions], self.model.config.hyperedges
            explanations = explain_pairs(posts, encoded, inputs, output, families)
        worth, probabilities = uncertainty(samples.cpu(), sampled=is_sampled), probabilities.cpu()
        answers, start = [], 0
        for question, of_post in zip(questions, encoded):
            own = slice(start, start := start + len(question.post["pairs"]))
            of_question = tuple(None if value is None else value[own] for value in worth)
            scores = (probabilities[own], *(value for value in of_question if value is not None))
            check_finite(question.name, scores, (of_post.image, of_post.objects))
            answers.append((question, probabilities[own], of_question, explanations and explanations[own]))
        return {"answer": answers if is_batch else answers[0]}

    def postprocess(
        self, model_outputs: dict[str, Any], top_k: int | None = 5, abstain_below: float = 0.0
    ) -> dict[str, Any] | list[dict[str, Any]]:
        question, probabilities, (mean, entropy, information), explanations = model_outputs["answer"]
        post = question.post
        labels, none = self.model.config.labels, self.model.config.label2id[self.model.config.none_label]
        results = []
        for i, (pair, of_pair) in enumerate(zip(post["pairs"], probabilities.tolist())):
            ranked = sorted(range(len(labels)), key=lambda label: -of_pair[label])
            best, score = ranked[0], of_pair[ranked[0]]
            names, entities = labels, _entities(post, pair)
            if self.model.config.order_blind and labels[best].endswith(INVERSE):  # the other way round, all of it
                entities = {"head": entities["tail"], "tail": entities["head"]}
                names = [labels[inverse_id(label, self.model.config.label2id)] for label in range(len(labels))]
            result = {
                **entities,
                "relation": names[best] if score >= abstain_below else None,
                "score": score,
                "abstained": not score >= abstain_below,
                "none_score": of_pair[none],
                "top_k": [{"relation": names[j], "score": of_pair[j]} for j in ranked[:top_k]],
                "uncertainty": {
                    "monte_carlo_score": float(mean[i, best]),
                    "entropy": float(entropy[i]),
                    "mutual_information": None if information is None else float(information[i]),
                },
            }
            if explanations is not None:
                tail = result["tail"] if isinstance(result["tail"], str) else "[object]"
                title = f"{result['head']}  {LEFT_TO_RIGHT}->  {tail}{LEFT_TO_RIGHT}:  {names[best]}  ({score:.0%})"
                picture = draw_explanation(explanations[i], sentence_of(post)[0], post.get("image"), title)
                result["explanation"] = {**explanations[i], "picture": picture}
            results.append(result)
        return results[0] if question.single else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Model and processor, with all their code and this pipeline's: a complete repository."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _check_processor(model: Any, processor: Any) -> None:
    """ValueError unless the processor makes what the model takes."""
    if processor is None:
        raise ValueError("the pipeline needs the model's processor=AutoProcessor.from_pretrained(...), received None.")
    both = {name: (getattr(model.config, name), getattr(processor, name, None)) for name in SHARED_FIELDS}
    both["tokens"] = (model.get_input_embeddings().weight.shape[0], len(processor.tokenizer))
    differing = [
        f"{name} {ours!r} against {theirs!r}"
        for name, (ours, theirs) in both.items()
        if (ours < theirs if name == "tokens" else ours != theirs)  # a model may embed more tokens than there are
    ]
    if differing:
        raise ValueError(
            f"this processor belongs to another model: {', '.join(differing)} (model against processor). Load both "
            "from one folder, or make it by VMHANProcessor.for_config(model.config, tokenizer)."
        )


def _open_image(
    source: Any,
    max_pixels: int = MAX_PIXELS,
    url_timeout: float = 10.0,
    url_max_bytes: int = 20 << 20,
    allow_private_urls: bool = False,
) -> Image.Image:
    """RGB, upright, in the pixels that boxes count. The one place where the pipeline opens an image."""
    source = stored_image(source)
    if is_url(source):
        source = fetch_image(source, timeout=url_timeout, max_bytes=url_max_bytes, allow_private=allow_private_urls)
    return load_image(source, max_pixels=max_pixels)


def _entities(post: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
    """The words of head and tail; of a tail that is an object its box, or its index where boxes are not given."""
    text, places = sentence_of(post)
    spans = {role: pair[role] for role in ("head", "tail") if role in pair}
    words = {role: text[places[start][0] : places[end - 1][1]] for role, (start, end) in spans.items()}
    if "tail" not in pair:
        boxes, index = post.get("boxes", []), pair["tail_object"]
        words["tail"] = boxes[index] if index < len(boxes) else f"object {index}"
    return words
