"""Values that people give: what is read, in which form, and that everything else is an error that names it."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import NEVER_RIGHT, SOMETIMES_RIGHT, failure, fuzzed_posts, in_another_form, made, right_posts
from tiny import LABELS, VISUAL_SIZE

from modeling_vmhan.posts import read_post
from modeling_vmhan.questions import read_question
from modeling_vmhan.values import BOX, FEATURES, INDEX, SPAN, TAIL, TEXT, list_of, read_value, shown, whole_text


EMOJI, PAIR = "\U0001f602", "\ud83d\ude02"
TOKENS = {"tokens": "Ann met Bob in Paris".split(), "pairs": [{"head": (0, 1), "tail": (2, 3)}]}


def faults(fuzzed, ask):
    """What the fuzzer found, and how many posts were answered."""
    answered = []

    def counted(post, **options):
        answer = ask(post, **options)
        answered.append(1)
        return answer

    found = [(each.done, wrong) for each in fuzzed if (wrong := failure(each, counted)) is not None]
    return found, len(answered)


def test_fuzzed_posts_are_answered_in_finite_numbers_or_refused_by_name(pipe, tmp_path):
    found, answered = faults(
        fuzzed_posts(0, 2000, folder=tmp_path), lambda post, **options: pipe([post], **options)[0]
    )
    assert found == []
    assert 200 < answered < 1000  # the fuzzer's posts are neither all right nor all wrong


def test_fuzzed_posts_with_pictures(seeing, tmp_path):
    posts = fuzzed_posts(1, 500, folder=tmp_path, pixels=True)
    found, answered = faults(posts, lambda post, **options: seeing([post], **options)[0])
    assert found == []
    assert 50 < answered < 300


def test_the_processor_refuses_fuzzed_posts_alike(make_processor, tmp_path):
    """Also the relations, which the pipeline does not read, and without any option."""
    processor, label2id = make_processor(), {label: i for i, label in enumerate(LABELS)}
    fuzzed = [each._replace(options={}, never_right=False) for each in fuzzed_posts(2, 2000, folder=tmp_path)]

    def encoded(post):
        inputs = processor([post], label2id=label2id)
        assert all(tensor.isfinite().all() for tensor in inputs.values())

    found, _ = faults(fuzzed, encoded)
    assert found == []


@pytest.mark.parametrize("expression", NEVER_RIGHT)
@pytest.mark.parametrize(
    "kind", [BOX, FEATURES, INDEX, SPAN, TAIL, TEXT, list_of(TEXT, "texts"), list_of(BOX, "boxes")]
)
def test_what_is_right_nowhere_is_refused(kind, expression):
    with pytest.raises(ValueError, match="^the value must be .*received ") as caught:
        read_value(made(expression), kind, "the value")
    message = str(caught.value)
    assert len(message) < 500 and message.isprintable()


@pytest.mark.parametrize("expression", NEVER_RIGHT + SOMETIMES_RIGHT)
def test_every_value_can_be_shown(expression):
    text = shown(made(expression))
    assert 0 < len(text) <= 200 and text.isprintable()
    assert shown([made(expression)])


def test_shown_is_what_python_writes():
    for value in ("Ann", (0, 1), [0.5, None], {"a": 1}, True, 10**60):
        assert shown(value) == repr(value)
    assert shown(np.str_("Ann")) == "'Ann'" and shown(np.int64(1)) == "1"
    assert shown("x" * 999) != repr("x" * 999) and shown(b"x" * 10**8).startswith("b'xx")


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (INDEX, [1, np.int64(1), np.array(1), torch.tensor(1), np.array(1.0), torch.tensor(1.0)], 1),
        (SPAN, [(0, 2), [0, 2], np.array([0, 2]), torch.tensor([0, 2]), (np.int64(0), torch.tensor(2))], (0, 2)),
        (SPAN, [range(2), made("collections.deque([0, 1])"), made("pandas.Series([0, 1])")], (0, 1)),
        (BOX, [(0, 0, 5, 5.5), np.array([0, 0, 5, 5.5]), [torch.tensor(0), 0, 5, np.float16(5.5)]], [0, 0, 5, 5.5]),
        (list_of(TEXT, "texts"), [("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], object)], ["a", "b"]),
        (TAIL, [[], (), np.zeros(0), torch.zeros(0)], None),
    ],
)  # fmt: skip
def test_a_value_may_come_as_any_library_has_it(kind, values, expected):
    for value in values:
        read = read_value(value, kind, "the value")
        assert read == expected and type(read) is type(expected)


def test_features_keep_half_precision_and_share_nothing():
    mapped = np.ones(VISUAL_SIZE, np.float16)
    mapped.flags.writeable = False
    assert read_value(mapped, FEATURES, "x").dtype == np.float16
    for value in ([1] * 8, np.ones(8), np.ones(8, np.int64), torch.ones(8, dtype=torch.bfloat16), np.ma.ones(8)):
        read = read_value(value, FEATURES, "x")
        assert read.dtype == np.float32 and (read == 1).all()
    assert (read_value(torch.ones(8, requires_grad=True), FEATURES, "x") == 1).all()


@pytest.mark.parametrize(
    ("largest", "match"),
    [(1e20, r"1e\+20"), (-1e300, "inf"), (math.nan, "nan"), (math.inf, "inf")],
)
@pytest.mark.parametrize("name", ["image_features", "object_features"])
def test_features_without_finite_scores_are_refused(name, largest, match, pipe, make_processor):
    features = [0.0] * (VISUAL_SIZE - 1) + [largest]
    post = {"id": 3, **TOKENS, name: features if name == "image_features" else [features]}
    for ask in (pipe, make_processor()):
        with pytest.raises(ValueError, match=rf"post 3: {name} must be finite.*received float: {match}\."):
            ask(post)


def test_features_beyond_half_precision_name_the_post_and_their_size(make_pipe, make_model, posts):
    half = make_pipe(model=make_model().half())
    post = posts()[0]
    assert math.isfinite(half(post)[0]["score"])
    post["object_features"][2][0] = 1e5
    with pytest.raises(ValueError, match=r"post 'everything': the scores are not finite.* 100000"):
        half(post)


@pytest.mark.parametrize("part", ["classifier.weight", "gaussian_nodes"])
def test_scores_that_are_not_finite_are_no_answer(part, make_pipe, posts):
    pipe = make_pipe()
    for name, parameter in pipe.model.named_parameters():
        if part in name:
            parameter.data.fill_(math.nan)
    for explain in (False, True):
        with pytest.raises(ValueError, match="post 'no image': the scores are not finite.*weights"):
            pipe(posts()[1], explain=explain)


def test_a_value_by_another_type_has_the_same_answer(pipe, tmp_path):
    """Of numpy, pandas or torch, or another kind of list or dict: the same scores, or an error."""
    random_, same = random.Random(3), 0
    for post in right_posts(tmp_path) * 60:
        expected, changed = pipe([post])[0], in_another_form(random_, post)
        try:
            answer = pipe([changed])[0]
        except ValueError:
            continue
        assert answer == expected
        same += 1
    assert same > 200


def test_whole_text_pairs_what_pairs():
    for text in ("", "Ann", "\ufeffAnn", EMOJI, "e\u0301", "\0"):
        assert whole_text(text) == text
    assert whole_text(f"a{PAIR}b{PAIR}") == f"a{EMOJI}b{EMOJI}"
    for half in ("\ud83d", "\ude02", "\ude02\ud83d", f"{PAIR}\ud83d", "\udcff"):
        with pytest.raises(UnicodeError):
            whole_text(half)


PLACES = {  # what a question may hold, with %s for the emoji
    "text": {"text": "Ann %s Bob", "head": "Ann", "tail": "Bob"},
    "tokens": {"tokens": ["Ann", "%s", "Bob"], "head": "Ann", "tail": (2, 3)},
    "head": {"text": "Ann %s Bob", "head": "Ann %s", "tail": "Bob"},
    "text_phrases": {"text": "Ann %s Bob", "head": "Ann", "tail": "Bob", "text_phrases": ["%s Bob"]},
    "caption": {"text": "Ann Bob", "head": "Ann", "tail": "Bob", "caption": "%s"},
    "image_phrases": {"text": "Ann Bob", "head": "Ann", "tail": "Bob", "image_phrases": ["a %s"]},
    "object_labels": {
        "text": "Ann Bob",
        "head": "Ann",
        "tail": "Bob",
        "boxes": [[0, 0, 1, 1]],
        "object_labels": ["%s"],
    },
    "id": {"text": "Ann Bob", "head": "Ann", "tail": "Bob", "id": "%s"},
    "image": {"text": "Ann Bob", "head": "Ann", "tail": "Bob", "image": "%s.png"},
    "relation": {"text": "Ann Bob", "pairs": [{"head": "Ann", "tail": "Bob", "relation": "%s"}]},
}


def _put(value, text):
    if isinstance(value, str):
        return value.replace("%s", text)
    if isinstance(value, dict):
        return {key: _put(of, text) for key, of in value.items()}
    return type(value)(_put(of, text) for of in value) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(("place", "question"), PLACES.items())
def test_surrogates_are_paired_wherever_a_question_has_text(place, question):
    paired, whole = (read_question(_put(question, text), lambda path: path) for text in (PAIR, EMOJI))
    assert paired.post == whole.post
    with pytest.raises(ValueError, match=r"^(the )?post.* must be whole characters.*\\ud83d"):
        read_question(_put(question, "\ud83d"), lambda path: path)


def test_spans_count_the_characters_that_were_given():
    """In Python's string an unpaired emoji is two characters, and so the spans beside it have counted it."""
    pair = {"head": (6, 9), "tail": (0, 3), "text_phrases": [(3, 6), (9, 99)]}
    post = read_post({"text": f"Ann {PAIR}Bob", "pairs": [pair]}, "the post")
    assert post["text"] == f"Ann {EMOJI}Bob"
    assert post["pairs"] == [{"head": (5, 8), "tail": (0, 3), "text_phrases": [(3, 5), (9, 99)]}]
    with pytest.raises(ValueError, match=r"the post, pair 0: a span must not cut .*\(5, 9\)"):
        read_post({"text": f"Ann {PAIR}Bob", "pairs": [{**pair, "head": (5, 9)}]}, "the post")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"boxes": [[0, 0, 5, 5]], "object_features": [[0.0] * 8] * 2}, r"object_features.*boxes.*'boxes': 1"),
        ({"boxes": [[5]]}, r"boxes must be .*four finite numbers.*received list: \[5\]"),
        ({"boxes": [5]}, "boxes must be .*received int: 5"),
        ({"boxes": [[True, 0, 5, 5]]}, r"boxes must be .*received list: \[True"),
        (
            {"pairs": [{"head": (0, 1), "tail": (2, 3), "tail_object": 0}]},
            "either tail or tail_object.*'tail_object': 0",
        ),
        ({"pairs": [{"head": (0, 1), "tail_object": -2}]}, "tail_object must be .*received int: -2"),
        ({"pairs": [{"head": (0, 1), "tail": (2, 3), "objects": [True]}]}, "objects must be .*received bool: True"),
        ({"pairs": [{"head": (0, 1), "tail": b"12"}]}, "tail must be .*received bytes: b'12'"),
        ({"pairs": {"head": (0, 1), "tail": (2, 3)}}, "pairs must be a list.*received dict"),
        ({"pairs": ()}, "no entity pair"),
        ({"id": [1]}, r"^post \[1\]: id must be .*received list"),
        ({"id": True}, "id must be .*received bool: True"),
        ({"image": ""}, "image must be a path.*received str: ''"),
        ({"image": "a\0.png"}, "image must be a path"),
        ({3: 1}, r"unknown keys \[3\]"),
    ],
)
def test_what_fits_no_kind_or_no_other_value_is_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        read_question({"id": "a", **TOKENS, **fields}, None)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("top_k", [1.5, 0, -1, "2", True, math.nan, [1], np.float64(2)]),
        ("num_samples", ["3", -1, 10_001, 2**70, None, 1.0, True, 10**400]),
        ("seed", ["x", -1, 2**64, None, 0.5, False]),
        ("abstain_below", [None, math.nan, True, "0.5", -0.1, 1.1, math.inf, 10**400]),
        ("explain", ["no", 1, None, np.ones(2)]),
        ("url_timeout", [0, -1, math.nan, math.inf, None, "1"]),
        ("url_max_bytes", [0, 1.5, None, "1"]),
        ("allow_private_urls", ["yes", 1, None]),
    ],
)
def test_an_option_is_what_it_must_be(option, values, pipe):
    question = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}
    for value in values:
        with pytest.raises(ValueError, match=f"^{option} must be .*received {type(value).__name__}: "):
            pipe(question, **{option: value})


