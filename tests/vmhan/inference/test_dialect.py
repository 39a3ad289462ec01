"""One post, many readers: each reads every form of it as the same inputs of the model, or says that it does not."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_scripts.builders.jsonl import read_posts
from vmhan.inference.onnx.classifier import OnnxRelationClassifier
from vmhan.inference.question_files import PASSED, read_questions


TEXT = "Ann met Bob in Paris with the band"
TOKENS = TEXT.split()
FEATURES = {"image_features": [0.5] * 8, "object_features": [[0.25] * 8, [0.75] * 8]}
BOXES = {"boxes": [[0, 0, 9, 9], [5, 5, 20, 20]]}
ABOUT = {"caption": "a red car", "image_phrases": ["red car"]}

# What a post may be -> the same in the plainest form: spans of tokens.
NAMES = {"head": (0, 1), "tail": (2, 3)}
FORMS = {
    "strings": ({"text": TEXT, "head": "Ann", "tail": "Bob"}, [NAMES]),
    "spans of characters": ({"text": TEXT, "head": [0, 3], "tail": [8, 11]}, [NAMES]),
    "spans of tokens": ({"tokens": TOKENS, "head": [0, 1], "tail": [2, 3]}, [NAMES]),
    "strings in tokens": ({"tokens": TOKENS, "head": "Ann", "tail": "Bob"}, [NAMES]),
    "text and tokens": ({"text": TEXT, "tokens": TOKENS, "head": [0, 1], "tail": "Bob"}, [NAMES]),
    "pairs": (
        {"text": TEXT, "pairs": [{"head": "Ann", "tail": "Bob"}, {"head": "the band", "tail": [15, 20]}]},
        [NAMES, {"head": (6, 8), "tail": (4, 5)}],
    ),
    "phrases": (
        {"text": TEXT, "head": "Ann", "tail": "Bob", "text_phrases": ["in Paris", [21, 34]], **ABOUT},
        [{**NAMES, "text_phrases": [(3, 5), (5, 8)]}],
    ),
    "an object by its index": ({"text": TEXT, "head": "Ann", "tail_object": 1}, [{"head": (0, 1), "tail_object": 1}]),
    "an object by its box": (
        {"text": TEXT, "head": "Ann", "tail": BOXES["boxes"][1]},
        [{"head": (0, 1), "tail_object": 1}],
    ),
    "chosen objects": ({"text": TEXT, "head": "Ann", "tail": "Bob", "objects": [1]}, [{**NAMES, "objects": [1]}]),
}
WITHOUT_PAIRS = {
    "mentions": {"text": TEXT, "mentions": ["Ann", [8, 11]]},
    "a raw post": {"text": TEXT},
    "raw tokens": {"tokens": TOKENS},
}


def tensors(encoded):
    return {name: encoded[name] for name in encoded if name != "labels"}


def classifier(pipe, seen):
    """The ONNX class without a graph, which puts what it would run to `seen` and gives all pairs the same scores."""

    def run(encoded):
        seen.append(encoded)
        return None, np.array([[0.1, 0.2, 0.7, 0.0]] * sum(len(post.pairs) for post in encoded))

    classify = object.__new__(OnnxRelationClassifier)
    classify.encoder, classify.config, classify.defaults, classify.run = pipe.processor, pipe.model.config, {}, run
    return classify


@pytest.fixture(scope="module")
def readers(pipe, tmp_path_factory):
    """{reader: what gives the model's inputs of a post}."""
    folder = tmp_path_factory.mktemp("files")

    def by_pipeline(post):
        return tensors(pipe.processor.collate([pipe.preprocess(post)["encoded"]]))

    def by_predict(post):
        (folder / "questions.jsonl").write_text(json.dumps(post))
        (question,) = read_questions(folder / "questions.jsonl", image_root=folder)
        assert PASSED not in question
        return by_pipeline(question)

    def by_csv(post):
        cells = {key: value if isinstance(value, str) else json.dumps(value) for key, value in post.items()}
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (cells, cells.values())]
        (folder / "questions.csv").write_text("\n".join(quoted))
        (question,) = read_questions(folder / "questions.csv", image_root=folder)
        return by_pipeline(question)

    def by_training(post):
        pairs = post.get("pairs")
        labelled = {"pairs": [{**pair, "relation": "peer"} for pair in pairs]} if pairs else {"relation": "peer"}
        labelled = labelled if pairs or "head" in post else {}
        row = {key: of for key, of in {**post, **labelled}.items() if key not in FEATURES}
        (folder / "train.jsonl").write_text(json.dumps(row | {"image": "a.jpg"}))
        ((_, read),) = read_posts(folder / "train.jsonl", labels=["None", "peer"], split="train")
        return tensors(pipe.processor({**read, **FEATURES}, label2id={"None": 0, "peer": 1}))

    def by_onnx(post):
        seen = []
        answers = classifier(pipe, seen)(post)
        assert isinstance(answers, list) == ("pairs" in post or "mentions" in post)
        return {name: torch.as_tensor(array) for name, array in pipe.processor.arrays(seen[0]).items()}

    return {
        "pipeline": by_pipeline,
        "processor": lambda post: tensors(pipe.processor(post)),
        "predict": by_predict,
        "predict, CSV": by_csv,
        "training": by_training,
        "ONNX": by_onnx,
    }


