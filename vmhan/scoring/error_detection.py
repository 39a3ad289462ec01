"""Does an uncertainty tell which answers are wrong: AUROC of the errors, and the risk-coverage curve with its area.

n pairs, K resamples, G distinct values of an uncertainty. An error is a predicted relation that is not the gold one,
none included. A model that answers only the pairs it is surest of has a coverage, the share that it answers, and a
risk, the share of errors among these; the area below that curve (AURC) is the mean risk over coverages 1/n, ..., 1
(Geifman et al. 2019, https://arxiv.org/abs/1805.08206). Pairs of equal uncertainty count in a random order: as the
expectation over it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from vmhan.scoring.bootstrap import LEVEL, Interval, drawn_sentences, ends
from vmhan.scoring.predictions import UNCERTAINTIES, Predictions, check_same_pairs


__all__ = ["COVERAGES", "ErrorDetection", "bootstrap_error_detection", "error_aurocs", "risk_coverage"]
__all__ += ["uncertainties"]

COVERAGES = np.arange(1, 21) / 20


class ErrorDetection(NamedTuple):
    """Means over runs, with intervals over sentences."""

    auroc: Interval | None  # None where a run has no error, or nothing else
    auroc_behind: Interval | None  # how much the AUROC of the first uncertainty is higher, on the same draws
    aurc: Interval
    risks: list[Interval]  # at each of COVERAGES


def uncertainties(rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """All uncertainties that rows of a predictions.jsonl have, (n,) each: least_confidence, 1 minus the largest
    probability; entropy of the probabilities in nats; and those of UNCERTAINTIES that are there.
    """
    found = {}
    if all("probabilities" in row for row in rows):
        probabilities = np.array([row["probabilities"] for row in rows], dtype=np.float64)  # (n, R)
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        found = {"least_confidence": 1 - probabilities.max(axis=1), "entropy": -(probabilities * logs).sum(axis=1)}
    return found | {
        name: np.array([row[name] for row in rows]) for name in UNCERTAINTIES if all(name in r for r in rows)
    }


def error_aurocs(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """error_auroc_NAME of each of `uncertainties`: how likely a wrong answer has a larger one than a right answer.

    {} where all answers are right, or all wrong.
    """
    errors = _errors(rows)
    if not rows or errors.all() or not errors.any():
        return {}
    return {f"error_auroc_{name}": float(roc_auc_score(errors, of)) for name, of in uncertainties(rows).items()}


def risk_coverage(
    errors: np.ndarray, uncertainty: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUROC of the errors (K,), nan where there is none or nothing else; AURC (K,); risks at COVERAGES (K, 20).

    errors are (n,) bool, uncertainty (n,). weights (K, n) say how often each pair was drawn.
    """
    order = np.argsort(uncertainty, kind="stable")
    starts = np.flatnonzero(np.diff(uncertainty[order], prepend=-np.inf))  # (G,) where a new value begins
    drawn = np.add.reduceat(weights[:, order], starts, axis=1)  # (K, G) pairs of each value
    wrong = np.add.reduceat(weights[:, order] * errors[order], starts, axis=1)  # (K, G)
    until, wrong_until = drawn.cumsum(axis=1), wrong.cumsum(axis=1)
    total, before, wrong_before = until[:, -1], until - drawn, wrong_until - wrong
    right, right_before = drawn - wrong, before - wrong_before
    with np.errstate(invalid="ignore"):
        auroc = (wrong * (right_before + right / 2)).sum(axis=1) / (wrong.sum(axis=1) * right.sum(axis=1))
    rate = np.divide(wrong, drawn, out=np.zeros(drawn.shape), where=drawn > 0)  # of errors among equal ones
    # sum over k = before + 1, ..., until of (wrong_before + rate (k - before)) / k, by harmonic numbers
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(total.max()) + 1))])
    slots = harmonic[until.astype(int)] - harmonic[before.astype(int)]
    aurc = (rate * drawn + (wrong_before - rate * before) * slots).sum(axis=1) / total
    kept = total[:, None] * COVERAGES  # (K, 20) pairs that are answered
    answered = [np.interp(*row) for row in zip(kept, _from_zero(until), _from_zero(wrong_until))]
    return auroc, aurc, np.stack(answered) / kept


def bootstrap_error_detection(
    runs: Sequence[Predictions], *, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> dict[str, ErrorDetection]:
    """Of each uncertainty that all runs, the seeds of one system, have. Sentences are drawn as in `bootstrap_f1`."""
    for run in runs[1:]:
        check_same_pairs(runs[0], run)
    _, sentence = np.unique(runs[0].groups, return_inverse=True)  # (n,) number of each pair's sentence
    of_runs = [(_errors(run.rows), uncertainties(run.rows)) for run in runs]
    found, first = {}, None
    for name in of_runs[0][1]:
        if all(name in of_run for _, of_run in of_runs):
            pairs = [(errors, of_run[name]) for errors, of_run in of_runs]
            blocks = drawn_sentences(int(sentence.max()) + 1, resamples, seed)
            draws = [_mean_over_runs(pairs, weights[:, sentence]) for weights in blocks]
            of_draws = [np.concatenate(part) for part in zip(*draws)]
            auroc, aurc, risks = (part[0] for part in _mean_over_runs(pairs, np.ones((1, len(sentence)))))
            first = first or (auroc, of_draws[0])
            found[name] = ErrorDetection(
                None if np.isnan(auroc) else Interval(float(auroc), *ends(of_draws[0], level)),
                None if np.isnan(auroc) else Interval(float(first[0] - auroc), *ends(first[1] - of_draws[0], level)),
                Interval(float(aurc), *ends(of_draws[1], level)),
                [Interval(float(risk), *ends(drawn, level)) for risk, drawn in zip(risks, of_draws[2].T)],
            )
    return found


def _mean_over_runs(pairs: Sequence[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> list[np.ndarray]:
    return [np.mean(part, axis=0) for part in zip(*(risk_coverage(*of_run, weights) for of_run in pairs))]


def _errors(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    return np.array([row["relation"] != row["predicted"] for row in rows], dtype=bool)


def _from_zero(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(values), 1)), values], axis=1)