def test_options_of_numpy_are_options(pipe):
    question = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}
    given = {"top_k": np.int64(2), "num_samples": np.int32(4), "seed": np.uint8(1), "abstain_below": np.float32(0.25)}
    assert pipe(question, **given) == pipe(question, top_k=2, num_samples=4, seed=1, abstain_below=0.25)
    assert len(pipe(question, top_k=None)["top_k"]) == len(LABELS)


@pytest.mark.parametrize("posts", [5, np.array(None), torch.tensor(1), int])
def test_what_is_no_batch_of_posts_is_refused(posts, make_processor, pipe):
    with pytest.raises(ValueError, match="posts must be a dict, or a list of dicts, received "):
        make_processor()(posts)
    with pytest.raises(ValueError, match="a question must be a dict, received "):
        pipe(posts)


def test_a_row_may_have_columns_without_values():
    """As a table has them in which other rows are of the other form."""
    question = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob", "tail_object": None, "pairs": None, "boxes": None}
    read = read_question(question, None)
    assert read.single and read.post == {"text": "Ann met Bob", "pairs": [{"head": (0, 3), "tail": (8, 11)}]}
    several = {"text": "Ann met Bob", "head": None, "pairs": [{"head": "Ann", "tail": "Bob"}]}
    assert read_question(several, None).post == read.post


@pytest.mark.parametrize(
    ("source", "kind"), [("nowhere.png", FileNotFoundError), (".", OSError), (b"", ValueError), (Path("."), OSError)]
)
def test_an_image_that_cannot_be_read_names_the_post(source, kind, seeing):
    with pytest.raises(kind, match="^post 'a': .*image"):
        seeing({"id": "a", "text": "Ann met Bob", "head": "Ann", "tail": "Bob", "image": source})