READERS = ("pipeline", "processor", "predict", "predict, CSV", "training", "ONNX")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_reader_reads_every_form_alike(form, reader, readers, pipe):
    post, pairs = FORMS[form]
    others = {**BOXES, **FEATURES}
    plain = {"tokens": TOKENS, "pairs": pairs, **(ABOUT if "caption" in post else {}), **others}
    expected, found = tensors(pipe.processor(plain)), readers[reader]({**post, **others})
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("form", WITHOUT_PAIRS)
@pytest.mark.parametrize("reader", ["processor", "training"])
def test_who_needs_pairs_says_so(form, reader, readers):
    with pytest.raises(ValueError, match="pair"):
        readers[reader](WITHOUT_PAIRS[form])


@pytest.mark.parametrize("reader", ["pipeline", "predict", "predict, CSV", "ONNX"])
def test_mentions_are_all_their_pairs(reader, readers, pipe):
    both = {"text": TEXT, "pairs": [{"head": "Ann", "tail": "Bob"}, {"head": "Bob", "tail": "Ann"}]}
    expected, found = tensors(pipe.processor(both)), readers[reader](WITHOUT_PAIRS["mentions"])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="raw post, in which this model finds no mentions"):
        readers[reader](WITHOUT_PAIRS["a raw post"])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("post", "message"),
    [
        ({"text": TEXT, "head": "Ann", "tail": "Rome"}, "'Rome' is not in the sentence"),
        ({"text": f"{TEXT} Ann", "head": "Ann", "tail": "Bob"}, "'Ann' is 2 times in the sentence"),
        ({"text": TEXT, "tokens": ["Ann", "sang"], "head": "Ann", "tail": "sang"}, "tokens must stand in the text"),
        ({"text": TEXT, "head": "Ann"}, "tail"),
        ({"text": TEXT, "head": [0, 99], "tail": "Bob"}, r"0 <= start < end <= 34.*0, 99"),
    ],
)
def test_every_reader_refuses_alike(post, message, reader, readers):
    with pytest.raises(ValueError, match=message):
        readers[reader](post)


@pytest.mark.parametrize("kind", ["path", "Path", "bytes", "stored", "Pillow", "array", "grey"])
def test_an_image_is_the_same_in_every_form(kind, seeing, tmp_path):
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    image = image.convert("L") if kind == "grey" else image
    image.save(path := tmp_path / "a.png")
    forms = {"path": str(path), "Path": path, "bytes": path.read_bytes(), "stored": {"bytes": path.read_bytes()}}
    forms |= {"Pillow": image, "array": np.asarray(image), "grey": np.asarray(image)}
    question = {"text": TEXT, "head": "Ann", "tail": "Bob"}
    expected = seeing.processor({**question, "image": str(path)})
    found = seeing.processor({**question, "image": forms[kind]})
    asked = seeing.processor.collate([seeing.preprocess({**question, "image": forms[kind]})["encoded"]])
    for name in expected:
        assert torch.equal(found[name], expected[name]) and torch.equal(asked[name], expected[name]), name


def test_the_onnx_class_takes_no_image_and_passes_on_what_no_post_has(readers, pipe):
    question = {"text": TEXT, "head": "Ann", "tail": "Bob", "image": "a.jpg"}
    with pytest.raises(ValueError, match="takes image_features of size 8, and no image"):
        readers["ONNX"](question)
    answer = classifier(pipe, [])({**question, **FEATURES, "lang": "en"}, top_k=1)
    assert (answer["head"], answer["relation"], answer["score"]) == ("Ann", pipe.model.config.labels[2], 0.7)
    assert answer["top_k"] == [{"relation": answer["relation"], "score": 0.7}] and answer["input"] == {"lang": "en"}
