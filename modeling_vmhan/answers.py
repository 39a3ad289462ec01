"""What the pipeline says of each pair: its entities as the relation points, scores, and what explains them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .argument_types import constraints_of
from .configuration_vmhan import VMHANConfig
from .direction import INVERSE, inverse_id
from .drawing import draw_explanation
from .facts import allowed_labels
from .fonts import LEFT_TO_RIGHT
from .posts import sentence_of
from .questions import Question, in_units


__all__ = ["allowed_by_types", "answers_of"]


def allowed_by_types(questions: Sequence[Question], config: VMHANConfig, constraints: Any) -> Tensor | None:
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
    return allowed_labels(types, config.labels, by_label) | ~torch.tensor(is_bound).unsqueeze(-1)


def answers_of(
    question: Question,
    probabilities: Tensor,
    worth: tuple[Tensor | None, ...],
    explanations: list[dict[str, Any]] | None,
    config: VMHANConfig,
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
