"""The official score of multi-modal relation extraction as a module of the evaluate library; needs vmhan installed."""

import datasets
import evaluate

from vmhan.scoring.scorer import score


__all__ = ["MMREF1"]

DESCRIPTION = """Accuracy over all pairs; precision, recall and micro F1 over every label except the none label, which
is found by its name; macro F1 over the relations. All are fractions in [0, 1]."""

INPUTS = """
Args:
    predictions: predicted label names. references: gold label names, in the same order.
    labels: every label name of the data set, the none label included; order = id.
    none_label: the label that means "no relation"; found by its name when not given.
Returns:
    accuracy, precision, recall, f1, macro_f1.
Example:
    >>> metric = evaluate.load("evaluation/mmre_f1")
    >>> metric.compute(predictions=["a", "a"], references=["a", "None"], labels=["None", "a"])["precision"]
    0.5
"""


class MMREF1(evaluate.Metric):
    """`evaluate.load("evaluation/mmre_f1").compute(predictions=..., references=..., labels=...)`.

    The numbers, and the errors for what cannot be scored, are those of `vmhan.scoring.scorer.score`.
    """

    def _info(self) -> evaluate.MetricInfo:
        names = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features(names),
        )

    def _compute(self, predictions, references, labels, none_label=None) -> dict[str, float]:
        return score(references, predictions, labels=labels, none_label=none_label)
