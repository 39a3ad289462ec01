"""vmhan export: the exported graph answers as the model does, at other sizes than those it was traced at."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from paths import ROOT

from vmhan import cli
from vmhan.inference.onnx import command as export_command
from vmhan.inference.onnx import exporting, runtime
from vmhan.inference.onnx.classifier import OnnxRelationClassifier
from vmhan.inference.onnx.exporting import ExportableClassifier, export_program, largest_difference, save_onnx
from vmhan.inference.onnx.inputs import check_batches, filled_inputs, input_axes
from vmhan.inference.onnx.runtime import onnx_session, quantise, run_session
from vmhan.scoring.scorer import score


RELATIONS = ["None", "located_in", "member_of", "peer"]
TEXTS = ["Ann met Bob in Paris", "Ann played with the band", "Bob and the band at night", "Ann , Bob and Paris"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


@pytest.fixture(scope="module")
def make_small(make_model, make_config, make_text_config):
    """As `make_model`, with one layer each: tracing takes the time that the number of operators takes."""

    def make(preset="full", **fields):
        fields = {"num_layers": 1, "initializer_range": 0.2, "calibration_temperature": 1.5, **fields}
        return make_model(config=make_config(preset, text_config=make_text_config(num_hidden_layers=1), **fields))

    return make


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Flags that name a small data set with `RELATIONS`."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for i, text in enumerate(TEXTS):
        first, last = text.split()[0], text.split()[-1]
        pairs = [{"head": first, "tail": last, "relation": RELATIONS[i]}]
        rows.append(
            {"id": str(i), "text": text, "pairs": pairs + [{**pairs[0], "head": last, "tail": first}] * (i % 2)}
        )
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = {"dataset": "jsonl", "data_dir": folder, "cache_dir": folder / "cache", "no_visual": "true"}
    return [text for name, value in flags.items() for text in (f"--{name}", str(value))] + ["--use_cpu", "true"]


@pytest.fixture(scope="module")
def packed(needs_onnx, data, make_small, make_processor, tmp_path_factory):
    """A packed model with vision, and the folder that the command made of it."""
    folder = tmp_path_factory.mktemp("packed")
    model = make_small(entity_representation="packed", id2label=dict(enumerate(RELATIONS)))
    save(model, make_processor, folder / "model")
    flags = ["--output_dir", str(folder / "out"), "--int8", "--evaluate", *data]
    assert export_command.main([str(folder / "model"), *flags]) == 0
    return model, folder / "out"


def save(model, make_processor, folder):
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)


def facts_of(folder):
    return json.loads((folder / "export.json").read_text())


def test_the_classifier_answers_as_the_model_does(packed, posts, object_post, encode):
    model, folder = packed
    classify = OnnxRelationClassifier(folder, num_threads=1)
    batches = [[post] for post in [*posts(), object_post()]] + [[*posts(), object_post(), *posts()[::-1]]]
    for batch in batches:
        stripped = [{**post, "pairs": [{**pair, "relation": "None"} for pair in post["pairs"]]} for post in batch]
        inputs = {name: tensor for name, tensor in encode(model, stripped).items() if name != "labels"}
        with torch.no_grad():
            logits = model(**inputs).logits
        torch.testing.assert_close(torch.tensor(classify.run(inputs)[0]), logits, atol=1e-4, rtol=0)
        score, best = (logits / 1.5).softmax(dim=-1).max(dim=-1)
        answers = [answer for of_post in classify(batch) for answer in of_post]
        assert [answer["relation"] for answer in answers] == [RELATIONS[i] for i in best]
        assert [answer["score"] for answer in answers] == pytest.approx(score.tolist(), abs=1e-4)
        assert [len(of_post) for of_post in classify(batch)] == [len(post["pairs"]) for post in batch]
    assert classify(posts()[0]) == classify([posts()[0]])[0]


def test_the_command_says_what_it_made(packed):
    model, folder = packed
    facts = facts_of(folder)
    assert facts["largest_difference"]["model.onnx"] < 1e-4 < facts["largest_difference"]["model_int8.onnx"] < 1
    assert facts["bytes"] == {name: (folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    assert facts["bytes"]["model_int8.onnx"] < 0.7 * facts["bytes"]["model.onnx"]
    assert (facts["labels"], facts["calibration_temperature"]) == (RELATIONS, 1.5)
    assert facts["inputs"]["object_features"] == ["examples", "objects", model.config.visual_feature_size]
    assert not list(folder.parent.glob(".export-*"))
    assert {"processor_config.json", "processing_vmhan.py", "tokenizer.json", "config.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert set(json.loads((folder / "config.json").read_text()).get("auto_map", {})) <= {"AutoConfig"}
    assert str(ROOT).encode() not in (folder / "model.onnx").read_bytes()


def test_the_evaluation_is_that_of_the_model(packed, data, make_processor):
    model, folder = packed
    found = facts_of(folder)["evaluation"]
    assert (found["split"], found["posts"], found["pairs"]) == ("validation", 4, 6)
    gold, predicted = [], []
    processor = make_processor(model.config)
    for post in export_command.load_validation(data):
        gold += [RELATIONS[pair["relation"]] for pair in post["pairs"]]
        predicted += [RELATIONS[i] for i in model(**processor([post])).logits.argmax(dim=-1)]
    expected = score(gold, predicted, labels=RELATIONS, none_label="None")["f1"]
    forms = found["forms"]
    assert list(forms) == ["torch", "model.onnx", "model_int8.onnx"]
    assert forms["torch"]["f1"]["value"] == forms["model.onnx"]["f1"]["value"] == pytest.approx(expected)
    assert forms["model.onnx"]["against torch"]["f1_difference"]["difference"] == 0
    assert forms["model.onnx"]["against torch"]["largest_logit_difference"] < 1e-4
    changed = forms["model_int8.onnx"]["against model.onnx"]
    assert (
        changed["f1_difference"]["low"] <= changed["f1_difference"]["difference"] <= changed["f1_difference"]["high"]
    )
    ratio = changed["time_ratio"]
    assert 0 < ratio["quartile_1"] <= ratio["median"] <= ratio["quartile_3"]


def test_a_marker_model_of_text_alone_in_onnx(needs_onnx, make_small, make_processor, tmp_path):
    fields = {"visual_feature_size": 0, "num_text_phrases": 0, "num_image_phrases": 0}
    model = make_small("no_vhan", entity_representation="marker", **fields)
    processor = make_processor(model.config)
    assert save_onnx(export_program(model, processor), tmp_path / "model.onnx", opset=20) == 20
    session = onnx_session(tmp_path / "model.onnx", num_threads=1)
    assert largest_difference(model, processor, partial(run_session, session)) < 1e-4


def test_a_span_model_with_pairwise_hyperedges_as_a_program(make_small, make_processor, posts, object_post, tmp_path):
    model = make_small("no_hypergraph", entity_representation="span")
    save(model, make_processor, tmp_path / "model")
    arguments = ["export", str(tmp_path / "model"), "--output_dir", str(tmp_path / "out"), "--format", "torch_export"]
    assert cli.main(arguments) == 0
    facts = facts_of(tmp_path / "out")
    assert list(facts["bytes"]) == ["model.pt2"]
    assert facts["inputs"]["text_phrase_tokens"][1] == model.config.num_text_phrases  # filled up to it
    run, processor = torch.export.load(tmp_path / "out" / "model.pt2").module(), make_processor(model.config)
    for batch in (posts()[1:2], [object_post()], [*posts(), object_post()]):
        encoded = processor(batch)
        logits, _ = run(**filled_inputs(encoded, facts["inputs"]))
        torch.testing.assert_close(logits, model(**encoded).logits, atol=1e-4, rtol=0)


def test_filling_up_changes_no_answer_and_leaves_no_axis_empty(make_small, make_processor):
    model = make_small()
    processor = make_processor(model.config)
    for posts in check_batches(model):
        encoded = processor(posts)
        filled = filled_inputs(encoded, input_axes(model.config, list(encoded)))
        assert all(0 not in tensor.shape for tensor in filled.values())
        torch.testing.assert_close(model(**filled).logits, model(**encoded).logits, atol=1e-5, rtol=0)


def test_exporting_leaves_the_model_as_it_is(make_small, make_processor, monkeypatch):
    model = make_small()
    norm = model.base_model.visual_projection.feature_norm
    monkeypatch.setattr(torch.export, "export", lambda *args, **kwargs: None)
    export_program(model, make_processor(model.config))
    assert model.base_model.visual_projection.feature_norm is norm


def test_float64_features_are_those_of_the_model(make_small):
    model = make_small()
    features = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 3, dtype=torch.bool)
    expected = model.base_model.visual_projection(features, mask)
    with exporting.precise_features(model):
        received = model.base_model.visual_projection(features, mask)
        assert received.dtype == torch.float32
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=0)


def test_probabilities_are_calibrated(make_small, make_processor):
    model = make_small()
    logits, probabilities = ExportableClassifier(model)(**make_processor(model.config)(check_batches(model)[0]))
    torch.testing.assert_close(probabilities, (logits / 1.5).softmax(dim=-1))


# what goes wrong -----------------------------------------------------------------------------------------------------


def test_a_vision_encoder_inside_is_refused(make_model, make_processor, make_vision_config):
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    with pytest.raises(ValueError, match="vision_in_model false"):
        export_program(model, make_processor(model.config))


def test_what_cannot_be_traced_is_named(make_small, make_processor, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("data-dependent")

    model = make_small()
    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(ValueError, match="text encoder 'bert'.*RuntimeError: data-dependent.*transformers.pipeline"):
        export_program(model, make_processor(model.config))


def test_an_opset_without_this_graph_is_named(needs_onnx, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise torch.onnx.OnnxExporterError("no such operator")

    class Program:
        example_inputs = ((), {"input_ids": None})

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ValueError, match="opset 9.*no such operator.*another --opset"):
        save_onnx(Program(), tmp_path / "model.onnx", opset=9)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package, monkeypatch, tmp_path):
    found = runtime.importlib.util.find_spec
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ValueError, match=rf"missing \['{package}'\]: pip install 'vmhan\[onnx\]'"):
        quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.mark.parametrize("flag", [["--int8"], ["--opset", "18"], ["--evaluate", "configs/demo.yaml"]])
def test_flags_of_onnx_go_with_onnx(flag, capsys):
    with pytest.raises(SystemExit):
        export_command.parse_arguments(["model", "--output_dir", "out", "--format", "torch_export", *flag])
    assert f"{flag[0]}: expected --format onnx" in capsys.readouterr().err


def test_a_model_s_own_folder_is_not_written_into(make_small, make_processor, tmp_path, capsys):
    save(make_small(), make_processor, tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_bytes()
    arguments = [
        "export",
        str(tmp_path / "model"),
        "--output_dir",
        str(tmp_path / "model"),
        "--format",
        "torch_export",
    ]
    assert cli.main(arguments) == 2
    assert "expected a folder of its own, received" in capsys.readouterr().err
    assert (tmp_path / "model" / "config.json").read_bytes() == before


def test_a_form_that_differs_is_not_written(make_small, make_processor, tmp_path, monkeypatch, capsys):
    save(make_small(), make_processor, tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text("earlier")
    monkeypatch.setattr(export_command, "export_program", lambda model, processor: _Program())
    monkeypatch.setattr(torch.export, "save", lambda program, path: path.write_bytes(b""))
    monkeypatch.setattr(torch.export, "load", lambda path: _Program())
    monkeypatch.setattr(export_command, "largest_difference", lambda *args: float("nan"))
    arguments = ["export", str(tmp_path / "model"), "--output_dir", str(tmp_path / "out"), "--format", "torch_export"]
    assert cli.main(arguments) == 2
    assert "model.pt2: expected logits and probabilities within 0.0001" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["export.json"]
    assert (tmp_path / "out" / "export.json").read_text() == "earlier"
    assert not list(tmp_path.glob(".export-*"))


class _Program:
    def module(self):
        return lambda **inputs: None


def test_data_must_have_the_split_and_the_labels(data, make_small, make_processor, tmp_path):
    with pytest.raises(ValueError, match="expected data with the model's labels.*Name the data"):
        posts, model = export_command.load_validation(data), make_small()
        export_command.evaluate(model, make_processor(model.config), posts, tmp_path)
    folder = tmp_path / "train only"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes((Path(data[data.index("--data_dir") + 1]) / "train.jsonl").read_bytes())
    with pytest.raises(ValueError, match=r"validation split, received \['train'\]"):
        export_command.load_validation([*data, "--data_dir", str(folder)])


def test_a_folder_that_is_no_export_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"without \['export.json', 'model_int8.onnx'\].*--int8"):
        OnnxRelationClassifier(tmp_path, int8=True)
