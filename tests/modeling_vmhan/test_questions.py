"""Questions as people write them: strings that are found, or whose error names the candidates; boxes; images."""

import copy
import re

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_vmhan.posts import sentence_of
from modeling_vmhan.questions import post_with_pairs, read_question, with_pairs
from modeling_vmhan.words import find_mention


TEXT = "Bob met Anna , Bob's sister Ann and the Zulu band in New York"


def found(mention, text=TEXT):
    return find_mention(mention, *sentence_of({"text": text}), "post 'x', head")


def read(**question):
    return read_question(question, lambda image: ("opened", image))


def pair_of(**question):
    return read(**question).post["pairs"][0]


@pytest.mark.parametrize("mention", ["Anna", "Ann", "sister Ann", "New York", "Zulu band", " Anna ", "Bob's"])
def test_a_mention_that_stands_once_is_found(mention):
    start, end = found(mention)
    assert TEXT[start:end] == mention.strip()


def test_word_borders_hold_for_any_alphabet_and_sign():
    assert found("@ann", "hi @ann !") == (3, 7)
    assert found("Žofie", "Žofie a Žofiella") == (0, 5)
    assert found("a.b", "axb a.b") == (4, 7)  # no regular expression


def test_in_tokens_a_mention_is_the_tokens_it_touches():
    sentence = sentence_of({"tokens": ["Bob", "'s", "New", "York", "trip"]})
    assert find_mention("New York", *sentence, "x") == (2, 4)
    assert find_mention("York trip", *sentence, "x") == (3, 5)


def test_an_ambiguous_mention_lists_every_place_with_its_span():
    message = r"post 'x', head: 'Bob' is 2 times"
    with pytest.raises(ValueError, match=message) as caught:
        found("Bob")
    spans = re.findall(r"at characters \((\d+), (\d+)\)", str(caught.value))
    assert [TEXT[int(start) : int(end)] for start, end in spans] == ["Bob", "Bob"]
    assert "[Bob]'s sister" in str(caught.value)


@pytest.mark.parametrize(
    ("mention", "nearest"),
    [
        ("bob", "[Bob] met Anna ,  at characters (0, 3)"),  # another case
        ("siste", "[siste]r Ann and th at characters (21, 26)"),  # inside a word
        ("Nw York", "[New York] at characters (53, 61)"),  # misspelt
        ("qqqq", "nothing"),
    ],
)
def test_an_absent_mention_lists_what_is_near(mention, nearest):
    with pytest.raises(ValueError, match=f"'{mention}' is not in the sentence .* Nearest: .*{re.escape(nearest)}"):
        found(mention)


def test_strings_and_spans_of_any_kind_mean_the_same():
    by_string = pair_of(text=TEXT, head="Anna", tail="New York", text_phrases=["Zulu band", "met"])
    for kind in (tuple, list, np.array, torch.tensor):
        spans = {"head": kind((8, 12)), "tail": kind((53, 61)), "text_phrases": [kind((40, 49)), kind((4, 7))]}
        assert pair_of(text=TEXT, **spans) == by_string
    assert by_string["head"] == (8, 12) and by_string["text_phrases"] == [(40, 49), (4, 7)]


def test_a_single_question_has_its_pairs_keys_itself():
    question = read(text=TEXT, head="Anna", tail="New York", objects=[1], caption="a band")
    assert question.single and question.post["caption"] == "a band"
    assert question.post["pairs"] == [{"head": (8, 12), "tail": (53, 61), "objects": [1]}]
    several = read(tokens=["Ann", "met", "Bob"], pairs=[{"head": "Ann", "tail": (2, 3), "relation": 1}])
    assert not several.single and several.post["pairs"] == [{"head": (0, 1), "tail": (2, 3), "relation": 1}]


def test_a_question_is_not_changed():
    question = {"text": TEXT, "pairs": [{"head": "Anna", "tail": [1, 2, 3, 4]}], "boxes": [[0, 0, 5, 5]], "image": "x"}
    before = copy.deepcopy(question)
    post = read_question(question, str.upper).post
    assert question == before
    assert post["image"] == "X" and len(post["boxes"]) == 2


