"""Pretrained text encoders in, saved folders out: exact, through the Auto classes, and as remote code."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor

from modeling_vmhan import PRESETS, VMHANConfig, VMHANForRelationClassification, VMHANModel, VMHANProcessor


ALL_PRESETS = pytest.mark.parametrize("preset", PRESETS)


def close(first, second, tolerance=1e-5):
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)


def without_labels(inputs):
    return {name: value for name, value in inputs.items() if name != "labels"}


# ---------------------------------------------------------------- from_text_encoder


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


def test_config_and_fields_are_not_both_taken(text_encoder, make_config):
    with pytest.raises(
        ValueError, match=r"config or fields of VMHANConfig, not both; received fields \['num_layers'\]"
    ):
        VMHANModel.from_text_encoder(text_encoder, make_config(), num_layers=3)


# ---------------------------------------------------------------- save and load


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


def test_the_auto_classes_load_a_saved_folder(make_model, make_processor, predict, posts, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    make_processor(model.config).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is VMHANConfig
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is VMHANProcessor
    expected = predict(model, posts())
    for auto in (AutoModel, AutoModelForSequenceClassification):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is VMHANForRelationClassification
        with torch.no_grad():
            close(loaded(**processor(posts())).logits, expected, tolerance=0)


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


# ---------------------------------------------------------------- remote code

# Runs where the package cannot be imported, installed or not, with the folder as its only source of code.
STRANGER = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_vmhan", "datasets_scripts", "run_mmre"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
try:
    import modeling_vmhan
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package must not be importable here")

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor

folder, posts, out = sys.argv[1:]
trusted = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained(folder, **trusted)
config = AutoConfig.from_pretrained(folder, **trusted)
batches = {name: processor(batch) for name, batch in json.load(open(posts)).items()}
logits = {}
for auto in (AutoModelForSequenceClassification, AutoModel):
    model = auto.from_pretrained(folder, **trusted)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    with torch.no_grad():
        logits[auto.__name__] = {name: model(**inputs).logits for name, inputs in batches.items()}
    assert not model.training
model.save_pretrained(out + "-again")  # what a stranger saves still carries its code
torch.save(logits, out)
"""

AUTO_MAP = {
    "AutoConfig": "configuration_vmhan.VMHANConfig",
    "AutoModel": "modeling_vmhan.VMHANForRelationClassification",
    "AutoModelForSequenceClassification": "modeling_vmhan.VMHANForRelationClassification",
}


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
    model.config.auto_map = dict(AUTO_MAP)
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    return folder, predict(model, posts()), predict(model, pixel_posts)


def test_the_folder_carries_every_file_of_code_it_needs(published):
    folder, _, _ = published
    code = {path.stem for path in folder.glob("*.py")}
    assert {"configuration_vmhan", "modeling_vmhan", "processing_vmhan"} <= code
    assert {"hypergraph", "variational", "layers", "baselines", "text_encoding", "windows"} <= code
    assert {"images", "regions", "vgg16", "vision", "visual_projection"} <= code
    assert json.loads((folder / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_remote_code_loads_where_the_package_is_not_installed(published, posts, pixel_posts, tmp_path):
    folder, expected, expected_of_pixels = published
    (tmp_path / "posts.json").write_text(json.dumps({"features": posts(), "pixels": pixel_posts}))
    out = tmp_path / "logits.pt"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(folder), str(tmp_path / "posts.json"), str(out)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for logits in torch.load(out, weights_only=True).values():
        close(logits["features"], expected)
        close(logits["pixels"], expected_of_pixels)
    assert {path.name for path in folder.glob("*.py")} == {
        path.name for path in tmp_path.glob("logits.pt-again/*.py")
    } | {
        "processing_vmhan.py",
        "posts.py",
        "windows.py",
    }


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_a_published_folder_needs_no_trust_where_the_package_is_installed(auto, published, encode, posts):
    folder, expected, _ = published
    model = auto.from_pretrained(folder)
    assert type(model) is VMHANForRelationClassification
    with torch.no_grad():
        close(model(**encode(model, posts())).logits, expected, tolerance=0)
