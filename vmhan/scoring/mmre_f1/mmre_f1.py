"""The official score of multi-modal relation extraction as a module of the evaluate library; needs vmhan installed."""

import datasets
import evaluate

from vmhan.scoring.scorer import score


__all__ = ["MMREF1"]

INPUTS = """
Args:
    predictions: predicted label names. references: gold label names, in the same order.
    labels: every label name of the data set, the none label included; order = id.
    none_label: the label that means "no relation"; found by its name when not given.
Returns:
    accuracy, precision, recall, f1, macro_f1.
"""


class MMREF1(evaluate.Metric):
    """The numbers and the errors of `vmhan.scoring.scorer.score`.

    Example:
        >>> metric = evaluate.load("vmhan/scoring/mmre_f1")  # doctest: +SKIP
        >>> metric.compute(predictions=["a", "a"], references=["a", "None"], labels=["None", "a"])["precision"]
        0.5
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({name: datasets.Value("string") for name in ("predictions", "references")})
        return evaluate.MetricInfo(
            description=score.__doc__, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions, references, labels, none_label=None) -> dict[str, float]:
        return score(references, predictions, labels=labels, none_label=none_label)
