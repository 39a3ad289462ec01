"""What the pipeline says of each pair: its entities as the relation points, scores, and what explains them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from operator import not_
from typing import TYPE_CHECKING, Any

import numpy as np

from .argument_types import constraints_of, read_constraints
from .batching import EncodedPost
from .direction import INVERSE, inverse_id
from .drawing import draw_explanation
from .facts import allowed_labels, facts_of, possible, with_ends
from .fonts import LEFT_TO_RIGHT
from .needs import Need, unmet
from .once import warn_once
from .posts import sentence_of
from .precision import least_score
from .questions import Question, in_units
from .uncertainty import check_finite, uncertainty
from .values import FLAG, Kind, number


if TYPE_CHECKING:
    from .configuration_vmhan import VMHANConfig

__all__ = ["ANSWER_OPTIONS", "FINDER", "TYPE_CONSTRAINTS", "Judged", "allowed_by_types", "answer_of", "answers_of"]
__all__ += ["NEEDS", "check_needs", "checked_options", "joined", "judged"]

logger = logging.getLogger(__name__)

# What the options of `answer_of` and `judged` must be.
ANSWER_OPTIONS = {
    "top_k": number(1, 10**9, whole=True),
    "abstain_below": number(0, 1),
    "min_score": number(0, 1),
    "min_precision": number(0, 1),
    "all_pairs": FLAG,
}
# Options of the pipeline that change something only beside another one.
NEEDS = (
    Need("seed", "num_samples", "of at least 1"),
    Need("min_score", "all_pairs", "False", not_),
    Need("min_precision", "all_pairs", "False", not_),
)
TYPE_CONSTRAINTS = Kind("True, False or a dict", lambda value: value if value in (True, False) else dict(value))


def _finder(value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise TypeError("no finder")
    return value


FINDER = Kind("a function of a text, or the name of a token classification model", _finder)

Judged = tuple[Question, np.ndarray | None, tuple[np.ndarray | None, ...] | None, list[dict[str, Any]] | None]


def judged(
    questions: Sequence[Question],
    encoded: Sequence[EncodedPost],
    probabilities: np.ndarray,
    config: "VMHANConfig",
    *,
    samples: np.ndarray | None = None,
    explanations: list[dict[str, Any]] | None = None,
    type_constraints: Any = None,
) -> list[Judged]:
    """For each question itself, the probabilities of its pairs that its types allow, their worth, and what explains
    them. ValueError, which names the post, for scores that are not finite.

    probabilities (P, R) and samples (S, P, R) of them are of the pairs of all questions.
    """
    if (allowed := allowed_by_types(questions, config, type_constraints)) is not None:
        probabilities = possible(probabilities, allowed)
        samples = None if samples is None else possible(samples, allowed)
    worth = uncertainty(probabilities[None] if samples is None else samples, sampled=samples is not None)
    answers, start = [], 0
    for question, of_post in zip(questions, encoded):
        own = slice(start, start := start + len(question.post["pairs"]))
        of_question = tuple(None if value is None else value[own] for value in worth)
        scores = (probabilities[own], *(value for value in of_question if value is not None))
        check_finite(question.name, scores, (of_post.image, of_post.objects))
        answers.append((question, probabilities[own], of_question, explanations and explanations[own]))
    return answers


def checked_options(options: dict[str, Any], config: "VMHANConfig") -> dict[str, Any]:
    """Options that were read, as far as they depend on the model; else a ValueError, of the call and of no post."""
    if options.get("min_precision") is not None and not config.precision_table:
        least_score(None, options["min_precision"])
    if isinstance(options.get("type_constraints"), dict):
        return {**options, "type_constraints": read_constraints(options["type_constraints"], config.labels)}
    return options


def check_needs(defaults: Mapping[str, Any], call: Mapping[str, Any]) -> None:
    """ValueError for an option of `NEEDS` that would change nothing in a call with these options."""
    for message in unmet(NEEDS, {**defaults, **call}, last=call):
        raise ValueError(message)


def joined(question: Question, parts: Sequence[Judged]) -> Judged:
    """What `judged` says of a question, of what it says of its parts (`asking.passes_of`)."""
    _, probabilities, worth, explanations = zip(*parts)
    of_all = tuple(None if values[0] is None else np.concatenate(values) for values in zip(*worth))
    return question, np.concatenate(probabilities), of_all, explanations[0] and sum(explanations, [])


def answer_of(
    judged: Judged,
    config: "VMHANConfig",
    *,
    top_k: int | None = 5,
    abstain_below: float = 0.0,
    min_score: float = 0.0,
    min_precision: float | None = None,
    all_pairs: bool = False,
) -> dict[str, Any] | list[dict[str, Any]]:
    """The answer to a question, as the pipeline's `__call__` describes it, of what `judged` says of it."""
    question, *of_pairs = judged
    options = {"top_k": top_k, "abstain_below": abstain_below}
    answers = [] if of_pairs[0] is None else list(answers_of(question, *of_pairs, config, **options))
    if not question.asks_for_facts:
        return answers[0] if question.single else answers
    answers = [with_ends(*answer, abstain_below=abstain_below) for answer in answers]
    if all_pairs:
        return answers
    if min_precision is not None:
        of = "posts" if question.form == "post" else "pairs"
        if of == "posts" and not question.knows_types:
            said = "min_precision was measured with mentions that the model itself found, not with another finder's"
            warn_once(logger, f"{said}: its facts may be wrong more often. min_score=SCORE asks for a score instead.")
        min_score = max(min_score, least_score((config.precision_table or {}).get(of), min_precision))
    rule = {"none_label": config.none_label, "functional": config.functional_relations, "min_score": min_score}
    return facts_of(answers, **rule)