def test_a_tail_box_becomes_an_object():
    """One of the boxes is that object; a new one goes behind them; two pairs may point at one."""
    pairs = [{"head": "Anna", "tail": box} for box in ((5, 5, 9, 9), (0, 0, 4, 4), np.array([5, 5, 9, 9]))]
    post = read(text=TEXT, pairs=pairs, boxes=np.array([[0.0, 0.0, 4.0, 4.0]]), image="x").post
    assert [pair["tail_object"] for pair in post["pairs"]] == [1, 0, 1]
    assert post["boxes"] == [[0, 0, 4, 4], [5, 5, 9, 9]] and all("tail" not in pair for pair in post["pairs"])


def test_a_box_that_is_one_pair_s_tail_is_no_object_of_the_others():
    words, box = {"head": "Anna", "tail": "Ann"}, {"head": "Anna", "tail": [5, 5, 9, 9]}
    alone = read(text=TEXT, pairs=[words], image="x").post
    assert "objects" not in alone["pairs"][0]  # none are given, so none are taken
    both = read(text=TEXT, pairs=[words, box], image="x").post
    assert [pair["objects"] for pair in both["pairs"]] == [[], [0]] and both["boxes"] == [[5, 5, 9, 9]]
    given = read(text=TEXT, pairs=[{**words, "objects": [1]}, box], boxes=[[0, 0, 4, 4], [1, 1, 2, 2]], image="x").post
    assert [pair["objects"] for pair in given["pairs"]] == [[1], [0, 1, 2]]


def test_a_data_sets_row_is_a_question():
    row = {"id": "r", "tokens": ["Ann", "sings"], "image": None, "boxes": [[0, 0, 4, 4]], "caption": None}
    row["pairs"] = [{"head": [0, 1], "tail": [], "tail_object": 0, "relation": 2, "text_phrases": [], "objects": []}]
    post = read(**row).post
    assert post["pairs"][0]["tail_object"] == 0 and "image" not in post


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"text": TEXT, "head": "Anna"}, r"the post, pair 0 needs head, .* tail.*received \{'head': 'Anna'\}"),
        ({"text": TEXT, "pairs": [{"tail": "Ann"}], "id": 7}, r"post 7, pair 0 needs head"),
        ({"text": TEXT, "pairs": []}, "the post has no entity pair"),
        ({"text": TEXT, "pairs": [], "head": "Ann"}, r"has pairs and also \['head'\]: put these into the pairs"),
        ({"text": TEXT, "pairs": {"head": "Anna", "tail": "Ann"}}, "must be a list of dicts, received dict"),
        ({"text": TEXT, "head": 3, "tail": "Ann"}, "pair 0: head must be a string or a span .*, received int: 3"),
        ({"text": TEXT, "head": (0.5, 3.0), "tail": "Ann"}, "head must be .* a span .* received tuple: .0.5, 3.0"),
        ({"text": TEXT, "head": "Bob", "tail": "Ann"}, "the post, head: 'Bob' is 2 times in the sentence"),
        ({"text": TEXT, "head": "Ann", "tail": (1, 2, 3, 4)}, "the tail is a box, .* but the post has no image"),
        (
            {"text": TEXT, "head": "Ann", "tail": (1, 2, 3, 4), "image_features": [0.0], "boxes": [[0, 0, 9, 9]]},
            r"the tail \[1.0, 2.0, 3.0, 4.0\] .*boxes=\[\[0.0, .*object_features",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error_that_says_why(question, message):
    with pytest.raises(ValueError, match=message):
        read(**question)


@pytest.mark.parametrize("question", [["Ann"], None, b"Ann met Bob"])
def test_a_question_is_a_dict_or_a_text(question):
    with pytest.raises(ValueError, match="a question must be a dict.*received (list|NoneType|bytes)"):
        read_question(question, None)


PAIR = {"head": "Anna", "tail": "New York"}


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ({"text": TEXT, **PAIR}, "pair"),
        ({"text": TEXT, "head": "Anna", "tail": [0, 0, 2, 2], "image": "x"}, "pair"),
        ({"text": TEXT, "head": "Anna", "tail_object": 0, "mentions": None}, "pair"),
        ({"text": TEXT, "pairs": [PAIR]}, "pairs"),
        ({"text": TEXT, "pairs": [PAIR], "mentions": ["Ann"]}, "pairs"),  # as a row of a data set may have both
        ({"text": TEXT, "mentions": ["Anna", "Ann"]}, "mentions"),
        ({"text": TEXT, "mentions": []}, "mentions"),
        ({"tokens": TEXT.split()}, "post"),
        ({"text": TEXT, "head": None, "tail": None, "pairs": None, "mentions": None}, "post"),
        (TEXT, "post"),
    ],
)
def test_a_question_has_one_of_four_forms(question, form):
    read = read_question(question, str)
    assert read.form == form and read.single == (form == "pair")
    assert len(read.post["pairs"]) == (1 if form in ("pair", "pairs") else 0)


