"""Which pairs of mentions are asked about, what their types allow, and what of the answers is a fact."""

from itertools import combinations

import numpy as np
import pytest
import torch
from tiny import ALL_MODES, close

from modeling_vmhan import MultimodalRelationClassificationPipeline, facts
from modeling_vmhan.facts import allowed_labels, facts_of, pairs_of_mentions, possible, with_ends
from modeling_vmhan.mentions import Mention


@pytest.mark.parametrize(
    ("mentions", "both", "pairs"),
    [
        ({(0, 3): "Ann", (8, 11): "Bob"}, False, [((0, 3), (8, 11))]),
        ({(8, 11): "Bob", (0, 3): "Ann"}, False, [((0, 3), (8, 11))]),  # in text order
        ({(0, 3): "Ann", (8, 11): "Bob"}, True, [((0, 3), (8, 11)), ((8, 11), (0, 3))]),
        ({(0, 8): "Ann Lee of", (4, 8): "Lee", (9, 12): "Bob"}, False, [((0, 8), (9, 12)), ((4, 8), (9, 12))]),
        ({(0, 3): "Ann", (8, 11): "ANN", (20, 23): "Bob"}, False, [((0, 3), (20, 23)), ((8, 11), (20, 23))]),
        ({(0, 3): "Ann"}, True, []),
        ({}, False, []),
    ],
)
def test_pairs_of_mentions(mentions, both, pairs):
    found = pairs_of_mentions(mentions, both_directions=both)
    assert [(pair["head"], pair["tail"]) for pair in found] == pairs


def test_each_mention_is_compared_by_a_name_made_once(monkeypatch):
    """And not anew in each of the pairs, whose number grows with the square of the mentions."""
    made = []
    monkeypatch.setattr(facts, "folded", lambda words: made.append(words) or words)
    mentions = {(4 * i, 4 * i + 3): "Ann" for i in range(50)}
    assert pairs_of_mentions(mentions, both_directions=True) == [] and len(made) == 50


