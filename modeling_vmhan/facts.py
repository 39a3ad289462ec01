"""From the mentions of a post to its facts: which pairs are asked about, what may hold between them, what is said.

A fact is an answer of the pipeline whose relation is not "none", with the places and types of its mentions.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from .mentions import Mention
from .selection import folded
from .words import Span


__all__ = ["allowed_labels", "facts_of", "pairs_of_mentions", "possible", "with_ends"]

Fact = dict[str, Any]


def pairs_of_mentions(mentions: Mapping[Span, str], *, both_directions: bool) -> list[dict[str, Span]]:
    """The pairs to ask about, of mentions {span: words}, each the first in the text as the head.

    Two mentions that overlap, or have the same words but for case, are no pair. `both_directions` asks about each pair
    with head and tail exchanged, too, for models to which their order means something.
    """
    names, pairs = {span: folded(words) for span, words in mentions.items()}, []
    for head, tail in combinations(sorted(mentions), 2):
        if head[1] <= tail[0] and names[head] != names[tail]:
            pairs.append({"head": head, "tail": tail})
            pairs += [{"head": tail, "tail": head}] * both_directions
    return pairs


def allowed_labels(
    types: Sequence[tuple[str | None, str | None]],
    labels: Sequence[str],
    constraints: Mapping[str, Collection[tuple[str, str]]],
) -> np.ndarray:
    """Which labels each pair may have by the types of its head and tail, (P, R) bool; None is a type unknown.

    `constraints` are of `argument_types.constraints_of`; a label without one is always allowed.
    """

    def fits(label: str, head: str | None, tail: str | None) -> bool:
        wanted = constraints.get(label)
        return wanted is None or any(head in (None, one) and tail in (None, other) for one, other in wanted)

    return np.array([[fits(label, *of_pair) for label in labels] for of_pair in types])


def possible(probabilities: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Probabilities (..., P, R) given that only the allowed labels (P, R) are possible; of a pair without any as they
    are.
    """
    kept = probabilities * allowed
    total = kept.sum(axis=-1, keepdims=True)
    return np.where(total > 0, kept / np.maximum(total, np.finfo(kept.dtype).tiny), probabilities)


def facts_of(answers: Iterable[Fact], *, none_label: str, functional: Collection[str], min_score: float) -> list[Fact]:
    """The facts among the answers that `with_ends` made, best score first, each of at least `min_score`.

    What several pairs say (the same words and relation) is said once; so is what two mentions are to each other, where
    both directions were asked; and of a functional relation a head has one tail. Each time the best score stays.
    """
    facts = [fact for fact in answers if fact["relation"] not in (None, none_label) and fact["score"] >= min_score]
    said, kept = set(), []
    for fact in sorted(facts, key=lambda fact: -fact["score"]):
        head, tail = (folded(fact[role]) for role in ("head", "tail"))
        keys = {(head, fact["relation"], tail), frozenset((fact["head_span"], fact["tail_span"]))}
        keys |= {(head, fact["relation"])} if fact["relation"] in functional else set()
        if said.isdisjoint(keys):
            kept.append(fact)
            said |= keys
    return kept


def with_ends(answer: Fact, head: Mention, tail: Mention, *, abstain_below: float = 0.0) -> Fact:
    """The answer with the spans (in the question's units) and types of its mentions, and the score of a fact: its
    relation's probability times those of its mentions, below which `abstain_below` takes the relation away.
    """
    score = answer["score"] * head.score * tail.score
    places = {"head_span": (head.start, head.end), "tail_span": (tail.start, tail.end)}
    fact = {**answer, **places, "head_type": head.type, "tail_type": tail.type, "score": score}
    fact["uncertainty"] = {**answer["uncertainty"], "least_confidence": 1 - score}
    return fact if score >= abstain_below else {**fact, "relation": None, "abstained": True}
