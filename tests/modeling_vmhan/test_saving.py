"""Pretrained text encoders in, saved folders out: exact, through the Auto classes, and as remote code."""

import json
import math
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import AUTO_MAP, LABELS, close, without_labels
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

import modeling_vmhan
from modeling_vmhan import PRESETS, VMHANConfig, VMHANForRelationClassification, VMHANModel, VMHANProcessor
from modeling_vmhan.pipeline_vmhan import TASK
from modeling_vmhan.weights import load_region_encoder


ALL_PRESETS = pytest.mark.parametrize("preset", PRESETS)


@pytest.fixture
def text_encoder(make_text_config):
    torch.manual_seed(5)
    return AutoModel.from_config(make_text_config(vocab_size=300))


@pytest.mark.parametrize("given", ["model", "folder"])
@pytest.mark.parametrize("cls", [VMHANModel, VMHANForRelationClassification])
def test_the_encoders_weights_are_kept(cls, given, text_encoder, tmp_path):
    expected = {name: value.clone() for name, value in text_encoder.state_dict().items() if "pooler" not in name}
    text_encoder.save_pretrained(tmp_path)
    source = text_encoder if given == "model" else str(tmp_path)
    model = cls.from_text_encoder(source, visual_feature_size=8)
    kept = model.base_model.text_encoder.state_dict()
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert model.config.hidden_size == 32 and not model.training


def test_the_vocabulary_grows_and_is_saved(text_encoder, tmp_path):
    before = text_encoder.get_input_embeddings().weight.clone()
    model = VMHANForRelationClassification.from_text_encoder(text_encoder, vocab_size=304, visual_feature_size=8)
    grown = model.get_input_embeddings().weight
    assert grown.shape == (304, 32) and torch.equal(grown[:300], before)
    assert grown[300:].isfinite().all()
    assert model.config.text_config.vocab_size == 304
    model.save_pretrained(tmp_path)
    loaded = VMHANForRelationClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_input_embeddings().weight, grown)


def test_a_config_is_kept_but_for_the_encoders_own(text_encoder, make_config):
    config = make_config("no_kl", num_layers=3)
    model = VMHANForRelationClassification.from_text_encoder(text_encoder, config)
    assert (model.config.kl_loss_weight, model.config.num_layers) == (0.0, 3)
    assert model.config.label2id == config.label2id
    assert model.config.text_config.vocab_size == 300 and config.text_config.vocab_size == 400


def test_a_half_precision_encoder_joins_a_full_precision_model(text_encoder, encode, posts, tmp_path):
    """transformers loads a checkpoint in the type it was saved in; DeBERTa-v3's is float16."""
    text_encoder.resize_token_embeddings(400)
    text_encoder.half().save_pretrained(tmp_path)
    fields = {"visual_feature_size": 8, "id2label": {0: "peer", 1: "None", 2: "member_of", 3: "located_in"}}
    model = VMHANForRelationClassification.from_text_encoder(str(tmp_path), **fields)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    logits = model(**encode(model, posts())).logits
    model.save_pretrained(tmp_path / "saved")
    loaded = VMHANForRelationClassification.from_pretrained(tmp_path / "saved")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    close(loaded(**encode(loaded, posts())).logits, logits)


@ALL_PRESETS
def test_save_and_load_are_exact(preset, make_model, predict, posts, tmp_path):
    model = make_model(preset)
    model.save_pretrained(tmp_path)
    loaded, report = VMHANForRelationClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training
    close(predict(loaded, posts()), predict(model, posts()), tolerance=0)


def test_the_base_model_reads_the_classifiers_folder(make_model, encode, posts, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    base = VMHANModel.from_pretrained(tmp_path)
    inputs = without_labels(encode(model, posts()))
    close(base(**inputs).node_mean, model.vmhan(**inputs).node_mean, tolerance=0)


def test_new_layers_are_initialised_as_the_config_says(make_config):
    torch.manual_seed(0)
    model = VMHANForRelationClassification(make_config(initializer_range=0.05))
    own = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "text_encoder" not in n]
    assert len(own) > 10
    for linear in own:
        assert math.isclose(linear.weight.std().item(), 0.05, rel_tol=0.25)
        assert linear.bias is None or not linear.bias.any()