def test_types_allow_labels():
    labels, constraints = (
        ["None", "born", "peer"],
        {"born": {("per", "loc")}, "peer": {("per", "per"), ("org", "org")}},
    )
    types = [("per", "loc"), ("per", None), (None, "loc"), ("org", "per"), (None, None)]
    allowed = allowed_labels(types, labels, constraints)
    rows = [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert allowed.tolist() == [[bool(value) for value in row] for row in rows]


def test_what_is_impossible_leaves_its_probability_to_the_others():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    allowed = np.array([[True, False, True], [True, False, True]])
    expected = np.array([[0.5 / 0.7, 0.0, 0.2 / 0.7], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(possible(probabilities, allowed), expected, rtol=1e-6)


def answer(head, relation, tail, score, head_span=None, tail_span=None):
    spans = {name: span or (ord(word[0]), ord(word[0]) + 1) for name, word, span in
             (("head", head, head_span), ("tail", tail, tail_span))}  # fmt: skip
    given = {"head": head, "relation": relation, "tail": tail, "score": score, "uncertainty": {}}
    return with_ends(given, Mention(*spans["head"], "per", 1.0), Mention(*spans["tail"], None, 0.5))


@pytest.mark.parametrize(
    ("answers", "options", "facts"),
    [
        ([answer("a", "born", "x", 0.8), answer("a", "None", "y", 0.9)], {}, [("a", "born", "x", 0.4)]),
        ([answer("a", None, "y", 0.9)], {}, []),  # abstained
        ([answer("a", "born", "x", 0.8)], {"min_score": 0.41}, []),
        ([answer("a", "born", "x", 0.8)], {"min_score": 0.4}, [("a", "born", "x", 0.4)]),
        ([answer("a", "peer", "x", 0.2), answer("b", "peer", "y", 0.6)], {},
         [("b", "peer", "y", 0.3), ("a", "peer", "x", 0.1)]),  # best first
        ([answer("a", "peer", "x", 0.2), answer("x", "peer", "a", 0.6)], {}, [("x", "peer", "a", 0.3)]),
        ([answer("a", "peer", "x", 0.2), answer("A", "peer", "X", 0.6, (9, 10), (20, 21))], {},
         [("A", "peer", "X", 0.3)]),  # the same words elsewhere
        ([answer("a", "born", "x", 0.8), answer("a", "born", "y", 0.6)], {"functional": ["born"]},
         [("a", "born", "x", 0.4)]),
        ([answer("a", "born", "x", 0.8), answer("a", "born", "y", 0.6)], {},
         [("a", "born", "x", 0.4), ("a", "born", "y", 0.3)]),
        ([answer("a", "born", "x", 0.8), answer("b", "born", "y", 0.6)], {"functional": ["born"]},
         [("a", "born", "x", 0.4), ("b", "born", "y", 0.3)]),
        ([], {}, []),
    ],
)  # fmt: skip
def test_facts(answers, options, facts):
    found = facts_of(answers, **{"none_label": "None", "functional": [], "min_score": 0.0, **options})
    assert [(fact["head"], fact["relation"], fact["tail"], pytest.approx(fact["score"])) for fact in found] == facts
    assert all((fact["head_type"], fact["tail_type"]) == ("per", None) for fact in found)


LABELS = ["None", "/per/loc/born", "/per/per/peer", "/per/loc/born (inverse)"]


@pytest.fixture
def make_pipe(make_model, make_processor):
    """A pipeline that sees the relation `label` between all mentions."""

    def make(label, max_length=128, **fields):
        fields = {"id2label": dict(enumerate(LABELS)), "visual_feature_size": 0, **fields}
        model = make_model(**{"entity_representation": "packed", **fields})
        with torch.no_grad():
            model.classifier.bias[LABELS.index(label)] += 20.0
        processor = make_processor(model.config, max_length=max_length)
        return MultimodalRelationClassificationPipeline(model, processor, device="cpu")

    return make


TEXT = "ann met bob in paris"


def said(facts):
    return {(fact["head"], fact["relation"], fact["tail"]) for fact in facts}


def test_all_pairs_of_given_mentions(make_pipe):
    pipe = make_pipe("/per/per/peer", order_blind=True)
    facts = pipe({"text": TEXT, "mentions": ["bob", (0, 3)]})
    assert said(facts) == {("ann", "/per/per/peer", "bob")}
    assert (facts[0]["head_span"], facts[0]["tail_span"]) == ((0, 3), (8, 11))
    tokens = pipe({"tokens": TEXT.split(), "mentions": ["bob", (0, 1)]})
    assert (tokens[0]["head_span"], tokens[0]["tail_span"]) == ((0, 1), (2, 3))
    assert tokens[0]["score"] == pytest.approx(facts[0]["score"])
    given = pipe({"text": TEXT, "head": "ann", "tail": "bob"})
    assert given["score"] == pytest.approx(facts[0]["score"], abs=1e-6)


def test_a_fact_stands_in_the_direction_of_its_relation(make_pipe):
    (fact,) = make_pipe("/per/loc/born (inverse)", order_blind=True)({"text": TEXT, "mentions": ["ann", "paris"]})
    assert (fact["head"], fact["relation"], fact["tail"]) == ("paris", "/per/loc/born", "ann")
    assert (fact["head_span"], fact["tail_span"]) == ((15, 20), (0, 3))


def test_both_directions_are_asked_where_the_order_tells_something(make_pipe):
    pipe = make_pipe("/per/per/peer")
    question = {"text": TEXT, "mentions": ["ann", "bob"]}
    assert len(pipe(question, all_pairs=True)) == 2
    assert len(pipe(question)) == 1


def typed(text):
    """A finder as a user writes one."""
    kinds = {"ann": "per", "bob": "per", "paris": "loc"}
    return [Mention(text.index(word), text.index(word) + len(word), kind, 0.5) for word, kind in kinds.items()]


@pytest.mark.parametrize(
    ("label", "constraints", "facts"),
    [
        ("/per/per/peer", True, {("ann", "/per/per/peer", "bob")}),
        ("/per/per/peer", None, {(a, "/per/per/peer", b) for a, b in combinations(["ann", "bob", "paris"], 2)}),
        ("/per/per/peer", False, {(a, "/per/per/peer", b) for a, b in combinations(["ann", "bob", "paris"], 2)}),
        ("/per/per/peer", {"/per/per/peer": [["per", "loc"]]},
         {("ann", "/per/per/peer", "paris"), ("bob", "/per/per/peer", "paris")}),
        ("/per/loc/born", True, {("ann", "/per/loc/born", "paris"), ("bob", "/per/loc/born", "paris")}),
        ("/per/loc/born (inverse)", True, set()),
    ],
)  # fmt: skip
def test_type_constraints(label, constraints, facts, make_pipe):
    options = {} if constraints is None else {"type_constraints": constraints}  # by default a finder's types bind not
    found = make_pipe(label, order_blind=True)(TEXT, mentions=typed, **options)
    assert said(fact for fact in found if fact["score"] > 0.2) == facts  # a fourth for two mentions of 0.5 each


def test_types_that_the_model_found_itself_bind_by_default(make_pipe):
    pipe = make_pipe("/per/per/peer", order_blind=True, mentions=True)
    with torch.no_grad():
        pipe.model.mention_head.output.bias[1] += 100.0  # each word is a mention
        pipe.model.mention_head.output.bias[3 + pipe.model.config.mention_types.index("loc")] += 100.0  # and a place
    assert said(pipe("ann bob")) == set()
    assert said(pipe("ann bob", type_constraints=False)) == {("ann", "/per/per/peer", "bob")}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"min_score": 2}, "min_score .*received int: 2"),
        ({"type_constraints": {"/per/per/peers": []}}, "type_constraints .*received .*peers"),
        ({"type_constraints": 3}, "type_constraints .*received int: 3"),
        ({"mentions": 3}, "mentions .*received int: 3"),
    ],
)
def test_wrong_options(options, match, make_pipe):
    with pytest.raises(ValueError, match=match):
        make_pipe("/per/per/peer", order_blind=True)(TEXT, **options)


