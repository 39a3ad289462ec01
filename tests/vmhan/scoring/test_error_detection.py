"""AUROC of errors, risk-coverage curve and its area: by hand, against scikit-learn, and over sentences."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from vmhan.scoring.error_detection import (
    COVERAGES,
    bootstrap_error_detection,
    error_aurocs,
    risk_coverage,
    uncertainties,
)
from vmhan.scoring.predictions import UNCERTAINTIES, Predictions


ONCE = np.ones((1, 5))


@pytest.mark.parametrize(
    ("errors", "uncertainty", "auroc", "risks"),
    [  # the risk with 1, 2, ..., 5 pairs answered, the surest first
        ([0, 0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5], 5 / 6, [0, 0, 1 / 3, 1 / 4, 2 / 5]),
        ([1, 0, 1, 0, 0], [0.5, 0.4, 0.3, 0.2, 0.1], 5 / 6, [0, 0, 1 / 3, 1 / 4, 2 / 5]),  # the order means nothing
        ([0, 0, 0, 1, 1], [1, 2, 3, 4, 5], 1.0, [0, 0, 0, 1 / 4, 2 / 5]),
        ([1, 1, 0, 0, 0], [1, 2, 3, 4, 5], 0.0, [1, 1, 2 / 3, 2 / 4, 2 / 5]),
        ([0, 0, 1, 0, 1], [7, 7, 7, 7, 7], 0.5, [2 / 5] * 5),  # in a random order
        ([0, 1, 0, 0, 1], [1, 1, 2, 3, 4], 3.5 / 6, [1 / 2, 1 / 2, 1 / 3, 1 / 4, 2 / 5]),
    ],
)
def test_five_pairs_by_hand(errors, uncertainty, auroc, risks):
    measured = risk_coverage(np.array(errors, dtype=bool), np.array(uncertainty, dtype=float), ONCE)
    assert measured[0] == pytest.approx([auroc])
    assert measured[1] == pytest.approx([np.mean(risks)])
    assert measured[2][0][np.isclose(COVERAGES * 5 % 1, 0)] == pytest.approx(risks)


@pytest.mark.parametrize("levels", [3, 10_000])  # with and without equal values
def test_resamples_are_what_scikit_learn_and_a_walk_say_of_the_repeated_pairs(levels):
    generator = np.random.default_rng(0)
    errors, uncertainty = generator.random(40) < 0.4, generator.integers(0, levels, 40).astype(float)
    weights = generator.multinomial(40, np.full(40, 1 / 40), size=6)
    auroc, aurc, risks = risk_coverage(errors, uncertainty, weights)
    for row, of_row in enumerate(weights):
        drawn = np.repeat(np.arange(40), of_row)
        assert auroc[row] == pytest.approx(roc_auc_score(errors[drawn], uncertainty[drawn]))
        walks = []
        for _ in range(2000 if levels == 3 else 1):
            order = generator.permutation(drawn)
            order = order[np.argsort(uncertainty[order], kind="stable")]
            walks.append(np.mean(np.cumsum(errors[order]) / np.arange(1, 41)))
        assert aurc[row] == pytest.approx(np.mean(walks), abs=0.005 if levels == 3 else 1e-9)
        assert risks[row][-1] == pytest.approx(errors[drawn].mean())


def rows_of(*answers, **columns):
    """Rows of (gold, predicted, probability of what is predicted), a post each."""
    return [
        {"split": "test", "id": str(i), "pair": 0, "relation": gold, "predicted": best, "probabilities": [p, 1 - p]}
        | {name: values[i] for name, values in columns.items()}
        for i, (gold, best, p) in enumerate(answers)
    ]


ANSWERS = [("a", "a", 0.9), ("b", "a", 0.6), ("a", "a", 0.8), ("a", "a", 1.0)]


def test_uncertainties_of_rows_are_those_that_every_row_has():
    found = uncertainties(rows_of(*ANSWERS))
    assert found["least_confidence"] == pytest.approx([0.1, 0.4, 0.2, 0.0])
    assert found["entropy"] == pytest.approx(
        [-p * np.log(p) - (1 - p) * np.log(1 - p) if p < 1 else 0 for *_, p in ANSWERS]
    )
    assert list(found) == ["least_confidence", "entropy"]
    rows = rows_of(*ANSWERS, **dict.fromkeys(UNCERTAINTIES, [1.0, 2.0, 3.0, 4.0]))
    assert list(uncertainties(rows)) == ["least_confidence", "entropy", *UNCERTAINTIES]
    assert list(uncertainties([*rows, *rows_of(ANSWERS[0])])) == ["least_confidence", "entropy"]


@pytest.mark.parametrize(
    ("answers", "auroc"),
    [(ANSWERS, 1.0), ([("b", "a", 0.9), *ANSWERS[2:]], 0.5), ([("b", "a", 0.9)], None), ([], None)],
)
def test_aurocs_for_metrics(answers, auroc):
    names = ("error_auroc_least_confidence", "error_auroc_entropy")
    assert error_aurocs(rows_of(*answers)) == ({} if auroc is None else dict.fromkeys(names, auroc))


def test_intervals_are_over_sentences_and_means_over_runs():
    generator = np.random.default_rng(0)
    answers = [("b" if generator.random() < 1 - p else "a", "a", p) for p in generator.uniform(0.5, 1, 300)]
    one, other = (
        Predictions(rows_of(*answers, summed_variance=values), ["a", "b"], "b", Path("x"))
        for values in generator.random((2, 300))
    )
    both = bootstrap_error_detection([one, other], resamples=200)
    first, second = (bootstrap_error_detection([run], resamples=200)["summed_variance"] for run in (one, other))
    assert both["summed_variance"].auroc.value == pytest.approx((first.auroc.value + second.auroc.value) / 2)
    sure, blind = both["least_confidence"], both["summed_variance"]
    assert sure.auroc.low < sure.auroc.value < sure.auroc.high and sure.auroc.low > 0.5
    assert sure.auroc_behind == (0, 0, 0) and 0 < blind.auroc_behind.low < blind.auroc_behind.high
    assert blind.auroc_behind.value == pytest.approx(sure.auroc.value - blind.auroc.value)
    assert sure.aurc.value < blind.aurc.value and blind.auroc.low < 0.5 < blind.auroc.high
    assert [risk.low <= risk.value <= risk.high for risk in sure.risks] == [True] * len(COVERAGES)
    assert sure.auroc.value == pytest.approx(error_aurocs(one.rows)["error_auroc_least_confidence"])
    doubled = [row | {"pair": pair} for row in one.rows for pair in (0, 1)]  # more pairs of the same sentences
    wide = bootstrap_error_detection([Predictions(doubled, ["a", "b"], "b", Path("x"))], resamples=200)
    assert wide["least_confidence"].auroc == pytest.approx(sure.auroc)


def test_without_an_error_there_is_no_auroc():
    run = Predictions(rows_of(*ANSWERS[2:]), ["a", "b"], "b", Path("x"))
    found = bootstrap_error_detection([run], resamples=10)["entropy"]
    assert found.auroc is found.auroc_behind is None and found.aurc.value == 0
