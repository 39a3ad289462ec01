"""Strict triples and their parts: two posts worked by hand, directions, the curve, and what is saved."""

import numpy as np
import pytest

from vmhan.scoring.bootstrap import bootstrap_ratio
from vmhan.scoring.facts import (
    count_facts,
    fact_curve,
    fact_scores,
    intervals,
    post_facts,
    read_facts,
    thinned,
    write_facts,
)


ANN, BOB, OSLO, ROME = (0, 1), (2, 3), (4, 5), (6, 7)
LABELS = ["home", "None", "peer", "home (inverse)"]
NAMES = {"none_label": "None", "symmetric": {"peer"}}


def pair(head, tail, relation):
    return {"head": head, "tail": tail, "relation": relation}


def fact(head, tail, relation, score):
    return {"head_span": head, "tail_span": tail, "relation": relation, "score": score}


@pytest.fixture
def posts():
    """In the first all mentions are found: a right fact, one whose direction is wrong, one on a pair without relation.
    The second has no fact; one of its two mentions is found, and one that it does not have.
    """
    annotated = [pair(ANN, BOB, "peer"), pair(ANN, list(OSLO), "home (inverse)"), pair(BOB, OSLO, "None")]
    facts = [fact(BOB, ANN, "peer", 0.9), fact(ANN, OSLO, "home", 0.8), fact([*BOB], [*OSLO], "home", 0.3)]
    facts += [fact(ANN, BOB, "peer", 0.2), fact(OSLO, BOB, "None", 0.99), fact(OSLO, BOB, None, 0.4)]
    return [
        post_facts("a", annotated, [ANN, [*BOB], OSLO], facts, **NAMES),
        post_facts("b", [pair(ANN, OSLO, "None")], [ANN], [fact(ANN, ROME, "home", 0.5)], **NAMES),
    ]


def test_the_scores_are_those_worked_by_hand(posts):
    assert fact_scores(count_facts(posts)) == pytest.approx(
        {
            "precision": 1 / 4,
            "recall": 1 / 2,
            "f1": 2 / (4 + 2),
            "mention_precision": 4 / 5,
            "mention_recall": 4 / 5,
            "mention_f1": 4 / 5,
            "pairs_found": 1.0,
            "relation_precision": 1 / 3,
            "relation_recall": 1 / 2,
            "relation_f1": 2 / (3 + 2),
            "none_share": 1 / 2,
            "none_share_of_found": 1.0,
        }
    )


def test_facts_below_the_least_score_do_not_count(posts):
    scores = fact_scores(count_facts(posts, 0.5))
    assert (scores["precision"], scores["recall"], scores["none_share"]) == pytest.approx((1 / 3, 1 / 2, 0.0))


@pytest.mark.parametrize(
    "label,head,tail,relation,right",
    [
        ("home", ANN, OSLO, "home", True),
        ("home", OSLO, ANN, "home", False),
        ("home (inverse)", ANN, OSLO, "home", False),
        ("home (inverse)", ANN, OSLO, "home (inverse)", True),
        ("home (inverse)", OSLO, ANN, "home", True),
        ("peer", ANN, OSLO, "peer", True),
        ("peer", OSLO, ANN, "peer", True),
        ("home", ANN, OSLO, "peer", False),
        ("home", ANN, (4, 6), "home", False),
        ("None", ANN, OSLO, "home", False),
    ],
)
def test_a_fact_is_right_with_both_mentions_direction_and_relation(label, head, tail, relation, right):
    one = post_facts("p", [pair(ANN, OSLO, label)], [], [fact(head, tail, relation, 1.0)], **NAMES)
    assert count_facts([one])["correct"].sum() == right


def test_pairs_with_an_object_as_tail_and_posts_without_facts_count_nothing():
    one = post_facts("p", [pair(ANN, None, "home"), pair(ANN, [], "None")], [], [], **NAMES)
    assert not any(of.sum() for of in count_facts([one]).values())
    assert fact_curve([one]) == [] and set(fact_scores(count_facts([one])).values()) == {0.0}


def test_a_pair_that_has_a_relation_is_no_pair_without():
    one = post_facts("p", [pair(ANN, BOB, "peer"), pair(BOB, ANN, "None")], [], [], **NAMES)
    assert one.gold.none_pairs == set()


def test_the_curve_has_a_point_for_each_score(posts):
    assert [tuple(point) for point in fact_curve(posts)] == [
        pytest.approx(point)
        for point in [
            (0.9, 1, 1 / 2, 0, 0),
            (0.8, 1 / 2, 1 / 2, 0, 0),
            (0.5, 1 / 3, 1 / 2, 0, 0),
            (0.3, 1 / 4, 1 / 2, 1 / 2, 1),
        ]
    ]


def test_the_curve_is_what_counting_at_its_scores_gives():
    generator = np.random.default_rng(0)
    posts = []
    for i in range(30):
        spans = [(2 * j, 2 * j + 1) for j in range(4)]
        pairs = [(a, b) for j, a in enumerate(spans) for b in spans[j + 1 :]]
        annotated = [pair(*of, str(generator.choice(LABELS))) for of in pairs if generator.random() < 0.7]
        facts = [fact(*of, "home", round(generator.random(), 1)) for of in pairs if generator.random() < 0.7]
        posts.append(post_facts(str(i), annotated, [], facts, **NAMES))
    points = fact_curve(posts)
    assert len(points) > 5 and thinned(points, 3) == [points[0], points[(len(points) - 1) // 2], points[-1]]
    for point in points:
        scores = fact_scores(count_facts(posts, point.score))
        expected = [point.score, *(scores[name] for name in point._fields[1:])]
        assert list(point) == pytest.approx(expected)


def test_intervals_are_the_bootstrap_over_posts(posts):
    counts = [count_facts(posts), count_facts(posts, 0.5)]
    found = intervals(counts, resamples=50)
    pairs = np.stack([np.stack([2 * of["correct"], of["facts"] + of["gold"]], axis=-1) for of in counts]).astype(float)
    assert found["f1"] == bootstrap_ratio(pairs, resamples=50)
    assert found["f1"].value == pytest.approx((2 / 6 + 2 / 5) / 2)


def test_what_is_saved_is_read_again(posts, tmp_path):
    path = tmp_path / "answers" / "0.jsonl"
    write_facts(path, posts)
    assert read_facts(path) == posts


@pytest.mark.parametrize("text,said", [("", "line"), ("{}\n", "line 1"), ('{"id": "a"}\n', "gold"), ("[1", "line 1")])
def test_other_files_are_named_with_their_line(text, said, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{path.name}.*{said}"):
        read_facts(path)