@pytest.mark.parametrize("mode", ["marker", "packed"])
def test_the_mentions_of_a_post_can_be_asked_for(mode, make_model, make_processor):
    """Those that are given with it or found in it; one alone has no fact."""
    text, finds = "Ann met Bob in Paris", mode == "packed"
    model = make_model(entity_representation=mode, mentions=finds)
    pipe = MultimodalRelationClassificationPipeline(model, make_processor(model.config), device="cpu")
    given = {"text": text, "mentions": ["Paris", (0, 3)]}
    assert [mention[:2] for mention in pipe.find_mentions(given)] == [(0, 3), (15, 20)]
    tokens = {"tokens": text.split(), "mentions": ["Paris"]}
    assert [mention[:2] for mention in pipe.find_mentions(tokens)] == [(4, 5)] and pipe(tokens) == []
    if finds:
        facts, found = pipe(text, all_pairs=True), pipe.find_mentions(text)
        places = {fact[f"{role}_span"] for fact in facts for role in ("head", "tail")}
        assert places == {mention[:2] for mention in found} and len(found) > 1
    with pytest.raises(ValueError, match="find_mentions"):
        pipe.find_mentions({"text": text, "head": "Ann", "tail": "Bob"})


@pytest.mark.parametrize(
    ("found", "received"),
    [
        (None, "None"),
        ([{"start": 0, "end": 3}], "'start'"),
        ([3], "3"),
        ([(0,)], r"\(0,\)"),
        ([Mention(0, 99)], "start=0, end=99"),
        ([Mention(3, 3)], "start=3, end=3"),
        ([Mention(0.0, 3.0)], "start=0.0"),
        ([Mention(0, 3, 7)], "type=7"),
        ([Mention(0, 3, None, 1.5)], "score=1.5"),
        ([Mention(0, 3, None, float("nan"))], "score=nan"),
    ],
)
def test_what_a_finder_must_return(found, received, make_pipe):
    with pytest.raises(ValueError, match=f"the function mentions .*of 11.*{received}"):
        make_pipe("None")("ann met bob", mentions=lambda text: found)


def test_what_a_finder_may_return(make_pipe):
    """A Mention of any copy of this package, which is a tuple, in any iterable."""
    facts = make_pipe("None")("ann met bob", mentions=lambda text: iter([(0, 3), (8, 11, "per", 0.5)]), all_pairs=True)
    assert [(fact["head_span"], fact["tail_span"]) for fact in facts] == [((0, 3), (8, 11)), ((8, 11), (0, 3))]


