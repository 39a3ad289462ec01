"""The order-blind protocol: what is asked about (a, b) and about (b, a) is the same question, and has one answer."""

import copy

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from modeling_vmhan.direction import INVERSE, directed_labels, inverse_of, symmetric_relations, to_text_order


LABELS = directed_labels(["peer", "None", "member_of", "located_in"], symmetric=["peer"])
SPANS = st.tuples(st.integers(0, 7), st.integers(1, 8)).filter(lambda span: span[0] < span[1])
TEXT = "Ann met Bob in Paris with the Zulu band".split()


@pytest.fixture(scope="module")
def pipe(make_model, make_pipe):
    return make_pipe(model=make_model(order_blind=True, id2label=dict(enumerate(LABELS))))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ({"head": (0, 1), "tail": (5, 6), "relation": "member_of"}, ((0, 1), (5, 6), "member_of")),
        ({"head": (5, 6), "tail": (0, 1), "relation": "member_of"}, ((0, 1), (5, 6), "member_of" + INVERSE)),
        ({"head": (5, 6), "tail": (0, 1), "relation": "member_of" + INVERSE}, ((0, 1), (5, 6), "member_of")),
        ({"head": (5, 6), "tail": (0, 1), "relation": "peer"}, ((0, 1), (5, 6), "peer")),
        ({"head": (5, 6), "tail": (0, 1), "relation": "None"}, ((0, 1), (5, 6), "None")),
        ({"head": (2, 6), "tail": (2, 3), "relation": "member_of"}, ((2, 3), (2, 6), "member_of" + INVERSE)),
        ({"head": (2, 3), "tail": (2, 3), "relation": "member_of"}, ((2, 3), (2, 3), "member_of")),
        ({"head": [5, 6], "tail": [], "relation": "member_of"}, ([5, 6], [], "member_of")),
        ({"head": (5, 6), "tail": None, "relation": "member_of"}, ((5, 6), None, "member_of")),
    ],
)
def test_the_first_mention_is_the_head(pair, expected):
    given_pair = copy.deepcopy(pair)
    turned = to_text_order(pair, symmetric=["peer"])
    assert (turned["head"], turned["tail"], turned["relation"]) == expected
    assert pair == given_pair and to_text_order(turned, symmetric=["peer"]) == turned


def test_labels_keep_their_ids_and_get_inverses():
    assert LABELS == ["peer", "None", "member_of", "located_in", "member_of (inverse)", "located_in (inverse)"]
    assert all(inverse_of(inverse_of(label, ["peer"]), ["peer"]) == label for label in LABELS)
    with pytest.raises(ValueError, match=r"received \['likes \(inverse\)'\]"):
        directed_labels(["None", "likes (inverse)"])


def test_symmetric_are_the_relations_without_inverse():
    assert symmetric_relations(LABELS, order_blind=True) == {"peer"}
    assert symmetric_relations(["None", "peer", "member_of"], order_blind=False) == set()


@settings(max_examples=60)
@given(first=SPANS, second=SPANS, top_k=st.sampled_from([1, None]))
def test_both_orders_have_one_answer(pipe, first, second, top_k):
    def ask(head, tail):
        return pipe({"tokens": TEXT, "head": head, "tail": tail}, top_k=top_k)

    answer = ask(first, second)
    assert answer == ask(second, first)
    assert not answer["relation"].endswith(INVERSE)
    assert {answer["head"], answer["tail"]} == {" ".join(TEXT[slice(*span)]) for span in (first, second)}


def test_the_answer_stands_in_the_direction_of_its_relation(pipe):
    """Each label in turn is made the best one."""
    for i, label in enumerate(LABELS):
        with torch.no_grad():
            pipe.model.classifier.bias.zero_()[i] = 100.0
        answer = pipe({"tokens": TEXT, "head": "Paris", "tail": "Ann"})
        pairs = ("Paris", "Ann") if label.endswith(INVERSE) else ("Ann", "Paris")
        assert (answer["relation"], answer["head"], answer["tail"]) == (label.removesuffix(INVERSE), *pairs)
        assert answer["top_k"][0]["relation"] == answer["relation"]
        assert len({entry["relation"] for entry in answer["top_k"]}) == 5
    with torch.no_grad():
        pipe.model.classifier.bias.zero_()


@pytest.mark.parametrize("mode", ["marker", "span", "packed"])
def test_a_reversed_post_trains_as_the_turned_one(make_config, make_processor, mode):
    config = make_config(order_blind=True, id2label=dict(enumerate(LABELS)), entity_representation=mode)
    processor = make_processor(config)
    reversed_pair = {"head": (4, 5), "tail": (0, 1), "relation": "located_in"}
    posts = [{"tokens": TEXT, "pairs": [pair]} for pair in (reversed_pair, to_text_order(reversed_pair))]
    inputs = [processor(post, label2id=config.label2id) for post in posts]
    assert all(torch.equal(inputs[0][name], inputs[1][name]) for name in inputs[0])
    assert inputs[0]["labels"].tolist() == [LABELS.index("located_in (inverse)")]
    plain = make_processor(make_config(entity_representation=mode, id2label=dict(enumerate(LABELS))))
    assert any(not torch.equal(value, inputs[0][name]) for name, value in plain(posts[0]).items())
