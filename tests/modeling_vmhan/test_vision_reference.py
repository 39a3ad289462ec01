"""A folder that names its public vision weights, and has none, answers as one that has them, or says why not."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from transformers import AutoConfig, AutoModel, CLIPImageProcessor

from modeling_vmhan import VMHANForRelationClassification
from modeling_vmhan.weights import load_region_encoder, weights_digest


POST = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob", "image": Image.effect_noise((40, 48), 90).convert("RGB")}
HUB_NAME, COMMIT = "ann/backbone", "a" * 40
# the encoder and its weights' name: torchvision's, of the Hub, and drawn by a seed
KINDS = [
    ("vgg16", "imagenet"),
    ("vgg16_roi_align", "random:3"),
    ("transformers", HUB_NAME),
    ("transformers", "random:3"),
]


@pytest.fixture
def caches(thin_vgg16, make_thin_vgg16, make_vision_config, tmp_path, monkeypatch):
    """Caches of torch.hub and of the Hub that have the checkpoints; nothing else can be had."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    imagenet = tmp_path / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth"
    imagenet.parent.mkdir(parents=True)
    torch.manual_seed(0)
    network = make_thin_vgg16()
    state = {f"{part}.{name}": each for part in ("features", "classifier")
             for name, each in getattr(network, part).state_dict().items()}  # fmt: skip
    torch.save(state, imagenet)
    repository = tmp_path / "hub" / "models--ann--backbone"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    backbone = AutoModel.from_config(make_vision_config(hidden_size=8))
    backbone.save_pretrained(repository / "snapshots" / COMMIT)
    square = {"height": 32, "width": 32}
    CLIPImageProcessor(size=square, do_center_crop=False).save_pretrained(repository / "snapshots" / COMMIT)
    return {"imagenet": imagenet, HUB_NAME: repository / "snapshots" / COMMIT}


@pytest.fixture
def make_seeing(make_text_config, make_processor, make_pipe, make_vision_config, caches):
    def make(kind, weights):
        config = make_vision_config(hidden_size=8) if kind == "transformers" else None
        vision = load_region_encoder(kind, weights, config=config)
        fields = {"classifier_dropout": 0.0, "num_image_phrases": 0}
        text_encoder = AutoModel.from_config(make_text_config())
        model = VMHANForRelationClassification.from_text_encoder(
            text_encoder, vision_encoder=kind, vision=vision, id2label={0: "None", 1: "peer"}, **fields
        )
        return make_pipe(model=model)

    return make


def loaded(folder, pipe, make_pipe):
    return make_pipe(model=VMHANForRelationClassification.from_pretrained(folder), processor=pipe.processor)


@pytest.mark.parametrize(("kind", "weights"), KINDS)
def test_both_forms_give_the_same_answer(kind, weights, make_seeing, make_pipe, tmp_path):
    pipe = make_seeing(kind, weights)
    expected = pipe(POST)["score"]
    sizes = {}
    for form in ("weights", "reference"):
        pipe.save_pretrained(tmp_path / form, vision=form)
        sizes[form] = (tmp_path / form / "model.safetensors").stat().st_size
        found = loaded(tmp_path / form, pipe, make_pipe)
        assert weights_digest(found.model) == weights_digest(pipe.model)
        assert found(POST)["score"] == pytest.approx(expected, abs=1e-5)
    assert sizes["weights"] - sizes["reference"] >= 2 * sum(
        weight.numel() for weight in pipe.model.vmhan.vision_encoder.parameters()
    )
    said = json.loads((tmp_path / "reference" / "config.json").read_text())["vision_weights"]
    assert said["name"] == weights and said["revision"] == (COMMIT if weights == HUB_NAME else None)
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["vision_weights"] is None


def test_a_folder_is_saved_again_as_it_was_unless_the_other_form_is_asked_for(make_seeing, make_pipe, tmp_path):
    pipe = make_seeing("vgg16", "imagenet")
    pipe.save_pretrained(tmp_path / "0", vision="reference")
    again = loaded(tmp_path / "0", pipe, make_pipe)
    for number, form, is_reference in ((1, None, True), (2, "weights", False), (3, None, False)):
        again.save_pretrained(tmp_path / str(number), vision=form)
        again = loaded(tmp_path / str(number), pipe, make_pipe)
        assert (again.model.config.vision_weights is not None) is is_reference
    assert weights_digest(again.model) == weights_digest(pipe.model)
    with pytest.raises(ValueError, match=r"reference.*received weights that came with a saved model.*source"):
        again.save_pretrained(tmp_path / "4", vision="reference")


@pytest.mark.parametrize(
    ("kind", "weights", "wanted"),
    [("vgg16", "imagenet", "vgg16-397923af.pth.*checkpoints"), ("transformers", HUB_NAME, HUB_NAME)],
)
def test_weights_that_cannot_be_had_or_are_others_are_named(
    kind, weights, wanted, make_seeing, make_pipe, caches, tmp_path, monkeypatch
):
    pipe = make_seeing(kind, weights)
    pipe.save_pretrained(tmp_path / "model", vision="reference")
    config = AutoConfig.from_pretrained(tmp_path / "model")
    config.vision_weights["sha256"] = "0" * 64
    with pytest.raises(OSError, match=r"0{64}.*sha256 [0-9a-f]{64}.*vision='weights'"):
        VMHANForRelationClassification.from_pretrained(tmp_path / "model", config=config)
    place = caches[weights]
    place.unlink() if place.is_file() else shutil.rmtree(place)

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(OSError, match=rf"by reference.*{weights}.*cannot be had.*{wanted}"):
        VMHANForRelationClassification.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("vision", "has_encoder", "match"),
    [
        ("ref", True, "vision must be one of .*received 'ref'"),
        ("reference", False, "vision_encoder=None"),
        ("reference", True, r"received the path .*backbone"),
    ],
)
def test_a_reference_that_nobody_could_follow_is_refused(
    vision, has_encoder, match, make_seeing, make_model, caches, tmp_path
):
    model = make_seeing("transformers", str(caches[HUB_NAME])).model if has_encoder else make_model("text_only")
    with pytest.raises(ValueError, match=match):
        model.save_pretrained(tmp_path / "model", vision=vision)
