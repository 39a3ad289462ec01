"""vmhan predict --backend onnx answers as the pipeline does, in a process that has neither torch nor transformers."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
import transformers
from datasets import Dataset
from paths import ROOT

from vmhan import cli
from vmhan.inference.onnx.classifier import OnnxRelationClassifier


pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

HEAVY = ("torch", "torchvision", "transformers", "datasets", "accelerate", "safetensors")

class Absent(MetaPathFinder):  # as where they are not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
PREDICT = (
    "import sys; from vmhan.cli import main; code = main(sys.argv[1:]); print(*sorted(sys.modules)); sys.exit(code)"
)


@pytest.fixture(scope="module")
def folders(make_model, make_config, make_text_config, make_processor, tmp_path_factory):
    """A packed, order-blind model with features, types and a recipe, and what vmhan export made of it, int8 too."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("onnx")
    labels = ["/per/loc/born", "None", "/per/loc/born (inverse)", "/per/per/peer"]
    fields = {"num_layers": 1, "initializer_range": 0.2, "calibration_temperature": 1.5, "none_bias": -0.4}
    fields |= {"order_blind": True, "id2label": dict(enumerate(labels)), "entity_representation": "packed"}
    fields |= {"functional_relations": ["/per/loc/born"], "recipe": {"selector": "heuristic", "caption_phrases": 2}}
    fields["precision_table"] = {"pairs": [[0.1, 0.5, 0.9], [0.4, 0.8, 0.6]]}
    model = make_model(config=make_config(text_config=make_text_config(num_hidden_layers=1), **fields))
    model.save_pretrained(folder / "model")
    make_processor(model.config).save_pretrained(folder / "model")
    for flag in ("--int8", "--int8_only"):
        assert cli.main(["export", str(folder / "model"), "--output_dir", str(folder / f"onnx{flag}"), flag]) == 0
    return folder


def rows(posts, object_post):
    """Questions in all forms that an exported model answers, and bad ones of each kind."""
    plain = [
        {**post, "pairs": [{**pair, "relation": None} for pair in post["pairs"]]} for post in [*posts(), object_post()]
    ]
    text = "Ann met Bob in Paris with the Zulu band"
    given = {"text": text, "head": "Bob", "tail": "Ann", "caption": "a red car next to a big stage", "likes": 3}
    mentions = {"text": text, "mentions": ["Ann", "Bob", "Paris"], "id": "facts"}
    long = {"text": " ".join([text] * 20), "head": [0, 3], "tail": [8, 11]}
    bad = [{"text": text, "head": "Zoe", "tail": "Bob", "id": "who"}, {"text": text}, {"text": text, "pairs": []}]
    bad += [{**given, "image": "a.png"}, {**given, "image_features": [1e20] * 8}, {**given, "image_features": [1.0]}]
    return [*plain, given, mentions, long, *bad, {"tokens": text.split(), "head": [2, 3], "tail": "Ann"}]


@pytest.fixture
def questions(posts, object_post, tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(posts, object_post)), encoding="utf-8")
    return path


