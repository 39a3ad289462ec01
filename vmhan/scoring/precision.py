"""From scored answers on a validation split to the table that tells a user what precision a score had.

Among n scored answers, of which some are right, and G gold facts, a row has a score s, the precision of the answers
with at least s, and their recall, that is the right ones among them / G. Precision is made monotone in s by isotonic
regression, weighted by the answers that each row counts: what a higher score costs in recall it gives in precision.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.isotonic import IsotonicRegression

from modeling_vmhan.decision import DecisionRule
from vmhan.scoring.calibration import softmax
from vmhan.scoring.pictures import BLUE, ORANGE, picture


__all__ = ["LEAST_ANSWERS", "LEAST_POSITIVES", "MOST_ROWS", "draw_precision", "pairs_table", "precision_table"]

LEAST_POSITIVES = 30  # gold facts: with fewer there is no table, as a precision would be a guess
LEAST_ANSWERS = 10  # that each row counts
MOST_ROWS = 50
DIGITS = 6

Rows = list[list[float]]


def precision_table(scores: Sequence[float], correct: Sequence[bool], num_positives: int) -> Rows | None:
    """At most MOST_ROWS rows [score, precision, recall], lowest score first, evenly over the answers.

    scores and correct are of the answers that name a relation, (n,) each; num_positives is G. None with fewer than
    LEAST_POSITIVES gold facts or LEAST_ANSWERS answers.
    """
    scores, correct = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool)
    if scores.shape != correct.shape or scores.ndim != 1:
        raise ValueError(f"scores and correct must be (n,) each, received {scores.shape} and {correct.shape}.")
    if num_positives < LEAST_POSITIVES or len(scores) < LEAST_ANSWERS:
        return None
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order].round(DIGITS), np.cumsum(correct[order])
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # the last answer with each score
    ends = ends[ends + 1 >= LEAST_ANSWERS]
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(MOST_ROWS, len(ends))).round().astype(int))]
    counts = ends + 1
    regression = IsotonicRegression(y_min=0.0, y_max=1.0)
    precision = regression.fit_transform(scores[ends], right[ends] / counts, sample_weight=counts)
    rows = zip(scores[ends].tolist(), precision.tolist(), (right[ends] / num_positives).tolist())
    return [[score, round(of, DIGITS), round(recall, DIGITS)] for score, of, recall in rows][::-1]


def pairs_table(logits: np.ndarray, gold: Sequence[int], rule: DecisionRule) -> Rows | None:
    """The table of given pairs: answers are the pairs whose likeliest label is a relation, with its probability.

    logits are (n, R), gold (n,) label ids.
    """
    probabilities, gold = softmax(logits, rule), np.asarray(gold)
    best = probabilities.argmax(axis=-1)
    claimed = best != rule.none_id
    scores = probabilities.max(axis=-1)[claimed]
    return precision_table(scores, (best == gold)[claimed], int((gold != rule.none_id).sum()))


def draw_precision(path: str | Path, tables: Mapping[str, Rows]) -> None:
    """Draw precision and recall against the least score, a panel a table, as a PNG; nothing without tables.

    ImportError if matplotlib is not installed.
    """
    if not tables:
        return
    with picture(path, width=4.4 * len(tables), height=3.6, dpi=120) as figure:
        for axes, (name, rows) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
            scores, precision, recall = zip(*rows)
            axes.plot(scores, precision, color=BLUE, label="precision")
            axes.plot(scores, recall, color=ORANGE, label="recall")
            axes.set(title=f"validation, {name}", xlabel="least score", ylim=(0, 1))
            axes.legend()