@pytest.mark.parametrize("options", [{"all_pairs": True}, {}])
def test_a_fact_abstains_by_its_own_score(make_pipe, options):
    """The probability of its relation, nearly 1 here, times those of its mentions."""
    pipe = make_pipe("/per/per/peer", order_blind=True)
    finder = lambda text: [(0, 3, "per", 0.6), (8, 11, "per", 0.6)]  # noqa: E731
    (fact,) = pipe("ann met bob", mentions=finder, abstain_below=0.3, **options)
    assert fact["score"] == pytest.approx(0.36, abs=0.01) and fact["relation"] and not fact["abstained"]
    assert fact["uncertainty"]["least_confidence"] == pytest.approx(1 - fact["score"])
    found = pipe("ann met bob", mentions=finder, abstain_below=0.4, **options)
    assert [(of["relation"], of["abstained"]) for of in found] == [(None, True)] * len(options)


def test_options_of_the_pipeline_count_where_mentions_are_asked_for(make_pipe):
    own = make_pipe("None")
    finder = lambda text: [(8, 11)]  # noqa: E731
    pipe = MultimodalRelationClassificationPipeline(own.model, own.processor, device="cpu", mentions=finder)
    assert [mention[:2] for mention in pipe.find_mentions("ann met bob")] == [(8, 11)]
    assert [mention[:2] for mention in pipe.find_mentions("ann met bob", mentions=lambda text: [(0, 3)])] == [(0, 3)]
    with pytest.raises(ValueError, match="mentions must be .*received int: 3"):
        pipe.find_mentions("ann met bob", mentions=3)


def test_types_constrain_no_pair_that_was_named(make_pipe):
    """Whatever else is in the batch."""
    asking = make_pipe("None")
    posts = [
        {"text": "ann met bob", "head": "ann", "tail": "bob"},
        {"text": "ann met bob", "mentions": ["ann", "bob"]},
    ]
    options = {"type_constraints": {label: [] for label in LABELS if label != "None"}, "top_k": None}
    (named, facts), alone = asking(posts, batch_size=2, **options), asking(posts[0], **options)
    assert facts == []
    close(*(torch.tensor([each["score"] for each in answer["top_k"]]) for answer in (named, alone)))
    assert all(each["score"] > 0 for each in named["top_k"])


@ALL_MODES
def test_mentions_that_no_row_holds_together_are_no_pair(mode, make_pipe):
    """A long post has facts of mentions that are near to each other; the pair of those at its ends is left out."""
    pipe = make_pipe("None", entity_representation=mode, max_length=16)
    text = "ann met bob " + "the red car " * 12 + "paris"
    facts = pipe({"text": text, "mentions": ["ann", "bob", "paris"]}, all_pairs=True)
    assert [(fact["head"], fact["tail"]) for fact in facts] == [("ann", "bob"), ("bob", "ann")]
    with pytest.raises(ValueError, match="max_length"):
        pipe({"text": text, "head": "ann", "tail": "paris"})


@pytest.mark.parametrize("pairs_a_pass", [512, 7])
def test_many_pairs_share_no_row_and_no_pass(pairs_a_pass, make_pipe, monkeypatch):
    """A packed row has at most PAIRS_A_ROW pairs, and the answers are those of one row."""
    post = {"text": "ann met bob in paris", "mentions": ["ann", "met", "bob", "in", "paris"]}
    pipe = make_pipe("None")
    one = pipe(post, all_pairs=True, num_samples=4)
    monkeypatch.setattr("modeling_vmhan.post_encoding.PAIRS_A_ROW", 7)
    monkeypatch.setattr("modeling_vmhan.monte_carlo.PAIRS_AT_ONCE", 3)
    rows = pipe.preprocess(post)["encoded"].rows
    assert [sum(pair > 0 for pair in row["marker_pair"]) for row in rows] == [6 * 4, 7 * 4, 7 * 4]
    monkeypatch.setattr("modeling_vmhan.asking.PAIRS_A_PASS", pairs_a_pass)
    both = [post, {**post, "mentions": ["ann", "bob"]}]
    several, other = pipe(both, batch_size=2, all_pairs=True, num_samples=4)
    assert len(one) == len(several) == 20 and len(other) == 2
    for key in ("score", "none_score"):
        close(*(torch.tensor([fact[key] for fact in facts]) for facts in (one, several)))
    close(*(torch.tensor([fact["uncertainty"]["monte_carlo_score"] for fact in facts]) for facts in (one, several)))
