"""The official scorer of multi-modal relation extraction: micro F1 over every label except the none label.

Accuracy counts every pair. Precision = correct relations / predicted relations, recall = correct relations / gold
relations, F1 = their harmonic mean. All are fractions, and a ratio whose denominator is zero is 0. The none label is
found by its name (`modeling_vmhan.labels.NONE_LABELS`), never assumed to be id 0.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from modeling_vmhan.labels import find_none_label


__all__ = ["confusion", "per_relation", "score"]


def score(
    gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str], none_label: str | None = None
) -> dict[str, float]:
    """The field's official numbers: accuracy, precision, recall, f1, and macro_f1 (the mean over all relations of
    `labels`, 0 for one that never occurs).

    gold and predicted are the label names of the same pairs; labels are all names of the data set, the none label
    included. ValueError for empty input, different lengths, unknown or repeated labels, or no clear none label.

    Example:
        >>> score(["a", "None"], ["a", "a"], labels=["None", "a"])["precision"]
        0.5
    """
    rows = per_relation(gold, predicted, labels=labels, none_label=none_label)
    options = {"labels": [row["relation"] for row in rows], "average": "micro", "zero_division": 0}
    micro = precision_recall_fscore_support(list(gold), list(predicted), **options)
    scores = {"accuracy": accuracy_score(list(gold), list(predicted))}
    scores |= {**dict(zip(("precision", "recall", "f1"), micro)), "macro_f1": np.mean([row["f1"] for row in rows])}
    return {name: float(value) for name, value in scores.items()}


def per_relation(
    gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str], none_label: str | None = None
) -> list[dict[str, str | float | int]]:
    """A dict for each relation of `labels`: relation, precision, recall, f1 (fractions) and support (gold pairs).

    The arguments and errors are those of `score`.
    """
    _check_pairs(gold, predicted, labels)
    none_label = find_none_label(list(labels), none_label)
    relations = [label for label in labels if label != none_label]
    if not relations:
        raise ValueError(f"labels: expected a relation beside the none label, received {list(labels)}.")
    columns = precision_recall_fscore_support(list(gold), list(predicted), labels=relations, zero_division=0)
    return [
        {"relation": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(relations, *columns, strict=True)
    ]


def confusion(gold: Sequence[str], predicted: Sequence[str], *, labels: Sequence[str]) -> np.ndarray:
    """Counts (R, R), row = gold, column = predicted, in the order of `labels`, which need no none label here."""
    _check_pairs(gold, predicted, labels)
    return confusion_matrix(list(gold), list(predicted), labels=list(labels))


def _check_pairs(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> None:
    """Raise ValueError unless `gold` and `predicted` are non-empty, equally long and made of `labels` only."""
    if len(gold) != len(predicted) or not len(gold):
        raise ValueError(
            "gold and predicted: expected one label each for at least one pair, received "
            f"{len(gold)} gold and {len(predicted)} predicted labels. Score a split that is not empty, in its order."
        )
    if len(set(labels)) != len(labels):
        repeated = sorted({label for label in labels if list(labels).count(label) > 1})
        raise ValueError(f"labels: expected each name once, received {repeated} more than once.")
    for argument, values in (("gold", gold), ("predicted", predicted)):
        if unknown := sorted(set(values) - set(labels), key=str):
            raise ValueError(
                f"{argument}: expected names of the labels {list(labels)}, received {unknown}. Pass label names, not "
                "ids, and the label set of the data set that is scored."
            )
