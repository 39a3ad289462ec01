"""The official scorer of multi-modal relation extraction: micro F1 over every label except the none label.

Accuracy counts every example, the none ones included. Precision = correct non-none / predicted non-none, recall =
correct non-none / gold non-none, F1 = their harmonic mean. This is the one definition every published MNRE and MORE
system uses; all numbers are fractions in [0, 1]. A ratio whose denominator is zero is 0.

The none label is found by its name (`modeling_vmhan.labels.NONE_LABELS`), never assumed to be id 0; a label set without one is an error,
because F1 would then silently equal accuracy.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from modeling_vmhan.labels import find_none_label


__all__ = ["confusion", "per_relation", "score"]


def score(
    gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str], none_label: str | None = None
) -> dict[str, float]:
    """The field's official numbers for one split.

    Args:
        gold: the true label name of each pair.
        predicted: the predicted label name of each pair, in the same order.
        labels: every label name of the data set, the none label included; order = id.
        none_label: the label that means "no relation"; found by name when not given.

    Returns:
        accuracy, precision, recall, f1 (micro over the relations) and macro_f1: the mean of F1 over all relations
        of `labels`; one that is neither in `gold` nor in `predicted` counts as 0, so that runs stay comparable.

    Raises:
        ValueError: empty input, different lengths, a label not in `labels`, repeated labels, or no clear none label.

    Example:
        >>> score(["a", "None"], ["a", "a"], labels=["None", "a"])["precision"]
        0.5
    """
    gold, predicted, labels = list(gold), list(predicted), list(labels)
    _check_pairs(gold, predicted, labels)
    relations = _relations(labels, none_label)
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, labels=relations, average="micro", zero_division=0
    )
    relation_f1 = precision_recall_fscore_support(gold, predicted, labels=relations, average=None, zero_division=0)[2]
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "macro_f1": float(relation_f1.mean()),
    }


def per_relation(
    gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str], none_label: str | None = None
) -> list[dict[str, str | float | int]]:
    """One row for each relation of `labels`, in their order, without the none label; arguments, errors as in `score`.

    Returns:
        dicts with relation (name), precision, recall, f1 (fractions) and support (pairs with that gold label).
    """
    gold, predicted, labels = list(gold), list(predicted), list(labels)
    _check_pairs(gold, predicted, labels)
    relations = _relations(labels, none_label)
    columns = precision_recall_fscore_support(gold, predicted, labels=relations, average=None, zero_division=0)
    return [
        {"relation": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(relations, *columns, strict=True)
    ]


def confusion(gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str]) -> np.ndarray:
    """Counts (R, R) int64, row = gold, column = predicted, both in the order of `labels`.

    Raises ValueError as `score` does, except that `labels` need not hold a none label.
    """
    gold, predicted, labels = list(gold), list(predicted), list(labels)
    _check_pairs(gold, predicted, labels)
    return confusion_matrix(gold, predicted, labels=labels)


def _relations(labels: list[str], none_label: str | None) -> list[str]:
    """Every label but the none label, in order."""
    none_label = find_none_label(labels, none_label)
    relations = [label for label in labels if label != none_label]
    if not relations:
        raise ValueError(
            f"`labels` must hold at least one relation beside the none label, received labels={labels}. "
            "Pass every label of the data set, in the order of their ids."
        )
    return relations


def _check_pairs(gold: list[str], predicted: list[str], labels: list[str]) -> None:
    """Raise ValueError unless `gold` and `predicted` are non-empty, equally long and made of `labels` only."""
    if len(gold) != len(predicted):
        raise ValueError(
            "`gold` and `predicted` must be equally long, one label each for every pair: "
            f"received {len(gold)} gold and {len(predicted)} predicted labels. "
            "Score predictions against the split that they were made on, in its order."
        )
    if not gold:
        raise ValueError(
            "`gold` and `predicted` must hold at least one pair, received 0. "
            "Check that the split that is scored is not empty."
        )
    if len(set(labels)) != len(labels):
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        raise ValueError(f"`labels` must not repeat a name: received {repeated} more than once. Pass each label once.")
    for argument, values in (("gold", gold), ("predicted", predicted)):
        unknown = sorted(set(values) - set(labels), key=str)
        if unknown:
            raise ValueError(
                f"`{argument}` must hold only names of `labels`: received {unknown}, expected some of {labels}. "
                "Pass label names, not ids (names[i] for each id i), and the label set of the data set that is scored."
            )
