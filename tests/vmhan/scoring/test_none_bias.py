"""The bias of the none label: what it finds on made data, and where it leaves it at 0."""

import numpy as np
import pytest

from modeling_vmhan.decision import UNFITTED, DecisionRule
from vmhan.scoring.none_bias import LEAST_POSITIVES, fit_none_bias
from vmhan.scoring.scorer import score


LABELS = ["a", "None", "b"]
RULE = DecisionRule(none_id=1)


def shifted(shift, pairs=3000, seed=0, noise=0.7):
    """Logits whose none label is too high by `shift`; two pairs a post."""
    generator = np.random.default_rng(seed)
    gold = generator.choice(3, pairs, p=[0.2, 0.6, 0.2])
    logits = noise * generator.normal(size=(pairs, 3))
    logits[np.arange(pairs), gold] += 2.0
    logits[:, 1] += shift
    return logits, gold, np.arange(pairs) // 2


def f1_of(logits, gold, rule):
    best = np.asarray(logits) + rule.none_bias * (np.arange(3) == rule.none_id)
    names = [[LABELS[i] for i in ids] for ids in (gold, best.argmax(axis=1))]
    return score(*names, labels=LABELS)["f1"]


@pytest.mark.parametrize("shift", [-1.5, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_it_undoes_a_shift_and_helps_posts_that_it_has_not_seen(shift, temperature):
    rule = RULE._replace(temperature=temperature)
    found = fit_none_bias(*shifted(shift), rule)
    assert found.value == pytest.approx(-shift, abs=0.5)
    fresh = shifted(shift, seed=1)[:2]
    without, with_it = f1_of(*fresh, rule), f1_of(*fresh, rule._replace(none_bias=found.value))
    assert with_it > without + 0.02
    assert found.f1_without == pytest.approx(f1_of(*shifted(shift)[:2], rule))
    assert found.f1_cross_validated == pytest.approx(with_it, abs=0.02)


def test_a_scale_is_in_the_temperature():
    """Logits three times as large want three times the bias, when their temperature is as large."""
    logits, gold, posts = shifted(1.0)
    plain = fit_none_bias(logits, gold, posts, RULE)
    scaled = fit_none_bias(3 * logits, gold, posts, RULE._replace(temperature=3.0))
    assert scaled.value == pytest.approx(3 * plain.value) and scaled[1:] == pytest.approx(plain[1:])


def test_where_it_does_not_help_unseen_posts_it_stays_0():
    """Of the made data without a shift half find a better F1 in the sample alone."""
    found = [fit_none_bias(*shifted(0.0, pairs=900, seed=seed, noise=2.0), RULE) for seed in range(12)]
    refused = [each for each in found if each.f1_cross_validated <= each.f1_without]
    assert refused and all(each.value == 0 for each in refused)
    assert all(each.value != 0 for each in found if each not in refused)


def test_a_post_has_no_say_in_its_own_answer():
    """With each pair a thousand times in one post, folds of pairs would know the answers; folds of posts do not."""
    generator = np.random.default_rng(0)
    logits, gold, _ = shifted(0.0, pairs=400, noise=3.0)
    copies = [np.repeat(each, 6, axis=0) for each in (logits, gold)]
    posts = np.repeat(generator.permutation(400), 6)
    by_post = fit_none_bias(*copies, posts, RULE)
    by_pair = fit_none_bias(*copies, np.arange(len(posts)), RULE)
    assert by_post.f1_cross_validated < by_pair.f1_cross_validated
    assert by_post.f1_without == pytest.approx(by_pair.f1_without)


@pytest.mark.parametrize(("positives", "fits"), [(LEAST_POSITIVES - 1, False), (LEAST_POSITIVES, True)])
def test_few_positives_leave_it_out_with_a_warning(positives, fits, caplog):
    logits, gold, posts = shifted(1.0)
    kept = np.sort(np.concatenate([np.flatnonzero(gold == 1), np.flatnonzero(gold != 1)[:positives]]))
    found = fit_none_bias(logits[kept], gold[kept], posts[kept], RULE)
    assert (found is not None) is fits
    assert (f"{positives} pairs of validation have a relation, {LEAST_POSITIVES}" in caplog.text) is not fits


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2, 1 and 2"):
        fit_none_bias(np.zeros((2, 3)), [0], [0, 1], UNFITTED)