def command_of(model, questions, output, backend="onnx"):
    """What follows `vmhan predict`."""
    return [str(model), str(questions), "--output", str(output), "--backend", backend]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def close(found, expected, tolerance=1e-4):
    """The same keys, texts and whole numbers, and nearly the same fractions."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    is_fraction = isinstance(expected, float)
    return type(found) is type(expected) and (abs(found - expected) < tolerance if is_fraction else found == expected)


@pytest.mark.parametrize("flags", [[], ["--all_pairs", "--with_post"], ["--min_precision", "0.75", "--top_k", "2"]])
def test_the_answers_and_errors_are_those_of_the_pipeline(flags, folders, questions, tmp_path):
    found = {}
    for backend, model in (("torch", "model"), ("onnx", "onnx--int8")):
        output = tmp_path / f"{backend}.jsonl"
        command = [*command_of(folders / model, questions, output, backend), *flags]
        image = tmp_path / "a.png"
        image.write_bytes((ROOT / "docs" / "images" / "hypergraph.png").read_bytes())
        assert cli.main(["predict", *command]) == 1
        found[backend] = lines_of(output), lines_of(output.with_suffix(".errors.jsonl"))
    (answers, errors), (expected, wrong) = found["onnx"], found["torch"]
    assert errors == wrong and len(errors) == 6
    assert close(answers, expected) and len(answers) > 10
    assert len({row["relation"] for row in expected}) > 1


@pytest.mark.parametrize("setup", ["", WITHOUT], ids=["installed", "absent"])
@pytest.mark.parametrize(
    ("folder", "flags"), [("onnx--int8", []), ("onnx--int8", ["--int8"]), ("onnx--int8_only", [])]
)
def test_the_process_needs_no_torch(setup, folder, flags, folders, questions, tmp_path):
    output = tmp_path / "out.jsonl"
    command = [*command_of(folders / folder, questions, output), *flags]
    done = subprocess.run(
        [sys.executable, "-c", setup + PREDICT, "predict", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]
    heavy = {"torch", "torchvision", "transformers", "datasets", "accelerate", "pandas", "pyarrow"}
    assert "onnxruntime" in done.stdout.split() and not heavy & set(done.stdout.split())
    assert len(lines_of(output.with_suffix(".errors.jsonl"))) == 6
    state = json.loads((tmp_path / "out.jsonl.state.json").read_text())
    assert state["rows"] == len(questions.read_text().splitlines()) and state["fingerprint"]["backend"] == "onnx"


def test_the_int8_model_is_smaller_and_answers_nearly_alike(folders, questions):
    names = {path.name for path in (folders / "onnx--int8_only").iterdir()}
    assert "model_int8.onnx" in names and "model.onnx" not in names
    content = json.loads((folders / "onnx--int8_only" / "export.json").read_text())
    assert list(content["bytes"]) == ["model_int8.onnx"] and len(content["largest_difference"]) == 2
    good = [row for row in lines_of(questions) if row.get("id") in ("everything", "no image", "short", "facts")]
    both = [OnnxRelationClassifier(folders / "onnx--int8", int8=int8, num_threads=1)(good) for int8 in (False, True)]
    alone = OnnxRelationClassifier(folders / "onnx--int8_only", num_threads=1)(good)
    assert alone == both[1] != both[0]
    scores = [[pair["score"] for pair in sum(of[:3], [])] for of in both]
    assert max(abs(a - b) for a, b in zip(*scores, strict=True)) < 0.25


def test_a_run_goes_on_and_no_other_model_goes_on_with_it(folders, questions, tmp_path, capsys, monkeypatch):
    command = command_of(folders / "onnx--int8", questions, tmp_path / "out.jsonl")
    asked = []
    real = OnnxRelationClassifier.__call__

    def killed(self, posts, **options):
        asked.append(len(posts))
        if len(asked) == 2:
            raise MemoryError
        return real(self, posts, **options)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(OnnxRelationClassifier, "__call__", killed)
        cli.main(["predict", *command, "--batch_size", "2"])
    assert cli.main(["predict", *command, "--batch_size", "2", "--int8"]) == 2
    assert "weights (" in capsys.readouterr().err
    assert cli.main(["predict", *command, "--batch_size", "2"]) == 1
    assert {row["row"] for row in lines_of(tmp_path / "out.jsonl")} >= {1, 2, 3, 4, 5}
    assert cli.main(["predict", str(folders / "model"), *command[1:-2], "--batch_size", "2"]) == 2
    assert "backend (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "cpu"], "--device: expected --backend torch.*cpu"),
        (["--detector", "none"], "--detector: expected --backend torch.*none"),
        (["--trust_remote_code"], "--trust_remote_code: expected --backend torch"),
        (["--engine", "ray"], "--engine: expected --backend torch.*ray"),
        (["--dry_run"], "--dry_run: expected --backend torch"),
        (["--num_samples", "8"], "num_samples: .*samples.*num_samples=8"),
        (["--backend", "torch", "--int8"], "--int8: expected --backend onnx"),
        (["--min_score", "0.5", "--all_pairs"], "--min_score: expected --all_pairs False.* 0.5 .*True"),
        (["--backend", "torch"], "--backend: expected onnx .* received torch"),
        (["--abstain_below", "2"], "abstain_below must be .*received float: 2.0"),
    ],
)
def test_flags_that_do_not_go_with_the_backend_are_named(flags, said, folders, questions, tmp_path, capsys):
    command = command_of(folders / "onnx--int8", questions, tmp_path / "out.jsonl")
    assert cli.main(["predict", *command, *flags]) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize("option", [{"num_samples": 8}, {"explain": True}, {"seed": 1}])
def test_options_of_the_model_itself_are_refused(option, folders):
    with pytest.raises(ValueError, match=f"{next(iter(option))}.*received"):
        OnnxRelationClassifier(folders / "onnx--int8")({"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}, **option)
    assert OnnxRelationClassifier(folders / "onnx--int8", num_samples=0).defaults == {}
    with pytest.raises(ValueError, match=r"among \['top_k'.*received \['top'\]"):
        OnnxRelationClassifier(folders / "onnx--int8", top=3)


def test_a_finder_names_the_mentions_of_raw_posts(folders):
    find = lambda text: [(0, 3, "per", 0.5), (8, 11, "per", 1.0), (15, 20, "loc", 1.0)]  # noqa: E731
    text, options = "Ann met Bob in Paris", {"mentions": find, "all_pairs": True, "type_constraints": True}
    found = OnnxRelationClassifier(folders / "onnx--int8", num_threads=1)(text, **options)
    expected = transformers.pipeline(model=str(folders / "model"), device="cpu")(text, **options)
    assert close(found, expected) and len(found) == 3


def test_posts_come_as_the_pipeline_takes_them(folders):
    classify = OnnxRelationClassifier(folders / "onnx--int8", num_threads=1)
    posts = [{"text": "Ann met Bob", "head": head, "tail": tail} for head, tail in (("Ann", "Bob"), ("Bob", "Ann"))]
    expected = classify(posts, batch_size=1)
    frame = pd.DataFrame(posts, index=[7, 7])
    for given in (posts, tuple(posts), iter(posts), frame, Dataset.from_list(posts)):
        assert classify(given, batch_size=1) == expected
    assert classify(frame.iloc[0]) == expected[0] and classify([]) == classify(iter([])) == []
    with pytest.raises(ValueError, match="input 1: .*Zoe"):
        classify([posts[0], {**posts[1], "head": "Zoe"}], batch_size=1)
    with pytest.raises(ValueError, match="received int: 7"):
        classify(7)
    with pytest.raises(ValueError, match="mentions must be a function.*find_mention_finder.*received str"):
        classify("Ann met Bob", mentions="dslim/bert-base-NER")


def test_an_export_of_before_is_named(folders, tmp_path):
    for path in (folders / "onnx--int8").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = json.loads((tmp_path / "export.json").read_text())
    del content["processor"]
    (tmp_path / "export.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="export.json: .*'processor'.*vmhan export MODEL"):
        OnnxRelationClassifier(tmp_path)
