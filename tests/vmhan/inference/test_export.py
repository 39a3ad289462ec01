"""vmhan export: the exported graph answers as the model does, at other sizes than those it was traced at."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from paths import ROOT
from tiny import MODES

from vmhan import cli
from vmhan.inference.onnx import command as export_command
from vmhan.inference.onnx import exporting, runtime
from vmhan.inference.onnx.check_posts import check_batches
from vmhan.inference.onnx.classifier import OnnxRelationClassifier
from vmhan.inference.onnx.evaluation import evaluate, load_validation
from vmhan.inference.onnx.exporting import export_program, filled_tensors, largest_difference, save_onnx
from vmhan.inference.onnx.inputs import filled_inputs, input_axes
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
        fields = {
            "num_layers": 1,
            "initializer_range": 0.2,
            "calibration_temperature": 1.5,
            "none_bias": -0.4,
            **fields,
        }
        return make_model(config=make_config(preset, text_config=make_text_config(num_hidden_layers=1), **fields))

    return make


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Flags that name a small data set with `RELATIONS`."""
    folder, rows = tmp_path_factory.mktemp("data"), []
    for i, text in enumerate(TEXTS):
        first, last = text.split()[0], text.split()[-1]
        pairs = [{"head": first, "tail": last, "relation": RELATIONS[i]}]
        pairs += [{**pairs[0], "head": last, "tail": first}] * (i % 2)
        rows.append(json.dumps({"id": str(i), "text": text, "pairs": pairs}) + "\n")
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(rows))
    return f"--dataset jsonl --data_dir {folder} --cache_dir {folder / 'cache'} --visual none --use_cpu true".split()


@pytest.fixture(scope="module")
def export(make_processor, tmp_path_factory):
    """`export(model, *flags)` -> exit code of the command, and the folder, beside which lies `model`."""

    def run(model, *flags):
        folder = tmp_path_factory.mktemp("export")
        model.save_pretrained(folder / "model")
        make_processor(model.config).save_pretrained(folder / "model")
        output = [] if "--output_dir" in flags else ["--output_dir", folder / "out"]
        return cli.main(["export", *map(str, (folder / "model", *output, *flags))]), folder / "out"

    return run


@pytest.fixture(scope="module")
def packed(needs_onnx, data, make_small, export):
    """A packed model with vision, and the folder that the command made of it."""
    model = make_small(entity_representation="packed", id2label=dict(enumerate(RELATIONS)))
    code, folder = export(model, "--int8", "--evaluate", *data)
    assert code == 0
    return model, folder


def content_of(folder):
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
        encoded = [classify.encoder.encode(post, "a post") for post in stripped]
        arrays = classify.encoder.arrays(encoded)
        assert arrays.keys() == inputs.keys() and all((arrays[name] == inputs[name].numpy()).all() for name in arrays)
        torch.testing.assert_close(torch.tensor(classify.run(encoded)[0]), logits, atol=1e-4, rtol=0)
        score, best = ((logits - torch.tensor([0.4, 0, 0, 0])) / 1.5).softmax(dim=-1).max(dim=-1)
        answers = [answer for of_post in classify(batch) for answer in of_post]
        assert [answer["relation"] for answer in answers] == [RELATIONS[i] for i in best]
        assert [answer["score"] for answer in answers] == pytest.approx(score.tolist(), abs=1e-4)
        assert [len(of_post) for of_post in classify(batch)] == [len(post["pairs"]) for post in batch]
    assert classify(posts()[0]) == classify([posts()[0]])[0]


def test_a_post_without_finite_scores_is_named(packed, posts, monkeypatch):
    classify = OnnxRelationClassifier(packed[1], num_threads=1)

    def run(encoded):
        scores = [float("nan") if "short" in post.name else 0.25 for post in encoded for _ in post.pairs]
        return None, np.tile(scores, (4, 1)).T

    monkeypatch.setattr(classify, "run", run)
    with pytest.raises(ValueError, match="post 'short': the scores are not finite"):
        classify(posts())
    monkeypatch.undo()
    with pytest.raises(ValueError, match="post 'short': image_features must be finite"):
        classify([{**posts()[3], "image_features": [1e20] * 8}])


def test_an_order_blind_answer_is_about_the_pair_as_it_was_given(packed, monkeypatch):
    classify = OnnxRelationClassifier(packed[1], num_threads=1)
    labels = ["None", "contains", "contains (inverse)"]
    classify.config.labels, classify.config.label2id = labels, {label: i for i, label in enumerate(labels)}
    classify.config.order_blind = classify.encoder.order_blind = True
    # of each pair the first mention in the text contains the second
    monkeypatch.setattr(classify, "run", lambda encoded: (None, np.array([[0.1, 0.8, 0.1]] * 2)))
    pairs = [{"head": (0, 1), "tail": (2, 3)}, {"head": (2, 3), "tail": (0, 1)}]
    answers = classify({"tokens": ["Oslo", "and", "Grefsen"], "pairs": pairs})
    assert answers[0] == answers[1] and answers[0]["score"] == 0.8
    assert [answers[0][name] for name in ("head", "relation", "tail")] == ["Oslo", "contains", "Grefsen"]


