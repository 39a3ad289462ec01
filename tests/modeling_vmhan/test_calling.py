"""Calls as in transformers' own pipelines, and a bad post among good ones."""

import re

import datasets
import pandas as pd
import pytest
from PIL import Image

from modeling_vmhan.calling import question_of


TEXT = "Ann met Bob in Paris with the band"
PAIR = {"head": "Ann", "tail": "Paris"}
QUESTION = {"text": TEXT, **PAIR}
BAD = {"id": "p 7", "text": TEXT, "head": "Ann", "tail": "Rome"}


@pytest.mark.parametrize(
    ("inputs", "given", "asked"),
    [
        (QUESTION, {}, QUESTION),
        (TEXT, {}, TEXT),
        (TEXT, {"image": "a.png"}, {"text": TEXT, "image": "a.png"}),
        (TEXT, PAIR, QUESTION),
        (None, QUESTION, QUESTION),
        ({"text": TEXT}, {"mentions": ["Ann"]}, {"text": TEXT, "mentions": ["Ann"]}),
        ({"text": TEXT, "head": None}, PAIR, QUESTION),
        (["a", "b"], {"image": ["a.png", None]}, [{"text": "a", "image": "a.png"}, {"text": "b", "image": None}]),
        (None, {"text": ["a", "b"]}, ["a", "b"]),
        (None, {"text": ["a"], "image": ["a.png"]}, [{"text": "a", "image": "a.png"}]),
        # pandas, whose [] goes by labels
        (pd.Series(["a", "b"], index=[1, 0]), {}, ["a", "b"]),
        (pd.Series(["a", "b"], index=[7, 9]), {}, ["a", "b"]),
        (
            pd.DataFrame([QUESTION, {**QUESTION, "tail": "Bob"}], index=[1, 0]),
            {},
            [QUESTION, {**QUESTION, "tail": "Bob"}],
        ),
        (
            pd.DataFrame([{**QUESTION, "caption": "a dog"}, QUESTION]),  # its missing caption is NaN there
            {},
            [{**QUESTION, "caption": "a dog"}, {**QUESTION, "caption": None}],
        ),
        (pd.Series(QUESTION), {}, QUESTION),
        (pd.Series({"text": TEXT}), PAIR, QUESTION),
    ],
)
def test_positions_and_keywords_ask_the_same(inputs, given, asked):
    assert question_of(inputs, given) == asked


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        (None, {}, "a question must be a dict, received nothing"),
        (QUESTION, {"tail": "Bob"}, "tail must be given once"),
        (TEXT, {"text": TEXT}, "text must be given once"),
        ([QUESTION], {"image": "a.png"}, r"\['image'\] must stand in the posts"),
        ([QUESTION], {"image": ["a.png"]}, "image must be .* received 1 for 1"),
        (["a", "b"], {"image": ["a.png"]}, "image must be .* received 1 for 2"),
        (["a"], {"image": ["a.png"], **PAIR}, r"\['head', 'image', 'tail'\] must stand in the posts"),
        (iter([QUESTION]), PAIR, r"\['head', 'tail'\] must stand in the posts"),
    ],
)
def test_what_is_given_twice_or_to_many_is_refused(inputs, given, message):
    with pytest.raises(ValueError, match=message):
        question_of(inputs, given)


def test_the_pipeline_takes_both(pipe, seeing, tmp_path):
    expected = pipe(QUESTION, top_k=2)
    assert pipe(**QUESTION, top_k=2) == pipe(TEXT, **PAIR, top_k=2) == expected
    Image.effect_noise((64, 48), 90).convert("RGB").save(path := tmp_path / "a.png")
    expected = seeing({**QUESTION, "image": str(path)})
    assert seeing(TEXT, str(path), **PAIR) == seeing(text=TEXT, image=path, **PAIR) == expected
    assert seeing({"text": TEXT, **PAIR}, image=path) == expected
    with pytest.raises(ValueError, match="image must be given once"):
        seeing({**QUESTION, "image": str(path)}, str(path))
    with pytest.raises(ValueError, match="options must be among .*received .'imgae'"):
        pipe(QUESTION, imgae="a.png")


