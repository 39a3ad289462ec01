"""VGG16 regions: crops, pixels and fc7, with seeded random weights and no network."""

import urllib.error

import pytest
import torch
from PIL import Image
from torchvision.models import VGG16_Weights, vgg16

from modeling_vmhan.vision import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VGG16RegionEncoder,
    VisualProjection,
    crop_regions,
    region_pixels,
)


@pytest.fixture(scope="module")
def encoder():
    return VGG16RegionEncoder.from_weights("random:0")


def test_forward_is_fc7_of_torchvision_vgg16(encoder):
    with torch.device("meta"):
        network = vgg16(weights=None).eval()
    network.load_state_dict(encoder.state_dict(), strict=False, assign=True)  # all but classifier.6
    pixels = torch.randn(2, 3, 32, 32)
    maps = network.avgpool(network.features(pixels)).flatten(1)
    fc6 = network.classifier[0](maps).relu()
    fc7 = network.classifier[3](fc6).relu()
    torch.testing.assert_close(encoder(pixels), fc7)
    assert encoder(pixels).shape == (2, encoder.feature_size)


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(encoder):
    before = torch.get_rng_state()
    again = VGG16RegionEncoder.from_weights("random:0")
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    other = VGG16RegionEncoder.from_weights("random:1")
    assert not torch.equal(encoder.features[0].weight, other.features[0].weight)


def test_random_weights_have_torchvisions_initial_distribution(encoder):
    assert encoder.features[10].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert encoder.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not encoder.features[10].bias.any() and not encoder.classifier[0].bias.any()


def test_encoder_is_frozen_and_in_eval_mode(encoder):
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("weights", ["random", "random:", "random:-1", "IMAGENET1K_V1", ""])
def test_unknown_weights(weights):
    with pytest.raises(ValueError, match='weights must be "imagenet" or "random:SEED"'):
        VGG16RegionEncoder.from_weights(weights)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), RuntimeError("invalid hash value")])
def test_imagenet_weights_out_of_reach(monkeypatch, error):
    def fail(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fail)
    with pytest.raises(
        OSError, match=r'vgg16-397923af\.pth, which could not be downloaded .* or pass weights="random:0"'
    ):
        VGG16RegionEncoder.from_weights("imagenet")


def test_imagenet_weights_are_loaded_without_the_last_layer(monkeypatch, encoder):
    state = {
        **encoder.state_dict(),
        "classifier.6.weight": torch.zeros(1000, 4096),
        "classifier.6.bias": torch.zeros(1000),
    }
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, *args, **kwargs: state)
    loaded = VGG16RegionEncoder.from_weights("imagenet").state_dict()
    assert loaded.keys() == encoder.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 16, 32)])
def test_forward_of_a_wrong_shape(encoder, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \(R, 3, S, S\) with S >= 32"):
        encoder(torch.zeros(shape))


def test_crops_are_the_whole_image_then_the_boxes():
    image = Image.new("RGB", (40, 30), "white")
    image.paste("red", (10, 5, 20, 25))
    whole, red, widened = crop_regions(image, [[10, 5, 20, 25], [9.5, 5, 20.2, 25]])
    assert whole.size == (40, 30)
    assert red.size == (10, 20) and red.getcolors() == [(200, (255, 0, 0))]
    assert widened.size == (12, 20)


def test_no_boxes_gives_the_whole_image():
    assert len(crop_regions(Image.new("RGB", (40, 30)), [])) == 1


def test_a_box_that_crosses_the_border_by_a_rounding_is_cut():
    _, crop = crop_regions(Image.new("RGB", (40, 30)), [[-0.4, 0, 40.6, 30.9]])
    assert crop.size == (40, 30)


@pytest.mark.parametrize("box", [[5, 5, 5, 10], [5, 5, 10, 5], [10, 5, 5, 10]])
def test_box_without_area(box):
    with pytest.raises(
        ValueError, match=r"x1 < x2 and y1 < y2, received boxes\[1\] = .* in an image of 40 x 30 pixels"
    ):
        crop_regions(Image.new("RGB", (40, 30)), [[0, 0, 5, 5], box])


@pytest.mark.parametrize("box", [[-3, 0, 10, 10], [0, 0, 45, 10], [0, 0, 10, 33], [50, 50, 60, 60]])
def test_box_outside_the_image(box):
    with pytest.raises(ValueError, match=r"must lie inside its image, received boxes\[0\] = .* of 40 x 30 pixels"):
        crop_regions(Image.new("RGB", (40, 30)), [box])


@pytest.mark.parametrize("box", [[0, 0, 10], [0, 0, float("nan"), 10], [0, 0, float("inf"), 10]])
def test_box_that_is_not_four_finite_numbers(box):
    with pytest.raises(ValueError, match="a box must be four finite numbers"):
        crop_regions(Image.new("RGB", (40, 30)), [box])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "I;16"])
def test_every_image_mode_becomes_rgb(mode):
    image = Image.new("RGB", (40, 40), "white")
    image = Image.new(mode, (40, 40)) if mode == "I;16" else image.convert(mode)
    crops = crop_regions(image, [[0, 0, 10, 10]])
    assert [crop.mode for crop in crops] == ["RGB", "RGB"]
    if mode != "I;16":
        assert crops[1].getpixel((0, 0)) == (255, 255, 255)


def test_transparent_pixels_become_white():
    assert crop_regions(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), [])[0].getpixel((0, 0)) == (255, 255, 255)


def test_region_pixels_are_resized_and_normalised():
    image = Image.new("RGB", (64, 40), (255, 0, 51))
    pixels = region_pixels(image, [[0, 0, 10, 20]], size=32)
    assert pixels.shape == (2, 3, 32, 32)
    expected = [(value - m) / s for value, m, s in zip((1.0, 0.0, 0.2), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    torch.testing.assert_close(pixels[1, :, 7, 7], torch.tensor(expected))


def test_region_pixels_agree_with_torchvisions_own_normalisation():
    transform = VGG16_Weights.IMAGENET1K_V1.transforms()
    assert (transform.mean, transform.std) == (list(IMAGENET_MEAN), list(IMAGENET_STD))


def test_region_pixels_too_small():
    with pytest.raises(ValueError, match="size must be at least 32 pixels"):
        region_pixels(Image.new("RGB", (64, 64)), [], size=31)


def test_visual_projection_normalises_what_the_docstring_says():
    torch.manual_seed(0)
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    features, mask = torch.rand(3, 2, 6), torch.tensor([[True, True], [True, False], [True, True]])
    rows = torch.nn.functional.layer_norm(features[mask], (6,))
    rows = projection.linear((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt())
    by_hand = (rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()
    projected = projection(features, mask)
    torch.testing.assert_close(projected[mask], by_hand)
    assert projected[1, 1].eq(0).all()


def test_visual_projection_ignores_padding():
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    features, mask = torch.rand(2, 2, 6), torch.tensor([[True, True], [True, False]])
    poisoned = features.clone()
    poisoned[1, 1] = 1e6
    torch.testing.assert_close(projection(features, mask)[mask], projection(poisoned, mask)[mask])


@pytest.mark.parametrize("count", [0, 1])
def test_visual_projection_trains_on_a_batch_with_hardly_a_region(count):
    projection = VisualProjection(feature_size=6, hidden_size=4).train()
    mask = torch.zeros(2, 1, dtype=torch.bool)
    mask[:count] = True
    projected = projection(torch.rand(2, 1, 6), mask)
    projected.sum().backward()
    assert projected.isfinite().all() and projected[~mask].eq(0).all()
    assert projection.linear.weight.grad is not None and projection.linear.weight.grad.isfinite().all()