# Runs where the package and everything but torch, torchvision, transformers and pillow are not installed: one process
# for all folders, as importing torch takes most of the time. Arguments: (folder, posts by name, picture, out) as JSON.
STRANGER = """
import importlib.util, json, sys

for name in ("modeling_vmhan", "vmhan", "datasets", "evaluate", "sklearn", "accelerate", "matplotlib", "scipy"):
    assert importlib.util.find_spec(name) is None, name

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, AutoTokenizer
from transformers import pipeline

trusted = {"trust_remote_code": True}
for folder, posts, picture, out in json.load(open(sys.argv[1])):
    processor = AutoProcessor.from_pretrained(folder, **trusted)
    tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
    assert tokenizer("Ann met [E1] Bob").input_ids == processor.tokenizer("Ann met [E1] Bob").input_ids
    config = AutoConfig.from_pretrained(folder, **trusted)
    batches = {name: processor(batch) for name, batch in posts.items()}
    logits = {}
    for auto, options in (
        (AutoModel, {}),
        (AutoModelForSequenceClassification, {}),
        (AutoModelForSequenceClassification, {"attn_implementation": "eager"}),
        (AutoModelForSequenceClassification, {"dtype": "bfloat16"}),
    ):
        model = auto.from_pretrained(folder, **trusted, **options)
        assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
        assert not model.training
        with torch.no_grad():
            of_batch = {name: model(**inputs).logits.float() for name, inputs in batches.items()}
        logits[f"{auto.__name__} {options}"] = of_batch
    posts = posts["features"]
    pipe = pipeline(model=folder, device="cpu", **trusted)
    assert type(pipe).__module__.startswith("transformers_modules."), type(pipe).__module__
    assert type(pipeline(config.to_dict()["custom_pipelines"].popitem()[0], model=folder, **trusted)) is type(pipe)
    first = {"text": "Ann met Bob in Paris", "head": "Ann", "tail": "Bob", "image": picture}
    answers = [*pipe(posts, batch_size=3, top_k=None), pipe({**first, "image_features": posts[0]["image_features"]})]
    pipe(posts[0], explain=True)[0]["explanation"]["picture"].save(out + "/picture.png")
    pipe.save_pretrained(out + "/again")  # what a stranger saves still carries its code
    model.save_pretrained(out + "/model")
    if not out.endswith("before"):  # whose code saved no base model
        model.base_model.save_pretrained(out + "/base")
        assert type(AutoModel.from_pretrained(out + "/base", **trusted)).__name__ == "VMHANModel"
    torch.save(logits, out + "/logits.pt")
    json.dump(answers, open(out + "/answers.json", "w"))
"""

BEFORE = Path(__file__).parents[1] / "data" / "saved_before_the_move"


@pytest.fixture(scope="module")
def pixel_posts(posts, tmp_path_factory):
    """A post with the path of an image and two boxes, and one without image; JSON-able."""
    path = tmp_path_factory.mktemp("images") / "gradient.png"
    Image.radial_gradient("L").save(path)
    visual = {"image": str(path), "boxes": [[0, 0, 90, 200], [128, 128, 256, 256]]}
    return [{**{name: value for name, value in posts()[3].items() if "features" not in name}, **visual}, posts()[1]]


