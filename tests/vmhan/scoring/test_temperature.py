"""Temperature scaling finds the likeliest temperature, and says so where there is none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhan.scoring.temperature import MAX_TEMPERATURE, fit_temperature


def negative_log_likelihood(logits, labels, temperature):
    return torch.nn.functional.cross_entropy(logits.double() / temperature, labels).item()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 1.0, 50.0]))
def test_the_fitted_temperature_is_the_likeliest_of_a_fine_grid(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (60,), generator=generator)
    logits = torch.randn(60, 4, generator=generator)
    logits[range(60), labels] += 1.5
    temperature = fit_temperature(logits * scale, labels)
    best = negative_log_likelihood(logits * scale, labels, temperature)
    grid = [temperature * 1.01**step for step in range(-200, 201)]
    grid = [value for value in grid if value <= MAX_TEMPERATURE]
    assert best <= min(negative_log_likelihood(logits * scale, labels, value) for value in grid) + 1e-7


def test_it_finds_the_temperature_that_labels_were_drawn_with():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial((logits / 2.5).softmax(dim=-1), 1, generator=generator).squeeze(1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)


def test_no_gradient_context_is_needed():
    with torch.no_grad():
        assert fit_temperature(torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 0, 1])) > 0


def test_without_a_wrong_answer_it_stays_1(caplog):
    assert fit_temperature(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])) == 1.0
    assert "no wrong answer among 2 pairs" in caplog.text


def test_where_nothing_is_known_probabilities_become_uniform_with_a_warning(caplog):
    assert fit_temperature(torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([1, 0])) == MAX_TEMPERATURE
    assert "2 pairs is 100 or more" in caplog.text


@pytest.mark.parametrize("scale", [1e-40, 1e-10, 1e3, 1e10, 1e18, 1e38, 1e100, 1e200, 1e300])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_whatever_the_size_of_finite_logits_the_temperature_is_positive_and_at_most_its_bound(scale, count):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, 4, generator=generator, dtype=torch.float64) * scale
    assert 0 < fit_temperature(logits, torch.randint(4, (count,), generator=generator)) <= MAX_TEMPERATURE


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_an_error(value):
    with pytest.raises(ValueError, match="logits must be finite.* 1 of 2 pairs"):
        fit_temperature(torch.tensor([[value, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))


@pytest.mark.parametrize("shapes", [((0, 3), (0,)), ((2, 3), (3,)), ((6,), (6,))])
def test_what_cannot_be_fitted_is_an_error(shapes):
    logits, labels = torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.long)
    with pytest.raises(ValueError, match=r"logits must be \(n, R\) and labels \(n,\).*received"):
        fit_temperature(logits, labels)