def inputs_of(questions):
    """A list, a generator, a data set and a streaming one of these questions."""
    data = datasets.Dataset.from_list(questions)
    return [questions, iter(questions), data, data.to_iterable_dataset()]


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (2, 0), (3, 1), (2, 2)])
def test_a_bad_post_is_returned_with_its_index_and_the_others_are_answered(batch_size, num_workers, pipe):
    good = [{"id": str(i), **QUESTION} for i in range(4)]
    questions = [good[0], BAD, good[1], good[2], {**BAD, "id": None}, good[3]]
    expected = pipe(QUESTION)
    for inputs in inputs_of(questions):
        found = list(pipe(inputs, batch_size=batch_size, num_workers=num_workers, on_error="return"))
        failed = [(answer["index"], answer["id"]) for answer in found if "error" in answer]
        assert failed == [(1, "p 7"), (4, None)] and "post 'p 7', tail: 'Rome' is not in" in found[1]["error"]
        for i in (0, 2, 3, 5):
            assert found[i]["relation"] == expected["relation"]
            assert found[i]["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_error_that_is_raised_names_the_index(batch_size, pipe):
    for inputs in inputs_of([QUESTION | {"id": "a"}, BAD]):
        with pytest.raises(ValueError, match="^input 1: post 'p 7', tail: 'Rome'"):
            list(pipe(inputs, batch_size=batch_size))
    with pytest.raises(ValueError, match="^post 'p 7', tail: 'Rome'"):
        pipe(BAD)


def test_a_question_alone_may_return_its_error_too(make_pipe):
    pipe = make_pipe(on_error="return")
    answer = pipe(BAD)
    assert answer == {"error": answer["error"], "index": 0, "id": "p 7"} and "Rome" in answer["error"]
    with pytest.raises(ValueError, match="Rome"):
        pipe(BAD, on_error="raise")
    with pytest.raises(ValueError, match="on_error must be one of .'raise', 'return'.*received str: 'ignore'"):
        pipe(BAD, on_error="ignore")


@pytest.fixture
def infinite(make_pipe, make_model, posts):
    """A pipeline in half precision, and a post whose features give it scores that are not finite."""
    post = posts()[0]
    post["object_features"][2][0] = 1e5
    return make_pipe(model=make_model().half()), post


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_an_error_of_the_model_is_its_own_posts_alone(batch_size, infinite, posts):
    pipe, bad = infinite
    good = posts()[1]
    found = pipe([good, bad, good, good], batch_size=batch_size, on_error="return")
    assert ["error" in answer for answer in found] == [False, True, False, False]
    assert found[1]["index"] == 1 and re.search("'everything': the scores are not finite", found[1]["error"])
    with pytest.raises(ValueError, match="^input 1: post 'everything': the scores are not finite"):
        pipe([good, bad, good], batch_size=batch_size)


def test_a_fault_of_the_program_is_raised(pipe, monkeypatch):
    monkeypatch.setattr(pipe.processor, "collate", lambda *_: {}["nothing"])
    with pytest.raises(KeyError, match="nothing"):
        pipe([QUESTION], on_error="return")


def test_keys_that_no_question_has_come_back(pipe):
    asked = {**QUESTION, "lang": "en", "likes": 3, "title": "x"}
    assert pipe(asked)["input"] == {"lang": "en", "likes": 3, "title": "x"}
    several = pipe({"text": TEXT, "pairs": [PAIR, PAIR], "lang": "en"})
    assert [answer["input"] for answer in several] == [{"lang": "en"}] * 2
    assert "input" not in pipe(QUESTION) and asked["lang"] == "en"
    assert pipe({**BAD, "lang": "en"}, on_error="return")["input"] == {"lang": "en"}


@pytest.mark.parametrize(
    ("key", "meant"), [("imgae", "image"), ("TEXT", "text"), ("haed", "head"), ("mention", "mentions")]
)
def test_keys_that_are_nearly_those_of_a_question_are_refused(key, meant, pipe):
    with pytest.raises(ValueError, match=f"unknown keys .'{key}'.*Did you mean {meant}"):
        pipe({**QUESTION, key: "a"})


def test_text_and_image_stand_in_the_answers_on_request(seeing):
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    answer = seeing({**QUESTION, "image": image, "lang": "en"}, with_post=True)
    assert answer["input"] == {"text": TEXT, "image": image, "lang": "en"}
    tokens = TEXT.split()
    assert seeing({"tokens": tokens, **PAIR}, with_post=True)["input"] == {"tokens": tokens, "image": None}