@pytest.fixture(scope="module")
def published(make_model, make_processor, make_vision_config, predict, posts, pixel_posts, tmp_path_factory):
    """(folder as pushed to the Hub, logits of posts with features, logits of posts with pixels)."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    return folder, predict(model, posts()), predict(model, pixel_posts)


@pytest.fixture(scope="module")
def saved_before(tmp_path_factory):
    """A folder that `make demo` wrote before the move, its own code in it, in tiny sizes; the weights are random."""
    folder = tmp_path_factory.mktemp("before") / "model"
    shutil.copytree(BEFORE, folder)
    with zipfile.ZipFile(folder / "code.zip") as code:
        code.extractall(folder)
    torch.manual_seed(3)
    model = VMHANForRelationClassification(VMHANConfig.from_pretrained(folder))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def of_posts(make_model, make_processor, tmp_path_factory):
    """A published folder whose model has one hypergraph a post, and the model."""
    folder = tmp_path_factory.mktemp("of_posts") / "model"
    model = make_model(hypergraph_scope="post", entity_representation="packed")
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    return folder, model


@pytest.fixture(scope="module")
def strangers_output(published, saved_before, of_posts, posts, pixel_posts, run_stranger, tmp_path_factory):
    """The folder into which a stranger wrote what it got of the published folders, and of the one saved before."""
    out = tmp_path_factory.mktemp("stranger")
    Image.effect_noise((64, 48), 90).save(out / "photo.png")
    cases = {"published": (published[0], {"features": posts(), "pixels": pixel_posts})}
    cases["before"] = (saved_before, {"features": posts()})
    cases["of_posts"] = (of_posts[0], {"features": posts()})
    for name in cases:
        (out / name).mkdir()
    arguments = [[str(f), given, str(out / "photo.png"), str(out / name)] for name, (f, given) in cases.items()]
    (out / "arguments.json").write_text(json.dumps(arguments))
    run_stranger(STRANGER, out / "arguments.json")
    return out


def check_answers(folder, expected):
    """The pipeline's probabilities are the model's, and the picture is there."""
    answers = json.loads((folder / "answers.json").read_text())
    for answer, of_pair in zip(sum(answers[:-1], []), expected.softmax(dim=-1), strict=True):
        ranked = of_pair.sort(descending=True).values.tolist()
        assert [entry["score"] for entry in answer["top_k"]] == pytest.approx(ranked, abs=1e-5)
    assert answers[-1]["head"] == "Ann" and answers[-1]["tail"] == "Bob"
    assert (folder / "picture.png").stat().st_size > 1000


def test_the_folder_carries_every_file_of_code_it_needs(published):
    code = {path.stem for path in published[0].glob("*.py")}
    assert code == {path.stem for path in Path(modeling_vmhan.__file__).parent.glob("*.py")} - {
        "__init__",
        "registration",
    }
    config = json.loads((published[0] / "config.json").read_text())
    assert config["auto_map"] == AUTO_MAP
    assert config["custom_pipelines"][TASK]["impl"] == "pipeline_vmhan.MultimodalRelationClassificationPipeline"


def test_remote_code_loads_where_the_package_is_not_installed(published, strangers_output):
    """All Auto classes and the pipeline, with the same answers as here; and what is saved there is complete."""
    folder, expected, expected_of_pixels = published
    out = strangers_output / "published"
    for how, logits in torch.load(out / "logits.pt", weights_only=True).items():
        tolerance = 0.3 if "bfloat16" in how else 1e-5
        close(logits["features"], expected, tolerance=tolerance)
        # the vision encoder may compute in bfloat16, which attention by hand ("eager") rounds at other places
        close(logits["pixels"], expected_of_pixels, tolerance=max(tolerance, 2**-7) if "eager" in how else tolerance)
    check_answers(out, expected)
    original = json.loads((folder / "config.json").read_text())
    for saved in (out / "again", out / "model"):
        config = json.loads((saved / "config.json").read_text())
        assert (config["auto_map"], config["custom_pipelines"]) == (AUTO_MAP, original["custom_pipelines"])
        assert {path.name for path in saved.glob("*.py")} == {path.name for path in folder.glob("*.py")}
    assert type(AutoProcessor.from_pretrained(out / "again")) is VMHANProcessor


def test_a_folder_saved_before_the_move_loads(saved_before, strangers_output, posts):
    config, given = AutoConfig.from_pretrained(saved_before), posts()
    assert type(config) is VMHANConfig and config.labels[3] == "/per/per/peer"
    model, processor = AutoModel.from_pretrained(saved_before), AutoProcessor.from_pretrained(saved_before)
    assert (type(model), type(processor)) == (VMHANForRelationClassification, VMHANProcessor)
    with torch.no_grad():
        expected = model(**processor(given)).logits
    out = strangers_output / "before"
    for how, logits in torch.load(out / "logits.pt", weights_only=True).items():
        close(logits["features"], expected, tolerance=0.3 if "bfloat16" in how else 1e-5)
    check_answers(out, expected)


def test_a_model_of_posts_answers_a_stranger_alike(of_posts, strangers_output, predict, posts):
    expected, out = predict(of_posts[1], posts()), strangers_output / "of_posts"
    for how, logits in torch.load(out / "logits.pt", weights_only=True).items():
        close(logits["features"], expected, tolerance=0.3 if "bfloat16" in how else 1e-5)
    check_answers(out, expected)


def test_a_saved_configuration_names_no_place_of_this_machine(make_text_config, make_vision_config, tmp_path):
    """Whether the encoders came from a folder or the model itself did, and was saved again."""
    for name, config in (("text", make_text_config()), ("vision", make_vision_config())):
        AutoModel.from_config(config).save_pretrained(tmp_path / name)
    vision = load_region_encoder("transformers", str(tmp_path / "vision"))
    fields = {"vision_encoder": "transformers", "vision": vision}
    model = VMHANForRelationClassification.from_text_encoder(str(tmp_path / "text"), **fields)
    assert model.config.text_config.name_or_path == str(tmp_path / "text")
    for _ in range(2):
        model.save_pretrained(tmp_path / "model")
        saved = (tmp_path / "model" / "config.json").read_text()
        assert str(tmp_path) not in saved and "_name_or_path" not in saved
        model = VMHANForRelationClassification.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("fields", "labels"),
    [
        ({"num_labels": 3}, ["None", "LABEL_1", "LABEL_2"]),
        ({"num_labels": 3, "none_label": "NA"}, ["NA", "LABEL_1", "LABEL_2"]),
        ({"id2label": {0: "friend", 1: "NA"}}, ["friend", "NA"]),
        ({"label2id": {"NA": 0, "friend": 1}}, ["NA", "friend"]),
        ({"id2label": {0: "a", 1: "None"}, "label2id": {"a": 0, "None": 1}, "num_labels": 2}, ["a", "None"]),
        ({"num_labels": 4}, LABELS),  # as many as are saved: these are kept, and nothing is fresh
    ],
)
def test_fine_tuning_starts_with_fresh_labels(fields, labels, published, make_processor, posts):
    """Only the classifier's last layer is new; everything else is the saved model's."""
    options = {"ignore_mismatched_sizes": True, "output_loading_info": True}
    model, report = VMHANForRelationClassification.from_pretrained(published[0], **fields, **options)
    fresh = [] if labels == LABELS else ["classifier.bias", "classifier.weight"]
    assert sorted(name for name, *_ in report["mismatched_keys"]) == fresh
    assert model.config.labels == labels and model.config.num_labels == model.classifier.out_features == len(labels)
    assert model.config.none_label in labels
    given = posts()
    for post in given:
        for pair in post["pairs"]:
            pair["relation"] = labels[-1]
    output = model.train()(**make_processor(model.config)(given, label2id=model.config.label2id))
    output.loss.backward()
    assert output.logits.shape == (6, len(labels)) and model.classifier.weight.grad.any()
    before = VMHANForRelationClassification.from_pretrained(published[0])
    weights = [each.vmhan.gaussian_nodes.mean_projection.weight for each in (model, before)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_a_published_folder_needs_no_trust_where_the_package_is_installed(auto, published, encode, posts):
    folder, expected, _ = published
    model = auto.from_pretrained(folder)
    assert type(model) is VMHANForRelationClassification
    with torch.no_grad():
        close(model(**encode(model, posts())).logits, expected, tolerance=0)


@pytest.mark.parametrize(
    "damaged", [lambda data: data[:-100], lambda data: bytes(64) + data[64:], lambda data: b""], ids=range(3)
)
def test_damaged_weights_are_a_clear_error(damaged, published, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(published[0], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(damaged(weights.read_bytes()))
    message = r"the weights of '.*broken' are damaged \(.*header.*\): copy model.safetensors again"
    for load in (VMHANForRelationClassification, AutoModel, AutoModelForSequenceClassification):
        with pytest.raises(OSError, match=message):
            load.from_pretrained(broken)
    with pytest.raises(Exception, match=message):  # transformers wraps it in one of its own
        pipeline(model=str(broken))
