"""The table of precision: worked by hand, monotone, short, and none where it would be a guess."""

import numpy as np
import pytest

from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.precision import least_score, read_precision_tables
from vmhan.scoring import precision
from vmhan.scoring.precision import draw_precision, pairs_table, precision_table


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(precision, "LEAST_ANSWERS", 1)
    monkeypatch.setattr(precision, "LEAST_POSITIVES", 1)


def near(*rows):
    return [pytest.approx(row, abs=1e-6) for row in rows]


def test_the_table_is_that_worked_by_hand(small):
    rows = precision_table([0.2, 0.9, 0.4, 0.6], [False, True, True, False], 4)
    # of at least 0.9, 0.6, 0.4 and 0.2: 1/1, 1/2, 2/3, 2/4 are right, and the middle two, whose precision falls with
    # the score, are one: (2 * 1/2 + 3 * 2/3) / 5
    assert rows == near([0.2, 0.5, 0.5], [0.4, 0.6, 0.5], [0.6, 0.6, 0.25], [0.9, 1, 0.25])


def test_answers_with_one_score_are_one_row(small):
    assert precision_table([0.5, 0.5, 0.5], [True, False, True], 2) == [[0.5, pytest.approx(2 / 3, abs=1e-6), 1.0]]


def test_many_answers_make_fifty_rows_that_the_config_takes():
    generator = np.random.default_rng(0)
    scores = generator.random(1000)
    correct = generator.random(1000) < scores
    rows = precision_table(scores, correct, 700)
    assert len(rows) == 50 and read_precision_tables({"pairs": rows}) == {"pairs": rows}
    values = np.array(rows)
    assert (np.diff(values[:, 1]) >= 0).all() and (np.diff(values[:, 2]) <= 0).all()
    for score, of, recall in rows:
        assert of == pytest.approx(correct[scores >= score - 1e-6].mean(), abs=0.05)
        assert recall == pytest.approx(correct[scores >= score - 1e-6].sum() / 700, abs=1e-6)
    assert (scores >= rows[-1][0] - 1e-6).sum() == precision.LEAST_ANSWERS


@pytest.mark.parametrize("count,positives", [(50, 29), (9, 100), (0, 100)])
def test_there_is_none_of_few_facts_or_answers(count, positives):
    assert precision_table([0.5] * count, [True] * count, positives) is None
    assert precision_table([0.5] * 10, [True] * 10, 30) is not None


def test_scores_and_correct_fit():
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        precision_table([0.5, 0.4], [True], 1)


def test_of_pairs_those_with_a_relation_are_answers(small):
    logits = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3], [0.2, 0.7, 0.1]])
    rows = pairs_table(logits, [1, 1, 0, 2], DecisionRule())  # 0.8 right, 0.7 another relation, 0.6 none; 3 positives
    assert rows == near([0.7, 1 / 2, 1 / 3], [0.8, 1, 1 / 3])
    (score, *_) = pairs_table(logits, [1, 1, 0, 2], DecisionRule(temperature=2.0))[-1]
    assert score == pytest.approx(0.8**0.5 / (0.8**0.5 + 2 * 0.1**0.5), abs=1e-6)
    rows = pairs_table(logits, [1, 1, 0, 2], DecisionRule(none_bias=9.0))
    assert rows is None  # with the bias no pair has a relation
    rows = pairs_table(logits, [1, 1, 0, 2], DecisionRule(none_bias=-9.0))
    assert rows[0][2] == pytest.approx(2 / 3)  # and here every pair, two of them right


ROWS = [[0.2, 0.5, 0.9], [0.4, 0.6, 0.8], [0.6, 0.6, 0.7], [0.9, 0.8, 0.3]]


@pytest.mark.parametrize("asked,score", [(0.0, 0.2), (0.5, 0.2), (0.55, 0.4), (0.6, 0.4), (0.61, 0.9), (0.8, 0.9)])
def test_the_least_score_of_a_precision(asked, score):
    assert least_score(ROWS, asked) == score


def test_a_precision_that_was_not_reached_is_refused_with_the_best_one():
    with pytest.raises(ValueError, match=r"min_precision=0.95.*0\.800.*0\.900.*0\.300"):
        least_score(ROWS, 0.95)


@pytest.mark.parametrize("table", [None, []])
def test_without_a_table_no_precision_can_be_asked_for(table):
    with pytest.raises(ValueError, match="min_precision=0.5.*precision_table.*min_score"):
        least_score(table, 0.5)


@pytest.mark.parametrize(
    "value,shown",
    [
        ([], r"\[\]"),
        ({"triples": ROWS}, "triples"),
        ({"pairs": 3}, "pairs.*3"),
        ({"pairs": [[0.1, 0.2]]}, r"0\.2"),
        ({"posts": [[0.1, 0.2, 1.2]]}, r"posts.*1\.2"),
        ({"pairs": [[0.1, 0.2, True]]}, "pairs.*True"),
        ({"pairs": [[0.4, 0.5, 0.5], [0.2, 0.5, 0.5]]}, r"lowest.*0\.4"),
    ],
)
def test_a_config_takes_tables_alone(value, shown):
    with pytest.raises(ValueError, match=f"precision_table.*received.*{shown}|precision_table.*{shown}"):
        read_precision_tables(value)


def test_tables_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    draw_precision(tmp_path / "a.png", {"pairs": ROWS, "posts": ROWS})
    assert (tmp_path / "a.png").stat().st_size > 5000
    draw_precision(tmp_path / "b.png", {})
    assert not (tmp_path / "b.png").exists()
