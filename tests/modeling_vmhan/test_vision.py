"""Vision backbones of transformers, encoders by name, and the encoding of padded batches. Nothing is downloaded."""

import hashlib
import logging

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModel, CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipModel

from modeling_vmhan.regions import PixelTransform
from modeling_vmhan.vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder
from modeling_vmhan.vision import (
    TransformersRegionEncoder,
    build_region_encoder,
    default_transform,
    encode_regions,
    load_region_encoder,
    vision_from_weights,
    weights_digest,
)


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


def pixels(count, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- backbones


@pytest.mark.parametrize("model_type", BACKBONES)
@torch.no_grad()
def test_the_feature_is_the_pooled_output(model_type, save_backbone):
    folder, backbone = save_backbone(model_type)
    encoder, transform = load_region_encoder("transformers", folder)
    expected = backbone(pixel_values=pixels(2)).pooler_output
    torch.testing.assert_close(encoder(pixels(2)), expected.flatten(1))
    assert encoder(pixels(2)).shape == (2, encoder.feature_size) == (2, 32)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert transform.size == 32
    assert not encoder.training and not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(("config_class", "model_class"), [(CLIPConfig, CLIPModel), (SiglipConfig, SiglipModel)])
def test_a_checkpoint_of_two_towers_gives_its_vision_tower(config_class, model_class, make_vision_config, tmp_path):
    name = f"{config_class.model_type}_vision_model"
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 99, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    both = model_class(config_class(text_config=text, vision_config=make_vision_config(name).to_dict()))
    both.save_pretrained(tmp_path)
    encoder, _ = load_region_encoder("transformers", str(tmp_path))
    expected = both.vision_model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.backbone.state_dict().items())


def test_the_transform_is_the_image_processors(save_backbone, caplog):
    folder, _ = save_backbone()
    with caplog.at_level(logging.WARNING):
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


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(make_vision_config):
    before = torch.get_rng_state()
    encoders = [
        load_region_encoder("transformers", f"random:{seed}", config=make_vision_config())[0] for seed in (3, 3, 4)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    digests = [weights_digest(encoder) for encoder in encoders]
    assert digests[0] == digests[1] != digests[2]


def test_random_weights_need_a_config():
    with pytest.raises(ValueError, match="weights='random:0' needs a vision_config"):
        load_region_encoder("transformers", "random:0")


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(
        OSError, match="vision encoder '.*gone' must be a model on the Hub or a folder with config.json"
    ):
        load_region_encoder("transformers", str(tmp_path / "gone"))


def test_a_folder_without_weights(make_vision_config, tmp_path):
    make_vision_config().save_pretrained(tmp_path)
    with pytest.raises(OSError, match="folder with config.json and model.safetensors, and could not be read"):
        load_region_encoder("transformers", str(tmp_path))


def test_a_checkpoint_without_its_pooler_would_be_random(tmp_path):
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"lacks the weights \['pooler.dense.bias', 'pooler.dense.weight'\] \(2 in all"
    ):
        load_region_encoder("transformers", str(tmp_path))


@pytest.mark.parametrize("model_type", ["bert", "siglip2_vision_model"])
def test_a_backbone_that_needs_more_than_pixels(model_type):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    with pytest.raises(ValueError, match="needs nothing but pixel_values .*received (Bert|Siglip2Vision)Model"):
        TransformersRegionEncoder(config)


def test_pixels_of_a_size_that_the_backbone_does_not_take(make_vision_config):
    encoder = TransformersRegionEncoder(make_vision_config())
    with pytest.raises(ValueError, match=r"shape \(1, 3, 24, 24\) do not fit CLIPVisionModel: .*24.*processor"):
        encoder(pixels(1, size=24))


def test_a_backbone_without_a_pooled_feature(make_vision_config):
    encoder = TransformersRegionEncoder(make_vision_config("siglip_vision_model", vision_use_head=False))
    with pytest.raises(ValueError, match="SiglipVisionModel must give a pooler_output of 32 numbers .*received None"):
        encoder(pixels(1))


# ---------------------------------------------------------------- by name


@pytest.mark.parametrize(("kind", "cls"), [("vgg16", VGG16RegionEncoder), ("vgg16_roi_align", VGG16RoIAlignEncoder)])
def test_vgg16_by_name(kind, cls, thin_vgg16):
    encoder, transform = load_region_encoder(kind, "random:5")
    assert type(encoder) is cls and transform == PixelTransform()
    assert weights_digest(encoder) == weights_digest(VGG16RegionEncoder.from_weights("random:5"))
    built = build_region_encoder(kind)
    assert type(built) is cls and not built.training
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_an_unknown_encoder():
    with pytest.raises(ValueError, match=r"vision encoder must be one of \['vgg16', .*received 'resnet50'"):
        load_region_encoder("resnet50", "imagenet")


@pytest.mark.parametrize("fields", [{"vision_encoder": "vgg16"}, {"weights": "random:0"}])
def test_an_encoder_is_never_random_unasked(fields):
    weights = fields.pop("weights", None)
    with pytest.raises(ValueError, match="vision_weights goes with a vision_encoder, and the other way round"):
        vision_from_weights(fields, weights)


