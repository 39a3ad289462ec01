"""The feature extractor: batches across images change nothing, each image costs one pass, what ran is described."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from datasets_scripts import features
from datasets_scripts.builders.postcards import PostcardsConfig, make_postcard
from datasets_scripts.features import VisualFeatureExtractor, parse_features
from modeling_vmhan.weights import weights_digest


@pytest.fixture
def extractor(thin_vgg16):
    return VisualFeatureExtractor("random:0", size=32, batch_size=8, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def images_and_boxes():
    postcards = [make_postcard(PostcardsConfig(), "train", index) for index in range(4)]
    inputs = [(postcard.image, [list(sticker.box) for sticker in postcard.stickers]) for postcard in postcards]
    return [*inputs, (postcards[0].image, [])]  # the last image has no boxes


def test_features_are_deterministic_typed_in_order_and_told_apart(extractor, images_and_boxes):
    before = torch.get_rng_state()
    computed, again = (list(extractor.encode(images_and_boxes)) for _ in range(2))
    stored = list(extractor.extract(images_and_boxes))
    assert torch.equal(torch.get_rng_state(), before)
    for (_, boxes), vectors, same, of_image in zip(images_and_boxes, computed, again, stored, strict=True):
        assert vectors.dtype == torch.float32 and torch.equal(vectors, same)
        assert [part.dtype for part in of_image] == [np.float16] * 2
        assert [part.shape for part in of_image] == [(extractor.feature_size,), (len(boxes), extractor.feature_size)]
        assert np.array_equal(vectors.half().numpy(), np.vstack(of_image))
        assert len(np.unique(of_image[1], axis=0)) == len(boxes)
    np.testing.assert_allclose(stored[0][0], stored[-1][0], rtol=1e-3)  # the same image, with and without boxes


@pytest.mark.parametrize("batch_size", [5, 1000])
def test_one_by_one_equals_batched(thin_vgg16, extractor, images_and_boxes, batch_size):
    other = VisualFeatureExtractor("random:0", size=32, batch_size=batch_size, device="cpu", dtype="float32")
    for image_and_boxes, together in zip(images_and_boxes, extractor.encode(images_and_boxes), strict=True):
        torch.testing.assert_close(next(other.encode([image_and_boxes])), together, atol=1e-6, rtol=1e-3)


def test_results_come_as_soon_as_a_batch_is_full(extractor, images_and_boxes):
    taken = []
    inputs = ((image, taken.append(image) or boxes) for image, boxes in images_and_boxes * 3)
    next(extractor.extract(inputs))
    assert len(taken) < 4  # 4 to 8 stickers an image and batches of 8: two images are enough


@pytest.mark.parametrize(("encoder", "expected"), [("vgg16", [4] * 9 + [1]), ("vgg16_roi_align", [4, 4, 2])])
def test_each_image_costs_one_pass_and_batches_are_full(encoder, expected, thin_vgg16):
    """37 regions of 10 images: a pass a region, or a pass an image; the last batch alone is not full."""
    extractor, passes = VisualFeatureExtractor("random:0", 32, 4, "cpu", encoder=encoder), []
    extractor.encoder.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    image, boxes = Image.new("RGB", (40, 40)), [[0, 0, 9, 9], [5, 5, 30, 40], [1, 2, 3, 4]]
    results = list(extractor.extract([(image, boxes if i != 4 else []) for i in range(10)]))
    assert passes == expected
    assert [len(objects) for _, objects in results] == [3, 3, 3, 3, 0, 3, 3, 3, 3, 3]


def test_roi_align_takes_each_region_from_its_own_image(thin_vgg16, images_and_boxes):
    together = VisualFeatureExtractor("random:0", 96, 3, "cpu", encoder="vgg16_roi_align")
    alone = VisualFeatureExtractor("random:0", 96, 1, "cpu", encoder="vgg16_roi_align")
    pairs = list(zip(together.encode(images_and_boxes), alone.encode(images_and_boxes), strict=True))
    assert [len(one) for one, _ in pairs] == [1 + len(boxes) for _, boxes in images_and_boxes]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        assert len(one.unique(dim=0)) == len(one)


def test_crops_and_roi_align_agree_on_whole_images_only(thin_vgg16, images_and_boxes):
    extractors = (
        VisualFeatureExtractor("random:0", 224, device="cpu", encoder=f"vgg16{end}") for end in ("", "_roi_align")
    )
    crops, aligned = (next(extractor.encode(images_and_boxes[:1])) for extractor in extractors)
    torch.testing.assert_close(crops[0], aligned[0], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(crops[1:], aligned[1:], rtol=1e-2, atol=0)


@pytest.fixture
def backbone(make_vision_config, tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(make_vision_config()).save_pretrained(tmp_path / "backbone")
    return str(tmp_path / "backbone")


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_of_a_backbone_is_near(dtype, tolerance, backbone, images_and_boxes):
    spec = f"transformers:{backbone}"
    full, half = (VisualFeatureExtractor.from_spec(spec, device="cpu", dtype=name) for name in ("float32", dtype))
    expected, got = (next(extractor.encode(images_and_boxes)) for extractor in (full, half))
    assert got.dtype == torch.float32 and got.shape == (1 + len(images_and_boxes[0][1]), 32)
    assert not torch.equal(got, expected)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    assert half.description["dtype"] == dtype and full.description["dtype"] == "float32"
    assert half.description["weights_sha256"] == full.description["weights_sha256"]  # of the file, not of its rounding


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_auto_is_what_the_device_has_with_the_models_weights(dtype, backbone, images_and_boxes, monkeypatch):
    capabilities = {"avx512_bf16": dtype == "bfloat16"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    extractor = VisualFeatureExtractor(backbone, device="cpu", encoder="transformers")
    rounded = VisualFeatureExtractor(backbone, device="cpu", encoder="transformers", dtype="bfloat16")
    rounded.encoder.to(getattr(torch, dtype))
    assert {parameter.dtype for parameter in extractor.encoder.parameters()} == {getattr(torch, dtype)}
    assert (extractor.description["dtype"], extractor.description["weights_dtype"]) == (dtype, "bfloat16")
    rounded.dtype = extractor.dtype
    assert torch.equal(next(extractor.encode(images_and_boxes)), next(rounded.encode(images_and_boxes)))


def test_features_that_do_not_fit_float16(backbone, images_and_boxes):
    extractor = VisualFeatureExtractor(backbone, device="cpu", encoder="transformers")
    extractor.encoder.backbone.post_layernorm.weight.mul_(1e6)
    with pytest.raises(ValueError, match=r"features: .*float16.* \d"):
        next(extractor.extract(images_and_boxes))


def test_description(extractor):
    description = extractor.description
    asked = {"encoder": "vgg16", "weights": "random:0", "feature_size": 4096, "dtype": "float32"}
    asked |= {"weights_sha256": weights_digest(extractor.encoder), "torch": version("torch")}
    assert description.items() >= asked.items() and description["transform"]["size"] == 32
    assert json.loads(json.dumps(description)) == description


def test_the_code_digest_is_of_every_file_in_the_path(monkeypatch):
    before = features._code_digest()
    read = Path.read_bytes
    for name in ("images.py", "regions.py", "frozen.py", "vgg16.py", "vision.py", "weights.py", "features.py"):
        monkeypatch.setattr(Path, "read_bytes", lambda path, name=name: read(path) + b"#" * (path.name == name))
        assert features._code_digest() != before


@pytest.mark.parametrize(
    ("image", "boxes", "match"),
    [
        ("gone.jpg", [], "image number 1: .*gone.jpg"),
        (b"junk", [], "image number 1: "),
        (Image.new("RGB", (40, 30)), [[5, 5, 5, 9]], "image number 1: "),
        (Image.new("RGB", (40, 30)), [[0, 0, 45, 9]], "image number 1: "),
    ],
)
def test_a_wrong_image_or_box_is_named_by_its_number(image, boxes, match, extractor):
    good = (Image.new("RGB", (40, 30)), [])
    with pytest.raises(ValueError, match=match):
        list(extractor.extract([good, (image, boxes)]))


def test_specs():
    for spec in ("vgg16:imagenet", "vgg16_roi_align:random:7", "transformers:C:/models/dinov2"):
        assert ":".join(parse_features(spec)) == spec
    assert parse_features("random:0") == ("vgg16", "random:0")


@pytest.mark.parametrize(
    ("spec", "options", "match"),
    [
        *((spec, {}, f"features: .*'{spec}'") for spec in ("", "vgg16", "vgg16:", "resnet:imagenet", "openai/clip")),
        *((f"{kind}:random:0", {"size": 16}, "size: .*16") for kind in ("vgg16", "vgg16_roi_align")),
        ("random:0", {"batch_size": 0}, "batch_size: .*0"),
        ("random:0", {"dtype": "int8"}, "dtype: .*int8"),
    ],
)
def test_an_unknown_spec_and_arguments_out_of_range(spec, options, match):
    with pytest.raises(ValueError, match=match):
        VisualFeatureExtractor.from_spec(spec, **options)
