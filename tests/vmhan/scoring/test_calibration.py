"""Calibration numbers by hand, their limits, and a diagram that is a picture."""

import re

import numpy as np
import pytest
from PIL import Image

from modeling_vmhan.decision import UNFITTED, DecisionRule
from vmhan.scoring.calibration import (
    calibrate,
    calibration_metrics,
    draw_reliability_diagram,
    reliability,
    temperature_of,
)
from vmhan.scoring.temperature import LEAST_PAIRS


def overconfident(pairs=400, seed=0):
    """Logits three times too large for how often they are right."""
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, 6, pairs)
    logits = generator.normal(size=(pairs, 6))
    logits[np.arange(pairs), gold] += 1.5
    return (3 * logits).astype(np.float32), gold


def test_calibration_error_by_hand():
    """Bins of width 1/4: confidences 0.7 and 0.6 share one (1 of 2 right), 0.9 and 1.0 another (2 of 2 right)."""
    probabilities = np.array([[0.7, 0.3], [0.6, 0.4], [0.9, 0.1], [0.0, 1.0]])
    bins = reliability(probabilities, [0, 1, 0, 1], num_bins=4)
    assert bins.count.tolist() == [0, 0, 2, 2]
    assert bins.confidence.tolist() == pytest.approx([0, 0, 0.65, 0.95])
    assert bins.accuracy.tolist() == [0, 0, 0.5, 1.0]
    assert bins.expected_calibration_error == pytest.approx((2 * 0.15 + 2 * 0.05) / 4)
    assert reliability(np.array([[0.5, 0.5]]), [0], num_bins=2).count.tolist() == [1, 0]  # a border belongs below it


def test_likelihood_and_brier_score_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]))
    metrics = calibration_metrics(logits, [0, 1], UNFITTED)
    assert metrics["nll"] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2)
    first, second = 0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.7**2 + 0.6**2
    assert metrics["brier"] == pytest.approx((first + second) / 2)
    assert all(metrics[name] == metrics[f"{name}_before"] for name in ("ece", "nll", "brier"))
    assert np.isfinite(calibration_metrics(np.array([[5000.0, 0.0]]), [1], UNFITTED)["nll"])


def test_calibration_is_fitted_on_validation_and_helps_the_test_split_too():
    splits = {"validation": overconfident(seed=0), "test": overconfident(seed=1)}
    metrics = calibrate(splits, DecisionRule(temperature=temperature_of(*splits["validation"])))
    assert metrics["temperature"] > 1.5
    for split in splits:
        for name in ("ece", "nll", "brier"):
            assert metrics[f"{split}_{name}"] < metrics[f"{split}_{name}_before"]
    unfitted = calibrate({"test": splits["test"]}, UNFITTED)
    assert unfitted["temperature"] == 1.0 and unfitted["test_ece"] == unfitted["test_ece_before"]


@pytest.mark.parametrize(("pairs", "fits"), [(3, False), (LEAST_PAIRS - 1, False), (LEAST_PAIRS, True)])
def test_few_pairs_of_validation_leave_the_temperature_at_1_with_a_warning(caplog, pairs, fits):
    assert (temperature_of(*overconfident(pairs)) != 1.0) is fits
    assert (f"{pairs} pairs of validation are too few, {LEAST_PAIRS} are the least" in caplog.text) is not fits
    own = DecisionRule(temperature=2.0)
    assert calibrate({"validation": overconfident(3)}, own)["temperature"] == 2.0  # a model's own


@pytest.mark.parametrize(
    ("probabilities", "gold"), [(np.zeros((0, 3)), []), (np.ones((2, 1)), [0]), (np.ones(3), [0, 0, 0])]
)
def test_what_cannot_be_binned_is_an_error(probabilities, gold):
    with pytest.raises(ValueError, match=re.escape(str(probabilities.shape))):
        reliability(probabilities, gold)


def test_the_diagram_has_two_panels_a_split_and_replaces_the_last_one(tmp_path):
    path, sizes = tmp_path / "reliability.png", []
    for splits in ({"validation": overconfident()}, {"validation": overconfident(), "test": overconfident(seed=1)}):
        draw_reliability_diagram(path, splits, DecisionRule(temperature=2.0))
        sizes.append(Image.open(path).size)
    assert sizes[1][0] == pytest.approx(2 * sizes[0][0], rel=0.05) and list(tmp_path.iterdir()) == [path]
