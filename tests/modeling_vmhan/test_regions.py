"""Regions of an image: boxes, crops, and the pixels an encoder reads."""

import json

import pytest
import torch
import transformers
from PIL import Image
from torchvision.models import VGG16_Weights

from modeling_vmhan.regions import IMAGENET_MEAN, IMAGENET_STD, PixelTransform, pixel_boxes, region_inputs
from modeling_vmhan.weights import resized, transform_of


@pytest.mark.parametrize(
    ("box", "match"),
    [
        *((box, "x1 < x2 and y1 < y2") for box in ([5, 5, 5, 10], [5, 5, 10, 5], [10, 5, 5, 10])),
        *(
            (box, "inside its image.*40 x 30")
            for box in ([-3, 0, 10, 10], [0, 0, 45, 10], [0, 0, 10, 33], [50, 50, 60, 60])
        ),
        *((box, "four finite numbers") for box in ([0, 0, 10], [0, 0, float("nan"), 10], [0, 0, float("inf"), 10])),
    ],
)
def test_a_box_that_is_none(box, match):
    with pytest.raises(ValueError, match=rf"(?=.*boxes\[1\]).*{match}"):
        pixel_boxes([[0, 0, 5, 5], box], (40, 30))


def test_boxes_are_widened_to_whole_pixels_inside_the_image():
    boxes = [[0.2, 1.0, 3.5, 2.0], [-1, -1, 41, 31], [39.9, 0, 40.5, 5], [0, 0, 0.001, 0.001]]
    assert pixel_boxes(boxes, (40, 30)) == [(0, 1, 4, 2), (0, 0, 40, 30), (39, 0, 40, 5), (0, 0, 1, 1)]


@pytest.fixture
def image():
    image = Image.radial_gradient("L").resize((64, 40)).convert("RGB")
    image.paste("red", (10, 5, 20, 25))
    return image


def test_regions_are_the_whole_image_then_the_boxes(image):
    transform = PixelTransform(size=32)
    pixels, _ = region_inputs(image, [[10, 5, 20, 25], [9.5, 5, 20.2, 25]], transform=transform)
    expected = [image, image.crop((10, 5, 20, 25)), image.crop((9, 5, 21, 25))]
    assert torch.equal(pixels, torch.stack([transform(region) for region in expected]))


def test_region_inputs_are_resized_and_normalised():
    image = Image.new("RGB", (64, 40), (255, 0, 51))
    pixels, relative = region_inputs(image, [[0, 0, 16, 20]], transform=PixelTransform(size=32))
    assert pixels.shape == (2, 3, 32, 32) and pixels.dtype == torch.float32
    expected = [(value - m) / s for value, m, s in zip((1.0, 0.0, 0.2), IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    torch.testing.assert_close(pixels[1, :, 7, 7], torch.tensor(expected))
    assert relative.tolist() == [[0, 0, 1, 1], [0, 0, 0.25, 0.5]]


def test_the_default_normalisation_is_torchvisions_own_for_vgg16():
    transform = VGG16_Weights.IMAGENET1K_V1.transforms()
    assert (transform.mean, transform.std) == (list(IMAGENET_MEAN), list(IMAGENET_STD))
    assert transform.crop_size == [PixelTransform().size]


PROCESSORS = {
    "center": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}),
    "squash": ("SiglipImageProcessor", {"size": {"height": 32, "width": 32}}),
    "without mean": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}, "do_normalize": False}),
}


@pytest.fixture
def make_image_processor():
    def make(name, **fields):
        return getattr(transformers, name)(**fields)

    return make


@pytest.mark.parametrize("size", [(64, 40), (40, 64), (40, 40), (31, 97)])
@pytest.mark.parametrize(("name", "fields"), PROCESSORS.values(), ids=PROCESSORS)
def test_pixels_are_those_of_the_image_processor(name, fields, size, image, make_image_processor):
    processor = make_image_processor(name, **fields)
    transform = transform_of(processor)
    picture = image.resize(size)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    step = 1 / 255 / min(transform.std)  # one of 256 grey values: resizing is rounded in another order there
    assert (transform(picture) - expected).abs().mean() < 0.3 * step
    torch.testing.assert_close(transform(picture), expected, rtol=0, atol=4 * step)
    assert transform(picture).shape == (3, 32, 32)


def test_a_thin_region_is_not_blown_up():
    transform = PixelTransform(size=32, crop_mode="center", shortest_edge=40)
    assert transform(Image.new("RGB", (1, 20_000))).shape == (3, 32, 32)  # 40 x 800,000 if it were resized whole


@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"shortest_edge": 40}, "do_center_crop": False},
        {"size": {"height": 32, "width": 40}, "do_center_crop": False},
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 16}},
        {"rescale_factor": 1 / 128},
        {"do_rescale": False},
        {"do_resize": False},
    ],
)
def test_an_image_processor_that_does_something_else(fields, make_image_processor):
    with pytest.raises(ValueError, match="CLIPImageProcessor must .*image_transform"):
        transform_of(make_image_processor("CLIPImageProcessor", **fields))


@pytest.mark.parametrize("fields", [{}, {"size": 32, "crop_mode": "center", "shortest_edge": 40, "mean": [0, 0, 0.5]}])
def test_a_transform_and_its_dict(fields):
    transform = PixelTransform.from_dict(fields)
    assert PixelTransform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform
    assert PixelTransform.from_dict(None) == PixelTransform()


def test_another_size_keeps_the_share_of_the_centre():
    transform = resized(PixelTransform(size=32, crop_mode="center", shortest_edge=40), 64)
    assert (transform.size, transform.shortest_edge) == (64, 80)
    assert resized(PixelTransform(size=32), 48) == PixelTransform(size=48)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"size": 0}, "size must be a whole number >= 1, received 0"),
        ({"size": 32.0}, "size must be a whole number >= 1, received 32.0"),
        ({"crop_mode": "pad"}, "crop_mode must be .*'squash', 'center'.*received 'pad'"),
        ({"resample": "cubic"}, "resample must be one of .*'bicubic'.*, received 'cubic'"),
        ({"shortest_edge": 256}, "shortest_edge .*received 256"),
        ({"crop_mode": "center", "shortest_edge": 8}, "shortest_edge must be .*received 8"),
        ({"mean": 0.5}, "mean must be three numbers, received 0.5"),
        ({"std": [1, 1, 0]}, "std must be .*> 0, received 0"),
        ({"side": 32}, r"image_transform must be .*'size', .*received \{'side': 32\}"),
    ],
)
def test_a_wrong_transform(fields, match):
    with pytest.raises(ValueError, match=match):
        PixelTransform.from_dict(fields)
