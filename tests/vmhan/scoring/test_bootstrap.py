"""Bootstrap intervals and the paired test: against a loop over drawn pairs, and by how often they are right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhan.scoring.bootstrap import bootstrap_f1, paired_test
from vmhan.scoring.predictions import Predictions


LABELS = ["a", "None", "b"]  # the none label is not id 0

# sentences of one to three pairs of (gold, predicted of a run, predicted of another)
sentences = st.lists(
    st.lists(st.tuples(*[st.sampled_from(LABELS)] * 3), min_size=1, max_size=3), min_size=1, max_size=6
)


def predictions(sentences, column=1, name="run"):
    """Predictions of nested (gold, predicted, ...) tuples, one inner list a sentence."""
    rows = [
        {"split": "test", "id": f"s{i:05}", "pair": j, "relation": pair[0], "predicted": pair[column]}
        for i, sentence in enumerate(sentences)
        for j, pair in enumerate(sentence)
    ]
    return Predictions(rows, LABELS, "None", Path(name))


def simulate(generator, num_sentences, *, right=(0.6, 0.6)):
    """Sentences of 1 to 4 pairs and two runs; a sentence is hard or easy for both: its pairs are not independent."""
    shape = (num_sentences, 4)
    names = np.array(LABELS)
    gold = generator.integers(3, size=shape)
    shift = generator.choice([-0.3, 0.3], size=(num_sentences, 1))
    runs = [np.where(generator.random(shape) < p + shift, gold, generator.integers(3, size=shape)) for p in right]
    columns = np.stack([names[column] for column in (gold, *runs)], axis=-1).tolist()  # (sentences, 4, 3)
    lengths = generator.integers(1, 5, size=num_sentences)
    return [sentence[:length] for sentence, length in zip(columns, lengths, strict=True)]


def f1_of(pairs):
    right = sum(gold == predicted != "None" for gold, predicted, *_ in pairs)
    denominator = sum((gold != "None") + (predicted != "None") for gold, predicted, *_ in pairs)
    return 2 * right / denominator if denominator else 0.0


def naive_draws(sentences, runs, resamples, seed):
    """(resamples, len(runs)) F1s: sentences drawn as often as the multinomial says, their pairs laid side by side."""
    generator, count = np.random.default_rng(seed), len(sentences)
    f1s = []
    for _ in range(resamples):
        times = generator.multinomial(count, np.full(count, 1 / count))
        drawn = [pair for sentence, n in zip(sentences, times, strict=True) for pair in sentence * n]
        f1s.append([f1_of([(pair[0], pair[column]) for pair in drawn]) for column in runs])
    return np.array(f1s)


@settings(max_examples=20)
@given(sentences, st.integers(0, 3))
def test_interval_equals_a_loop_over_pairs(sentences, seed):
    interval = bootstrap_f1(predictions(sentences), resamples=25, seed=seed, level=0.8)
    draws = naive_draws(sentences, [1], 25, seed)[:, 0]
    assert interval.value == pytest.approx(f1_of([pair for sentence in sentences for pair in sentence]), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, [0.1, 0.9])), abs=1e-12)


@settings(max_examples=20)
@given(sentences, st.integers(0, 3))
def test_paired_test_equals_a_loop_over_pairs(sentences, seed):
    result = paired_test(predictions(sentences, 1), predictions(sentences, 2), resamples=25, seed=seed)
    draws = naive_draws(sentences, [1, 2], 25, seed)
    differences = draws[:, 0] - draws[:, 1]
    pairs = [pair for sentence in sentences for pair in sentence]
    difference = f1_of([(p[0], p[1]) for p in pairs]) - f1_of([(p[0], p[2]) for p in pairs])
    as_far = sum(abs(d - difference) >= abs(difference) - 1e-9 for d in differences)
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12)
    assert result.p_value == pytest.approx(max((1 + as_far) / 26, 2 ** (1 - len(sentences))))


def test_seeds_are_averaged_within_each_resample():
    made = simulate(np.random.default_rng(0), 12)
    seeds = [predictions(made, 1), predictions(made, 2)]
    draws = naive_draws(made, [1, 2], 60, 0).mean(axis=1)
    interval = bootstrap_f1(seeds, resamples=60)
    assert interval.value == pytest.approx(np.mean([bootstrap_f1(run).value for run in seeds]))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))
    against_one = paired_test(seeds, [seeds[0]], resamples=60)  # lists of different length
    assert against_one.difference == pytest.approx(interval.value - bootstrap_f1(seeds[0]).value)
    assert paired_test([seeds[0]] * 3, seeds[0]) == pytest.approx((0, 0, 0, 1))
    assert paired_test(seeds, seeds[::-1]).p_value == 1.0  # whatever the order of summation rounds to


def test_the_seed_decides_and_the_order_of_rows_does_not():
    made = simulate(np.random.default_rng(2), 20)
    run, other = predictions(made, 1), predictions(made, 2)
    shuffled = replace(run, rows=run.rows[::-1])
    assert bootstrap_f1(run) == bootstrap_f1(shuffled) != bootstrap_f1(run, seed=1)
    assert paired_test(run, other) == paired_test(shuffled, other) != paired_test(run, other, seed=1)


@pytest.mark.parametrize(("sentences", "least"), [(1, 1.0), (2, 0.5), (5, 1 / 16), (40, 1 / 100)])
def test_few_sentences_tell_no_difference(sentences, least):
    made = [[("a", "a", "b"), ("b", "b", "None")] for _ in range(sentences)]
    assert paired_test(predictions(made, 1), predictions(made, 2), resamples=99).p_value == least


def test_p_is_never_zero_and_nothing_claimed_scores_zero():
    made = [[("a", "a", "b"), ("b", "b", "None")] for _ in range(40)]
    result = paired_test(predictions(made, 1), predictions(made, 2), resamples=99)
    assert result.difference == 1.0 and result.p_value == 1 / 100
    assert bootstrap_f1(predictions([[("None", "None")], [("a", "None")]])) == (0.0, 0.0, 0.0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(5)
    truth = bootstrap_f1(predictions(simulate(generator, 10_000)), resamples=1).value
    intervals = [bootstrap_f1(predictions(simulate(generator, 60)), resamples=100) for _ in range(150)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.88 <= covered <= 0.99  # 0.95 with a deviation of 0.018 over 150 data sets, and a little short for so few


def test_sentences_are_drawn_whole():
    """Pairs of a sentence that are all alike count once: the interval does not know how many there are."""
    generator = np.random.default_rng(6)
    short = [[("a", str(generator.choice(["a", "b"])))] for _ in range(30)]
    long = [sentence * 9 for sentence in short]
    assert bootstrap_f1(predictions(long)) == pytest.approx(bootstrap_f1(predictions(short)))


def test_p_is_small_by_chance_as_often_as_it_says_and_small_for_a_true_difference():
    generator = np.random.default_rng(7)

    def p_value(right):
        made = simulate(generator, 60, right=right)
        return paired_test(predictions(made, 1), predictions(made, 2), resamples=100).p_value

    equal = np.array([p_value((0.6, 0.6)) for _ in range(150)])
    assert 0.01 <= np.mean(equal <= 0.05) <= 0.10
    assert 0.3 <= np.mean(equal <= 0.5) <= 0.7
    assert np.mean([p_value((0.7, 0.4)) <= 0.05 for _ in range(20)]) >= 0.7


def with_words(sentences, head="Al", tail="Oslo"):
    run = predictions(sentences)
    return replace(run, rows=[row | {"head": head, "tail": tail} for row in run.rows])


MADE = [[("a", "a"), ("None", "b")], [("b", "None")]]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (predictions(MADE[:1]), r"\('test', 's00001', 0\) and the end"),
        (predictions([MADE[0], MADE[1] * 2]), r"the end and \('test', 's00001', 1\)"),
        (predictions([MADE[0], [("a", "None")]]), r"'b' and 'a' for .*'s00001', 0\)"),
        (replace(predictions(MADE), none_label="a"), r"none label, received 'None' and 'a'"),
        (with_words(MADE, head="Bo"), r"heads, received 'Al' and 'Bo' for .*'s00000', 0\)"),
        (with_words(MADE, tail="Lima"), r"tails, received 'Oslo' and 'Lima' for .*'s00000', 0\)"),
    ],
)
def test_runs_on_other_data_are_refused_by_their_first_difference(other, message):
    with pytest.raises(ValueError, match=message):
        paired_test(with_words(MADE), other)


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (predictions(MADE), {"resamples": 0}, "resamples: .*received 0"),
        (predictions(MADE), {"level": 1.0}, "level: .*received 1.0"),
        ([], {}, "runs: "),
        ([predictions(MADE), predictions([])], {}, "runs: "),
    ],
)
def test_wrong_arguments_are_refused(runs, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_f1(runs, **options)