def allowed_by_types(questions: Sequence[Question], config: "VMHANConfig", constraints: Any) -> np.ndarray | None:
    """Which labels the types of the mentions allow each pair, (P, R) bool; None where nothing is constrained. Of a
    question that names its pairs nothing is, whatever else is in the batch.

    constraints: True for the config's, False for none, or a dict in their place; None for the config's where the
    model itself found the mentions.
    """
    given = config.type_constraints if constraints in (None, True) else constraints or {}
    by_label = constraints_of(config.labels, given)
    if not by_label or not any(question.mentions for question in questions):
        return None
    types, is_bound = [], []
    for question in questions:
        known = {span: mention.type for span, mention in (question.mentions or {}).items()}
        types += [(known.get(pair["head"]), known.get(pair.get("tail"))) for pair in question.post["pairs"]]
        binds = question.asks_for_facts and (constraints is not None or question.knows_types)
        is_bound += [binds] * len(question.post["pairs"])
    return allowed_labels(types, config.labels, by_label) | ~np.array(is_bound)[:, None]


def answers_of(
    question: Question,
    probabilities: np.ndarray,
    worth: tuple[np.ndarray | None, ...],
    explanations: list[dict[str, Any]] | None,
    config: "VMHANConfig",
    *,
    top_k: int | None,
    abstain_below: float,
) -> Iterator[Any]:
    """The answer to each pair of a question, as the pipeline's `__call__` describes it; where facts are asked for
    (answer, head, tail), the mentions with their places in the question's units.

    probabilities are (P, R), worth what `uncertainty` returns of them, explanations those of `explain_pairs`.
    """
    post, (mean, entropy, information) = question.post, worth
    labels, none = config.labels, config.label2id[config.none_label]
    for i, (pair, of_pair) in enumerate(zip(post["pairs"], probabilities.tolist())):
        ranked = sorted(range(len(labels)), key=lambda label: -of_pair[label])
        best, score, names, ends = ranked[0], of_pair[ranked[0]], labels, ("head", "tail")
        if config.order_blind and labels[best].endswith(INVERSE):  # the other way round, all of it
            ends = ("tail", "head")
            names = [labels[inverse_id(label, config.label2id)] for label in range(len(labels))]
        entities = _entities(post, pair)
        answer = {
            **{role: entities[end] for role, end in zip(("head", "tail"), ends)},
            "relation": names[best] if score >= abstain_below else None,
            "score": score,
            "abstained": not score >= abstain_below,
            "none_score": of_pair[none],
            "top_k": [{"relation": names[j], "score": of_pair[j]} for j in ranked[:top_k]],
            "uncertainty": {
                "least_confidence": 1 - score,
                "entropy": float(entropy[i]),
                "monte_carlo_score": None if information is None else float(mean[i, best]),
                "mutual_information": None if information is None else float(information[i]),
            },
        }
        if explanations is not None:
            tail = answer["tail"] if isinstance(answer["tail"], str) else "[object]"
            title = f"{answer['head']}  {LEFT_TO_RIGHT}->  {tail}{LEFT_TO_RIGHT}:  {names[best]}  ({score:.0%})"
            picture = draw_explanation(explanations[i], sentence_of(post)[0], post.get("image"), title)
            answer["explanation"] = {**explanations[i], "picture": picture}
        yield (answer, *(in_units(question, pair[end]) for end in ends)) if question.asks_for_facts else answer


def _entities(post: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
    """The words of head and tail; of a tail that is an object its box, or its index where boxes are not given."""
    text, places = sentence_of(post)
    spans = {role: pair[role] for role in ("head", "tail") if role in pair}
    words = {role: text[places[start][0] : places[end - 1][1]] for role, (start, end) in spans.items()}
    if "tail" not in pair:
        boxes, index = post.get("boxes", []), pair["tail_object"]
        words["tail"] = boxes[index] if index < len(boxes) else f"object {index}"
    return words
