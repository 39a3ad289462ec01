"""Vision encoders by name and weights: pretrained, random by seed, or an error. Nothing is downloaded."""

import hashlib
import urllib.error

import pytest
import torch
import transformers
from torch import nn
from torchvision.models import VGG16_Weights
from transformers import AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipModel

from modeling_vmhan.regions import PixelTransform
from modeling_vmhan.vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder
from modeling_vmhan.vision import build_region_encoder
from modeling_vmhan.weights import load_region_encoder, random_seed, weights_digest


BACKBONES = ["clip_vision_model", "siglip_vision_model", "dinov2", "dinov3_vit", "convnext"]


@pytest.fixture
def save_backbone(make_vision_config, tmp_path):
    """`save_backbone(model_type)` -> (folder, the random backbone in it)."""

    def save(model_type="clip_vision_model", **fields):
        torch.manual_seed(0)
        backbone = AutoModel.from_config(make_vision_config(model_type, **fields)).eval()
        backbone.save_pretrained(tmp_path / model_type)
        return str(tmp_path / model_type), backbone

    return save


@pytest.mark.parametrize(("kind", "cls"), [("vgg16", VGG16RegionEncoder), ("vgg16_roi_align", VGG16RoIAlignEncoder)])
def test_vgg16_by_name(kind, cls, thin_vgg16):
    encoder, transform = load_region_encoder(kind, "random:5")
    assert type(encoder) is cls and transform == PixelTransform()
    assert weights_digest(encoder) == weights_digest(load_region_encoder("vgg16", "random:5")[0])
    for either in (encoder, build_region_encoder(kind)):
        assert type(either) is cls and not either.training
        assert not any(parameter.requires_grad for parameter in either.parameters())


def test_imagenet_weights_are_loaded_without_the_last_layer(monkeypatch, thin_vgg16):
    expected = load_region_encoder("vgg16", "random:1")[0].state_dict()
    state = {**expected, "classifier.6.weight": torch.zeros(2, 4096), "classifier.6.bias": torch.zeros(2)}
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, *args, **kwargs: state)
    loaded = load_region_encoder("vgg16", "imagenet")[0].state_dict()
    assert loaded.keys() == expected.keys() and all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), RuntimeError("invalid hash value")])
def test_imagenet_weights_out_of_reach(monkeypatch, error):
    def fail(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fail)
    with pytest.raises(OSError, match=r"imagenet.*vgg16-397923af\.pth.*random:0"):
        load_region_encoder("vgg16", "imagenet")


@pytest.mark.parametrize("weights", ["random", "random:", "random:-1", "random:x", "IMAGENET1K_V1", ""])
def test_unknown_weights(weights):
    assert random_seed(weights) is None and random_seed("random:12") == 12
    with pytest.raises(ValueError, match=f"weights must be .*random:0.*received {weights!r}"):
        load_region_encoder("vgg16", weights)


def test_an_unknown_encoder():
    with pytest.raises(ValueError, match="'vgg16', .*received 'resnet50'"):
        load_region_encoder("resnet50", "imagenet")


@pytest.mark.parametrize("model_type", BACKBONES)
@torch.no_grad()
def test_the_feature_is_the_pooled_output(model_type, save_backbone):
    folder, backbone = save_backbone(model_type)
    encoder, transform = load_region_encoder("transformers", folder)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = backbone(pixel_values=pixels).pooler_output
    torch.testing.assert_close(encoder(pixels), expected.flatten(1))
    assert encoder(pixels).shape == (2, encoder.feature_size) == (2, 32) and transform.size == 32
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert not encoder.training and not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(("config_class", "model_class"), [(CLIPConfig, CLIPModel), (SiglipConfig, SiglipModel)])
def test_a_checkpoint_of_two_towers_gives_its_vision_tower(config_class, model_class, make_vision_config, tmp_path):
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 99, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = make_vision_config(f"{config_class.model_type}_vision_model").to_dict()
    both = model_class(config_class(text_config=text, vision_config=vision))
    both.save_pretrained(tmp_path)
    encoder, _ = load_region_encoder("transformers", str(tmp_path))
    expected = both.vision_model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.backbone.state_dict().items())


def test_the_transform_is_the_image_processors(save_backbone, caplog):
    folder, _ = save_backbone()
    _, transform = load_region_encoder("transformers", folder)
    assert transform == PixelTransform(size=32) and "has no image processor" in caplog.text
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    _, transform = load_region_encoder("transformers", folder)
    assert (transform.size, transform.crop_mode, transform.shortest_edge) == (32, "center", 40)
    assert transform.resample == "bicubic" and transform.mean[0] == pytest.approx(0.48145466)


def test_a_half_precision_checkpoint_computes_in_full_precision(save_backbone):
    folder, backbone = save_backbone()
    backbone.half().save_pretrained(folder)
    encoder, _ = load_region_encoder("transformers", folder)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["vgg16", "transformers"])
def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(kind, thin_vgg16, make_vision_config):
    before, config = torch.get_rng_state(), make_vision_config()
    encoders = [load_region_encoder(kind, f"random:{seed}", config=config)[0] for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    digests = [weights_digest(encoder) for encoder in encoders]
    assert digests[0] == digests[1] != digests[2]


def test_what_is_no_checkpoint_of_a_backbone(make_vision_config, tmp_path):
    with pytest.raises(ValueError, match="weights='random:0' needs a vision_config"):
        load_region_encoder("transformers", "random:0")
    with pytest.raises(OSError, match="vision encoder '.*gone' must be a model on the Hub or a folder"):
        load_region_encoder("transformers", str(tmp_path / "gone"))
    make_vision_config().save_pretrained(tmp_path)
    with pytest.raises(OSError, match="vision encoder .*folder.*model.safetensors"):
        load_region_encoder("transformers", str(tmp_path))
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)  # its pooler would be random
    with pytest.raises(ValueError, match=r"lacks weights.*\['pooler.dense.bias', 'pooler.dense.weight'\]"):
        load_region_encoder("transformers", str(tmp_path))


def test_the_digest_is_of_names_types_shapes_and_values():
    class Scalars(nn.Module):
        def __init__(self, name="a", value=1.0, dtype=torch.float32):
            super().__init__()
            self.register_buffer(name, torch.full((2,), value, dtype=dtype))
            self.register_buffer("count", torch.tensor(3))

    expected = hashlib.sha256()
    expected.update(b"a torch.float32 (2,)\n" + torch.ones(2).numpy().tobytes())
    expected.update(b"count torch.int64 ()\n" + torch.tensor(3).numpy().tobytes())
    assert weights_digest(Scalars()) == expected.hexdigest()
    others = [Scalars("b"), Scalars(value=2.0), Scalars(dtype=torch.bfloat16), nn.Linear(2, 2)]
    assert len({expected.hexdigest(), *map(weights_digest, others)}) == 5
