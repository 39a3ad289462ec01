"""The pipeline "multimodal-relation-classification": questions about posts in, relations with their worth out."""

import math
import os
from dataclasses import replace
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any

import torch
from PIL import Image
from transformers import Pipeline

from .addresses import is_url
from .answers import ANSWER_OPTIONS, FINDER, TYPE_CONSTRAINTS, answer_of, check_needs, checked_options, joined, judged
from .asking import about, encode_question, is_for_several_passes, passes_of, with_choices
from .batching import EncodedPost, has_same_rows, of_like_length
from .calling import CallingPipeline
from .decision import DecisionRule
from .explanation import explain_pairs
from .fetching import fetch_image
from .images import MAX_PIXELS, load_image, stored_image
from .mention_finders import MentionFinder, token_classification_finder
from .mentions import Mention
from .monte_carlo import monte_carlo_probabilities
from .processing_vmhan import SHARED_FIELDS
from .questions import Question, in_units, read_question
from .text_encoding import SentenceMemory
from .values import FLAG, choice, number, read_value


__all__ = ["CUSTOM_PIPELINES", "TASK", "MultimodalRelationClassificationPipeline", "open_image"]

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
        "mentions": FINDER,
    },
    {
        "num_samples": number(0, 10_000, whole=True),
        "seed": number(0, 2**63 - 1, whole=True),
        "explain": FLAG,
        "type_constraints": TYPE_CONSTRAINTS,
    },
    {**ANSWER_OPTIONS, "on_error": choice("raise", "return"), "with_post": FLAG},
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
            mentions: what finds the mentions of raw posts in the place of the model: a function of a text that returns
                `mentions.Mention`s, or the name of a token classification model. A list is a key of the post.
            min_score, min_precision: no facts with a lower score (default 0), or with one that had a lower precision
                on validation. all_pairs: every pair, in text order, whatever its relation and score (default False);
                it takes none of these two.
            type_constraints: {relation: [[head type, tail type], ...]}, True (the config's) or False. Default: the
                config's for mentions that the model found itself; other finders' types may be worth less.
            top_k: how many relations to rank, best first (default 5; None: all).
            abstain_below: with a score below it (default 0) the answer's relation is None and abstained is True.
            num_samples: Monte Carlo samples of the node Gaussians (default 0: none; at most 10,000), for models with
                variances. seed: of their noise (default 0), which needs them.
            explain: add what carried the decision, as data and as a picture (default False).
            max_pixels: the most that an image may have, width times height (default 2**26, 67 million).
            url_timeout (10 seconds), url_max_bytes (20 MiB), allow_private_urls (False): see `fetching.fetch_image`.
            on_error: "raise" (default), with the question's index in the message, or "return": then the answer of a
                question that has none is {error, index, id}.
            with_post: answers have the question's text or tokens and its image under `input` (default False), where
                keys stand that no question has.
            batch_size, num_workers: as in every Pipeline; batch_size counts questions. Workers tokenize.

        Returns:
            for each pair, or each fact of a question that names none (best score first, with head_span, tail_span,
            head_type, tail_type, and in score the probabilities of its mentions), a dict of head and tail (the words,
            or the tail's box; of an order-blind model in the direction of the relation, whichever was given as which),
            relation and score (the best one's probability, by config.calibration_temperature and none_bias),
            abstained, none_score, top_k (dicts of relation and score), with explain=True explanation (nodes,
            hyperedges, picture), and uncertainty: {least_confidence, entropy, monte_carlo_score, mutual_information}.
            Least confidence, 1 - score, tells errors best. The entropy, in nats, is that of the probabilities, or with
            num_samples of their mean over samples of the node Gaussians; the relation's probability in that mean and
            the mutual information are None without. A question or an image that cannot be read, and scores that are
            not finite, are a ValueError or OSError that names the post.
        """
        check_needs(self._preprocess_params | self._forward_params | self._postprocess_params, kwargs)
        return super().__call__(inputs, image, **kwargs)

    def _sanitize_parameters(self, **options) -> tuple[dict, dict, dict]:
        options.pop("local_files_only", None)  # transformers.pipeline passes its own on
        if unknown := [name for name in options if name not in OPTIONS]:
            raise ValueError(f"the options must be among {list(OPTIONS)}, received {unknown}.")
        for name, value in options.items():
            if name != "top_k" or value is not None:  # None: all
                options[name] = read_value(value, OPTIONS[name], name)
        if isinstance(options.get("mentions"), (str, Pipeline)):
            options["mentions"] = _finder_by(options["mentions"], self.device)
        options = checked_options(options, self.model.config)
        return tuple({name: options[name] for name in names if name in options} for names in STEPS)

    def preprocess(self, input_: Any, mentions: Any = None, **limits) -> dict[str, Any]:
        """All that needs no model, in a worker process where there are any: tokens, positions and pixels."""
        config = self.model.config
        question = read_question(input_, partial(open_image, **limits))
        question, encoded = encode_question(question, self.processor, config, mentions, can_find=config.mentions)
        # both are opaque to Pipeline's collation, which makes lists of a batch's
        return {"question": question, "encoded": encoded}

    def find_mentions(self, post: Any, **limits) -> list[Mention]:
        """The mentions, in its units and in text order, that are given with one post or else found in it.

        limits: options of `__call__`, of which those for images and `mentions` count here; by default the pipeline's.
        A post that has pairs itself, or head and tail, is a ValueError.
        """
        of_call, *_ = self._sanitize_parameters(**limits)
        inputs = self.preprocess(post, **{**self._preprocess_params, **of_call})
        if not inputs["question"].asks_for_facts:
            raise ValueError("find_mentions expects a raw post or one with mentions, received one with its own pairs.")
        with torch.no_grad():
            (question,), *_ = self._with_found([inputs["question"]], [inputs["encoded"]])
        return [in_units(question, span) for span in sorted(question.mentions)]

    def _forward(self, model_inputs: dict[str, Any], **options) -> dict[str, Any]:
        """Answer a post, or a batch's posts in groups of like length, so that short ones are not padded to long ones.

        An accelerator takes small passes no faster: there only memory parts a batch.
        """
        questions, encoded = model_inputs["question"], model_inputs["encoded"]
        if not isinstance(questions, list):
            return {"answer": self._answered_together([questions], [encoded], **options)[0]}
        padding = {} if self.device.type == "cpu" else {"padding": math.inf}
        answers: list[Any] = [None] * len(questions)
        for group in of_like_length(encoded, **padding):
            of_group = self._answered_together([questions[i] for i in group], [encoded[i] for i in group], **options)
            for i, answer in zip(group, of_group):
                answers[i] = answer
        return {"answer": answers}

    def _answered_together(self, questions: list[Question], encoded: list[EncodedPost], **options) -> list[tuple]:
        """Find the mentions of the raw posts in one pass, then answer all pairs of all posts in one."""
        questions, encoded, memory = self._with_found(questions, encoded)
        answers = [(question, None, None, None) for question in questions]
        asked, many = _asked(questions, encoded)
        of_asked = ([questions[i] for i in asked], [encoded[i] for i in asked])
        for i, answer in zip(asked, self._answered(*of_asked, memory, **options) if asked else []):
            answers[i] = answer
        for i in many:
            parts = passes_of(questions[i], encoded[i], self.processor)
            answers[i] = joined(questions[i], [self._answered([of], [its], None, **options)[0] for of, its in parts])
        return answers

    def _with_found(self, questions: list[Question], encoded: list[EncodedPost]) -> tuple:
        """The questions with the mentions that the model finds in raw posts, encoded with their pairs, and where all
        posts are raw what the text encoder remembers of those that one pass answers.
        """
        raw = [i for i, question in enumerate(questions) if question.asks_for_facts and question.mentions is None]
        if not raw:
            return questions, encoded, None
        questions, encoded, sentences = list(questions), list(encoded), [encoded[i] for i in raw]
        rows = self.processor.collate_rows(sentences).to(self.device)
        found, memory = self.model.find_mentions(sentences, **rows)
        for i, mentions in zip(raw, found):
            of_found = about(questions[i], mentions, self.processor, self.model.config)
            questions[i] = replace(with_choices(of_found, self.model.config), knows_types=True)
            if questions[i].post["pairs"]:
                encoded[i] = self.processor.with_pairs(encoded[i], questions[i].post)
        asked, _ = _asked(questions, encoded)
        is_same = len(raw) == len(encoded) and all(has_same_rows(sentences[i], encoded[i]) for i in asked)
        if memory is None or not is_same or not asked:
            return questions, encoded, None
        first_row = list(accumulate((len(sentence.rows) for sentence in sentences), initial=0))  # a long post has more
        return questions, encoded, memory.of_rows([first_row[i] for i in asked for _ in encoded[i].rows])

    def _answered(
        self,
        questions: list[Question],
        encoded: list[EncodedPost],
        memory: SentenceMemory | None,
        num_samples: int = 0,
        seed: int = 0,
        explain: bool = False,
        type_constraints: Any = None,
    ) -> list[tuple]:
        """For each question itself, the probabilities of its pairs, their worth, and what explains them."""
        config, inputs = self.model.config, self.processor.collate(encoded).to(self.device)
        output = self.model(**inputs, memory=memory, output_gaussians=True, output_attentions=explain)
        rule = DecisionRule.of(config)
        probabilities, samples, explanations = rule.probabilities(output.logits), None, None  # (P, R)
        if num_samples > 0 and output.node_variance is not None:
            gaussians, noise = (output.read_mean, output.read_variance), {"num_samples": num_samples, "seed": seed}
            samples = monte_carlo_probabilities(self.model.classifier, *gaussians, rule=rule, **noise).cpu().numpy()
        if explain:
            posts = [question.post for question in questions]
            explanations = explain_pairs(posts, encoded, inputs, output, config.hyperedges)
        given = {"samples": samples, "explanations": explanations, "type_constraints": type_constraints}
        return judged(questions, encoded, probabilities.cpu().numpy(), config, **given)

    def postprocess(self, model_outputs: dict[str, Any], **options) -> dict[str, Any] | list[dict[str, Any]]:
        return answer_of(model_outputs["answer"], self.model.config, **options)

    def save_pretrained(self, save_directory: str | os.PathLike, vision: str | None = None, **kwargs) -> None:
        """Model (`vision` as there) and processor, with all their code and this pipeline's: a complete repository."""
        self.model.save_pretrained(save_directory, vision=vision, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def _asked(questions: list[Question], encoded: list[EncodedPost]) -> tuple[list[int], list[int]]:
    """The indices of the posts with pairs that share one pass, and of those that need several for themselves."""
    with_pairs = [i for i, of_post in enumerate(encoded) if of_post.pairs]
    many = [i for i in with_pairs if is_for_several_passes(questions[i], encoded[i])]
    return [i for i in with_pairs if i not in many], many


@lru_cache(maxsize=2)
def _finder_by(model: str | Pipeline, device: torch.device) -> MentionFinder:
    options = {"device": device} if isinstance(model, str) else {}
    return token_classification_finder(model, **options)


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


def open_image(
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