def test_what_a_configuration_takes_from_the_encoder(save_backbone, thin_vgg16):
    assert vision_from_weights({}, None) == (None, {})
    _, taken = vision_from_weights({"vision_encoder": "vgg16"}, "random:0")
    assert taken == {"visual_feature_size": 4096, "image_transform": PixelTransform().to_dict()}
    given = {"vision_encoder": "transformers", "image_transform": {"size": 32}, "visual_feature_size": 7}
    encoder, taken = vision_from_weights(given, save_backbone()[0])
    assert taken == {
        "visual_feature_size": 7,
        "image_transform": {"size": 32},
        "vision_config": encoder.backbone.config,
    }


def test_the_default_transform_has_the_backbones_size(make_vision_config):
    assert default_transform().size == 224
    assert default_transform(make_vision_config()).size == 32
    assert default_transform(make_vision_config(image_size=[48, 48])).size == 48


# ---------------------------------------------------------------- padded batches


class Sums(nn.Module):
    """Gives each region three times the sum of its pixels, or of its relative box; counts the passes."""

    feature_size = 3

    def __init__(self, takes_boxes):
        super().__init__()
        self.takes_boxes, self.passes = takes_boxes, 0
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixel_values, rois=None):
        self.passes += len(pixel_values)
        sums = pixel_values.sum((1, 2, 3))
        if self.takes_boxes:
            sums = sums[rois[:, 0].long()] + rois[:, 1:].sum(1)
        return sums.unsqueeze(1).expand(-1, 3) * self.weight


IMAGE_MASK = torch.tensor([True, False, True])
OBJECT_MASK = torch.tensor([[True, True], [True, False], [True, False]])  # of the image that is missing, none counts


def test_crops_of_a_batch_are_encoded_once_and_padding_is_not():
    values = torch.arange(1.0, 10).view(3, 3, 1, 1, 1).expand(-1, -1, 3, 2, 2)
    encoder = Sums(takes_boxes=False)
    features = encode_regions(encoder, values, IMAGE_MASK, OBJECT_MASK)
    assert features[..., 0].tolist() == [[12, 24, 36], [0, 0, 0], [84, 96, 0]]
    assert encoder.passes == 5


def test_images_of_a_batch_are_encoded_once_with_their_boxes():
    values = torch.arange(1.0, 4).view(3, 1, 1, 1, 1).expand(-1, -1, 3, 2, 2)
    boxes = torch.arange(6.0).view(3, 2, 1).expand(-1, -1, 4)
    encoder = Sums(takes_boxes=True)
    features = encode_regions(encoder, values, IMAGE_MASK, OBJECT_MASK, boxes)
    assert features[..., 0].tolist() == [[12 + 2, 12 + 0, 12 + 4], [0, 0, 0], [36 + 2, 36 + 16, 0]]
    assert encoder.passes == 2


def test_a_batch_without_any_image_is_zeros():
    encoder = Sums(takes_boxes=False)
    features = encode_regions(encoder, torch.ones(3, 3, 3, 2, 2), torch.zeros(3, dtype=torch.bool), OBJECT_MASK)
    assert features.shape == (3, 3, 3) and not features.any() and encoder.passes == 0


def test_pixels_come_in_the_encoders_type():
    encoder = Sums(takes_boxes=False).to(torch.bfloat16)
    assert encode_regions(encoder, torch.ones(3, 3, 3, 2, 2), IMAGE_MASK, OBJECT_MASK).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("takes_boxes", "shape", "match"),
    [
        (False, (3, 1, 3, 2, 2), r"pixel_values must be \(3, 3, 3, S, S\) .*received \(3, 1, 3, 2, 2\)"),
        (False, (3, 3, 1, 2, 2), r"must be \(3, 3, 3, S, S\)"),
        (False, (3, 3, 3, 2, 4), r"must be \(3, 3, 3, S, S\)"),
        (False, (9, 3, 2, 2), r"must be \(3, 3, 3, S, S\)"),
        (True, (3, 3, 3, 2, 2), r"pixel_values must be \(3, 1, 3, S, S\) .*Make them with the model's own processor"),
    ],
)
def test_pixels_of_a_wrong_shape(takes_boxes, shape, match):
    with pytest.raises(ValueError, match=match):
        encode_regions(Sums(takes_boxes), torch.zeros(shape), IMAGE_MASK, OBJECT_MASK, torch.zeros(3, 2, 4))


@pytest.mark.parametrize(
    ("takes_boxes", "boxes", "match"),
    [
        (True, None, r"boxes must be \(3, 2, 4\) for this vision encoder .*received None"),
        (True, torch.zeros(3, 1, 4), r"boxes must be \(3, 2, 4\) .*received \(3, 1, 4\)"),
        (False, torch.zeros(3, 2, 4), r"boxes must be None .*received \(3, 2, 4\)"),
    ],
)
def test_boxes_that_do_not_fit(takes_boxes, boxes, match):
    values = torch.zeros(3, 1 if takes_boxes else 3, 3, 2, 2)
    with pytest.raises(ValueError, match=match):
        encode_regions(Sums(takes_boxes), values, IMAGE_MASK, OBJECT_MASK, boxes)


# ---------------------------------------------------------------- the digest


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