def test_the_command_says_what_it_made(packed):
    model, folder = packed
    content = content_of(folder)
    assert content["largest_difference"]["model.onnx"] < 1e-4 < content["largest_difference"]["model_int8.onnx"] < 1
    assert content["bytes"] == {name: (folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    assert content["bytes"]["model_int8.onnx"] < 0.7 * content["bytes"]["model.onnx"]
    assert (content["config"]["labels"], content["calibration_temperature"], content["none_bias"]) == (
        RELATIONS,
        1.5,
        -0.4,
    )
    assert content["inputs"]["object_features"] == ["examples", "objects", model.config.visual_feature_size]
    assert not list(folder.parent.glob(".export-*"))
    files = {"processor_config.json", "processing_vmhan.py", "tokenizer.json", "config.json"}
    assert files <= {path.name for path in folder.iterdir()}
    assert set(json.loads((folder / "config.json").read_text()).get("auto_map", {})) <= {"AutoConfig"}
    assert str(ROOT).encode() not in (folder / "model.onnx").read_bytes()


def test_the_evaluation_is_that_of_the_model(packed, data, make_processor):
    model, folder = packed
    found = content_of(folder)["evaluation"]
    assert (found["split"], found["posts"], found["pairs"]) == ("validation", 4, 6)
    gold, predicted = [], []
    processor = make_processor(model.config)
    for post in load_validation(data):
        gold += [RELATIONS[pair["relation"]] for pair in post["pairs"]]
        logits = model(**processor([post])).logits - torch.tensor([0.4, 0, 0, 0])  # the none_bias
        predicted += [RELATIONS[i] for i in logits.argmax(dim=-1)]
    expected = score(gold, predicted, labels=RELATIONS, none_label="None")["f1"]
    forms = found["forms"]
    assert list(forms) == ["torch", "model.onnx", "model_int8.onnx"]
    assert forms["torch"]["f1"]["value"] == forms["model.onnx"]["f1"]["value"] == pytest.approx(expected)
    assert forms["model.onnx"]["against torch"]["f1_difference"]["difference"] == 0
    assert forms["model.onnx"]["against torch"]["largest_logit_difference"] < 1e-4
    assert forms["model.onnx"]["against torch"]["same_answers"] == 1
    changed = forms["model_int8.onnx"]["against torch"]
    assert 0 <= changed["same_answers"] <= 1 and 1e-4 < changed["largest_score_difference"] < 1
    changed = forms["model_int8.onnx"]["against model.onnx"]
    change, ratio = changed["f1_difference"], changed["time_ratio"]
    assert change["low"] <= change["difference"] <= change["high"]
    assert 0 < ratio["quartile_1"] <= ratio["median"] <= ratio["quartile_3"]


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("no_vhan", {}),
        ("gcn", {}),
        ("full", {"hypergraph_scope": "post", "entity_representation": "marker"}),
        ("hgnn", {"hypergraph_scope": "post", "entity_representation": "span", "visual_feature_size": 0}),
    ],
)
def test_models_of_other_presets_as_programs(preset, fields, make_small, make_processor):
    model = make_small(preset, **fields)
    processor = make_processor(model.config)
    assert largest_difference(model, processor, export_program(model, processor).module()) < 1e-4


def test_a_marker_model_of_text_alone_in_onnx(needs_onnx, make_small, make_processor, tmp_path):
    model = make_small("text_only", entity_representation="marker")
    processor = make_processor(model.config)
    assert save_onnx(export_program(model, processor), tmp_path / "model.onnx", opset=20) == 20
    session = onnx_session(tmp_path / "model.onnx", num_threads=1)
    assert largest_difference(model, processor, partial(run_session, session)) < 1e-4


@pytest.mark.parametrize(("mode", "scope"), [*((mode, "pair") for mode in MODES), ("packed", "post")])
def test_isolated_image_text_a_safe_start_and_sampling_in_onnx(
    mode, scope, needs_onnx, make_small, make_processor, tmp_path
):
    fields = {"image_text_visibility": "isolated", "safe_start": True, "sample_nodes": True, "none_bias": -2.0}
    fields |= {
        "type_loss_weight": 0.5,
        "none_smoothing": 0.1,
        "id2label": dict(enumerate(["/per/per/peer", "None", "b", "c"])),
    }
    model = make_small(entity_representation=mode, hypergraph_scope=scope, **fields)
    with torch.no_grad():
        for layer in model.vmhan.layers:
            layer.node_mean_value.weight.normal_(std=0.2)
        model.classifier.weight.normal_(std=0.2)
    processor = make_processor(model.config)
    save_onnx(export_program(model, processor), tmp_path / "model.onnx")
    session = onnx_session(tmp_path / "model.onnx", num_threads=1)
    assert largest_difference(model, processor, partial(run_session, session)) < 1e-4
    plain = {name: tensor for name, tensor in processor(check_batches(model)[-1]).items()}
    _, probabilities = run_session(session, filled_inputs(plain, input_axes(model.config, list(plain))))
    with torch.no_grad():
        logits = model(**plain).logits - 2.0 * torch.eye(4)[1]  # the none label is not id 0
    torch.testing.assert_close(torch.tensor(probabilities), (logits / 1.5).softmax(dim=-1), atol=1e-4, rtol=0)