def test_mentions_are_spans_each_once():
    mentions = ["Bob", (8, 12), "New York", "Anna", np.array([0, 3]), "Bob"]  # Bob stands twice: its first place
    assert read(text=TEXT, mentions=mentions).post["mentions"] == [(0, 3), (8, 12), (53, 61)]
    in_tokens = read(tokens=["Ann", "met", "Bob", "and", "Ann"], mentions=["Bob", "Ann", [4, 5]])
    assert in_tokens.post["mentions"] == [(2, 3), (0, 1), (4, 5)]
    halves = "Ann \ud83d\ude00 Bob"  # as where JSON was not read as JSON: its spans count halves
    assert read(text=halves, mentions=[(7, 10)]).post["mentions"] == [(6, 9)]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"mentions": "Ann"}, "mentions must be a list of strings or spans, received str: 'Ann'"),
        ({"mentions": [3]}, "mentions must be a list of strings or spans, received int: 3"),
        ({"mentions": ["Anna", "Rome"], "id": 7}, "post 7, mention 1: 'Rome' is not in the sentence"),
        ({"mentions": [(0, 0)]}, "mention 0: the span must be 0 <= start < end <= 61.* received .0, 0."),
        ({"mentions": [(60, 62)]}, "mention 0: the span must be 0 <= start < end <= 61.* received .60, 62."),
        ({"text": "e\u0301 Ann", "mentions": [(0, 1)]}, r"mention 0: the span \(0, 1\) cuts a character.*\(0, 2\)"),
        ({"mentions": ["Ann"], "head": "Anna"}, r"has mentions and also \['head'\]: leave mentions out"),
        ({"mentions": ["Ann"], "objects": [0]}, r"has mentions and also \['objects'\]"),
        ({"objects": [0]}, "pair 0 needs head"),  # what belongs to a pair
    ],
)
def test_mentions_that_cannot_be_read_are_errors(question, message):
    with pytest.raises(ValueError, match=message):
        read(**{"text": TEXT, **question})


@pytest.mark.parametrize("question", [{"mentions": ["Anna", "Ann"]}, {}])
def test_pairs_that_come_later_are_read_as_given_ones(question):
    others = {"text": TEXT, "boxes": [[0, 0, 4, 4]], "image": "x", "id": 3}
    pairs = [{"head": "Anna", "tail": (53, 61), "text_phrases": ["met"]}, {"head": "Ann", "tail": [5, 5, 9, 9]}]
    opened = Image.new("RGB", (9, 9))
    asked, given = (read_question({**others, **of}, lambda _: opened) for of in (question, {"pairs": pairs}))
    later = with_pairs(asked, iter(pairs))
    assert {**later.post, "mentions": None} == {**given.post, "mentions": None} and later.name == given.name
    assert later.form == asked.form and asked.post["pairs"] == [] and len(asked.post["boxes"]) == 1
    assert with_pairs(later, []).post["pairs"] == []
    with pytest.raises(ValueError, match="post 3, pair 0, head: 'Bob' is 2 times"):
        with_pairs(asked, [{"head": "Bob", "tail": "Ann"}])
    with pytest.raises(ValueError, match="post 3, pair 0 has unknown keys .*'haed'.*Did you mean head"):
        with_pairs(asked, [{"haed": "Ann", "tail": "Anna"}])


@pytest.mark.parametrize("post", [{"pairs": None}, {"pairs": []}, {"mentions": ["Ann"]}, TEXT])
def test_what_trains_must_have_pairs(post, make_processor):
    post = post if isinstance(post, str) else {"text": TEXT, **post}
    for read in (make_processor(), lambda post: post_with_pairs(post, "post 0")):
        with pytest.raises(ValueError, match=r"post 0 has no entity pair.*: give pairs=\["):
            read(post)
