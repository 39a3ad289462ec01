"""The scorer against numbers worked by hand, against plain counting, and for every input that it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_vmhan.labels import NONE_LABELS, find_none_label
from vmhan.scoring.scorer import confusion, per_relation, score


LABELS = ["/per/per/peer", "/per/org/member_of", "None", "/loc/loc/contain"]  # the none label is not id 0
PEER, MEMBER, NONE, CONTAIN = LABELS

# 8 pairs: 5 right (3 of them relations), 5 gold relations, 6 predicted relations
GOLD = [PEER, PEER, PEER, MEMBER, MEMBER, NONE, NONE, NONE]
PREDICTED = [PEER, PEER, MEMBER, MEMBER, PEER, NONE, NONE, CONTAIN]

pairs_of_labels = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


def test_score_equals_numbers_worked_by_hand():
    result = score(GOLD, PREDICTED, labels=LABELS)
    assert list(result) == ["accuracy", "precision", "recall", "f1", "macro_f1"]
    assert result["accuracy"] == pytest.approx(5 / 8)  # right: 0, 1, 3, 5, 6
    assert result["precision"] == pytest.approx(3 / 6)  # 0, 1, 3 of predicted relations 0, 1, 2, 3, 4, 7
    assert result["recall"] == pytest.approx(3 / 5)  # of gold relations 0, 1, 2, 3, 4
    assert result["f1"] == pytest.approx(2 * 0.5 * 0.6 / (0.5 + 0.6))  # 6/11
    # peer: P 2/3, R 2/3, F1 2/3; member: P 1/2, R 1/2, F1 1/2; contain: predicted once, never gold, F1 0
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_per_relation_equals_numbers_worked_by_hand():
    rows = [tuple(row.values()) for row in per_relation(GOLD, PREDICTED, labels=LABELS)]
    third = pytest.approx(2 / 3)
    assert rows == [(PEER, third, third, third, 3), (MEMBER, 0.5, 0.5, 0.5, 2), (CONTAIN, 0.0, 0.0, 0.0, 0)]
    expected = [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(confusion(GOLD, PREDICTED, labels=LABELS), expected)


@settings(max_examples=60, deadline=None)
@given(pairs_of_labels)
def test_score_equals_plain_counting(pairs):
    gold, predicted = zip(*pairs, strict=True)
    right = sum(g == p != NONE for g, p in pairs)
    claimed, true = (sum(name != NONE for name in names) for names in (predicted, gold))
    expected = {"precision": right / max(claimed, 1), "recall": right / max(true, 1)}
    expected["f1"] = 2 * right / max(claimed + true, 1)
    result = score(gold, predicted, labels=LABELS)
    assert {name: result[name] for name in expected} == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(pairs_of_labels, st.randoms(use_true_random=False))
def test_order_changes_nothing_and_rows_and_matrix_agree_with_the_total(pairs, random):
    shuffled_pairs, shuffled_labels = list(pairs), list(LABELS)
    random.shuffle(shuffled_pairs)
    random.shuffle(shuffled_labels)
    gold, predicted = zip(*pairs, strict=True)
    result, matrix = score(gold, predicted, labels=LABELS), confusion(gold, predicted, labels=LABELS)
    assert score(*zip(*shuffled_pairs, strict=True), labels=shuffled_labels) == pytest.approx(result)
    assert matrix.sum() == len(pairs) and result["accuracy"] == pytest.approx(np.trace(matrix) / len(pairs))
    supports = [row["support"] for row in per_relation(gold, predicted, labels=LABELS)]
    assert supports == [gold.count(name) for name in (PEER, MEMBER, CONTAIN)]


@pytest.mark.parametrize("none_name", NONE_LABELS)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_none_label_is_found_by_name_wherever_it_stands(none_name, position):
    labels = ["a", "b"]
    labels.insert(position, none_name)
    assert find_none_label(labels) == none_name
    assert score(["a", none_name], ["a", none_name], labels=labels)["f1"] == 1.0
    assert score(["a", none_name], ["b", none_name], labels=labels, none_label="a")["recall"] == 1.0


@pytest.mark.parametrize(
    ("labels", "none_label", "message"),
    [
        (["a", "b"], None, r"\['a', 'b'\]"),
        (["a", "None", "Other"], None, r"\['None', 'Other'\]"),
        (["a", "None"], "nil", "none_label .*'nil'"),
        (["None"], None, r"\['None'\]"),
    ],
)
def test_label_sets_without_one_none_label_are_refused(labels, none_label, message):
    with pytest.raises(ValueError, match=message):
        score(labels[:1], labels[:1], labels=labels, none_label=none_label)


@pytest.mark.parametrize("function", [score, confusion])
@pytest.mark.parametrize(
    ("gold", "predicted", "labels", "message"),
    [
        ([], [], LABELS, "0 gold and 0 predicted"),
        ([PEER, PEER], [PEER], LABELS, "2 gold and 1 predicted"),
        ([PEER], ["/per/per/pear"], LABELS, r"predicted: .*\['/per/per/pear'\]"),
        (["none"], [PEER], LABELS, r"gold: .*\['none'\]"),
        ([PEER], [0], LABELS, r"received \[0\].*names, not ids"),
        ([PEER], [PEER], [*LABELS, PEER], r"labels: .*\['/per/per/peer'\]"),
    ],
)
def test_bad_pairs_are_refused(function, gold, predicted, labels, message):
    with pytest.raises(ValueError, match=message):
        function(gold, predicted, labels=labels)