def test_a_span_model_with_pairwise_hyperedges_as_a_program(make_small, make_processor, posts, object_post, export):
    model = make_small("no_hypergraph", entity_representation="span")
    code, folder = export(model, "--format", "torch_export")
    content = content_of(folder)
    assert code == 0 and list(content["bytes"]) == ["model.pt2"]
    assert content["inputs"]["text_phrase_tokens"][1] == model.config.num_text_phrases  # filled up to it
    run, processor = torch.export.load(folder / "model.pt2").module(), make_processor(model.config)
    for batch in (posts()[1:2], [object_post()], [*posts(), object_post()]):
        encoded = processor(batch)
        logits, _ = run(filled_tensors(encoded, model.config))
        torch.testing.assert_close(logits, model(**encoded).logits, atol=1e-4, rtol=0)


def test_what_cannot_become_a_graph_is_named(make_model, make_small, make_processor, make_vision_config, monkeypatch):
    def fail(*args, **kwargs):
        raise torch.onnx.OnnxExporterError("no such step")

    seeing = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    with pytest.raises(ValueError, match="--visual features"):
        export_program(seeing, make_processor(seeing.config))
    for module in (torch.export, torch.onnx):
        monkeypatch.setattr(module, "export", fail)
    model = make_small()
    with pytest.raises(ValueError, match="'bert'.*no such step"):
        export_program(model, make_processor(model.config))
    monkeypatch.setattr(exporting, "need", lambda *packages: None)
    with pytest.raises(ValueError, match="opset 9.*no such step"):
        save_onnx(SimpleNamespace(example_inputs=(({},), {})), Path("model.onnx"), opset=9)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_and_a_folder_without_export_are_named(package, monkeypatch, tmp_path):
    found = runtime.importlib.util.find_spec
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(ValueError, match=rf"\['{package}'\].*vmhan\[onnx\]"):
        quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")
    with pytest.raises(ValueError, match=r"\['export.json', 'model_int8.onnx'\].*--int8"):
        OnnxRelationClassifier(tmp_path, int8=True)


@pytest.mark.parametrize("flag", [["--int8"], ["--opset", "18"], ["--evaluate", "configs/demo.yaml"]])
def test_flags_of_onnx_go_with_onnx(flag, capsys):
    assert cli.main(["export", "model", "--output_dir", "out", "--format", "torch_export", *flag]) == 2
    assert flag[0] in capsys.readouterr().err


def test_a_model_s_own_folder_is_not_written_into(make_small, tmp_path, capsys):
    make_small().save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    assert cli.main(["export", str(tmp_path), "--output_dir", str(tmp_path)]) == 2
    assert f"received {tmp_path}" in capsys.readouterr().err
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_form_that_differs_is_not_written(make_small, export, tmp_path, monkeypatch, capsys):
    (tmp_path / "export.json").write_text("earlier")
    program = SimpleNamespace(module=lambda: None)
    monkeypatch.setattr(export_command, "export_program", lambda model, processor: program)
    monkeypatch.setattr(torch.export, "save", lambda program, path: path.write_bytes(b""))
    monkeypatch.setattr(torch.export, "load", lambda path: program)
    monkeypatch.setattr(export_command, "largest_difference", lambda *args: float("nan"))
    assert export(make_small(), "--format", "torch_export", "--output_dir", tmp_path)[0] == 2
    assert "model.pt2" in (said := capsys.readouterr().err) and "nan" in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("export.json", "earlier")]
    assert not list(tmp_path.parent.glob(".export-*"))


def test_a_model_of_diverged_weights_differs_from_whatever_is_exported(make_small, make_processor):
    model = make_small()
    model.classifier.bias.data[0] = float("nan")
    difference = largest_difference(model, make_processor(), exporting.ExportableClassifier(model.float().eval()))
    assert not difference <= exporting.TOLERANCE


def test_data_must_have_the_split_and_the_labels(data, make_small, make_processor, tmp_path):
    with pytest.raises(ValueError, match="--evaluate.*located_in"):
        evaluate(make_small(), None, load_validation(data), tmp_path, [])
    (tmp_path / "train.jsonl").write_bytes((Path(data[data.index("--data_dir") + 1]) / "train.jsonl").read_bytes())
    with pytest.raises(ValueError, match=r"validation split, received \['train'\]"):
        load_validation([*data, "--data_dir", str(tmp_path)])
