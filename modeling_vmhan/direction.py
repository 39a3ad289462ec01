"""The order-blind protocol: two mentions stand in text order, and the label says which way their relation points.

Who asks about two mentions does not know which one is the head. So a pair's head is the mention that stands first in
the sentence, and a relation whose arguments stand the other way round is a label of its own, its name with INVERSE. A
symmetric relation, and "no relation", point both ways and have no inverse.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .labels import NONE_LABELS


__all__ = ["INVERSE", "directed_labels", "inverse_id", "inverse_of", "is_reversed", "symmetric_relations"]
__all__ += ["to_text_order"]

INVERSE = " (inverse)"


def to_text_order(pair: Mapping[str, Any], symmetric: Collection[str] = ()) -> dict[str, Any]:
    """The pair with the mention that stands first as its head; where that turns it, its relation is the inverse one.

    head and tail are spans (start, end); of two that start together the shorter one is first. A pair whose tail is an
    object of the image has no order, and stays as it is. `symmetric` are the relations that point both ways.

    Example:
        >>> to_text_order({"head": (5, 6), "tail": (0, 1), "relation": "/loc/loc/contain"})
        {'head': (0, 1), 'tail': (5, 6), 'relation': '/loc/loc/contain (inverse)'}
    """
    if not is_reversed(pair):
        return dict(pair)
    turned = {**pair, "head": pair["tail"], "tail": pair["head"]}
    if pair.get("relation") is not None:
        turned["relation"] = inverse_of(pair["relation"], symmetric)
    return turned


def is_reversed(pair: Mapping[str, Any]) -> bool:
    """Whether the tail stands in the text before the head."""
    tail = pair.get("tail")
    return tail is not None and len(tail) > 0 and tuple(tail) < tuple(pair["head"])


def inverse_of(relation: str, symmetric: Collection[str] = ()) -> str:
    """The label of the same fact when head and tail change places."""
    if relation.endswith(INVERSE):
        return relation.removesuffix(INVERSE)
    return relation if relation in symmetric or relation in NONE_LABELS else relation + INVERSE


def symmetric_relations(labels: Collection[str], *, order_blind: bool) -> set[str]:
    """The relations that point both ways, which an order-blind model's labels tell: they have no inverse."""
    return {label for label in labels if order_blind and inverse_of(label) not in labels}


def inverse_id(label: int, label2id: Mapping[str, int]) -> int:
    """The id of the inverse of a label of a model; one that has no inverse points both ways."""
    name = next(name for name, i in label2id.items() if i == label)
    return label2id.get(inverse_of(name), label)


def directed_labels(labels: Iterable[str], symmetric: Collection[str] = ()) -> list[str]:
    """The labels, whose ids stay, and behind them the inverse of each that has one."""
    labels = list(labels)
    if taken := [label for label in labels if label.endswith(INVERSE)]:
        raise ValueError(f"labels: no relation of the data may end with {INVERSE!r}, received {taken}. Rename it.")
    return labels + [inverse for label in labels if (inverse := inverse_of(label, symmetric)) != label]
