"""The feature extractor: batches across images change nothing, and the description says what was run."""

import numpy as np
import pytest
import torch
import torchvision

from datasets_scripts.features import VisualFeatureExtractor
from datasets_scripts.postcards import PostcardsConfig, make_postcard


@pytest.fixture(scope="module")
def extractor():
    return VisualFeatureExtractor("random:0", size=32, batch_size=8, device="cpu")


@pytest.fixture(scope="module")
def images_and_boxes():
    postcards = [make_postcard(PostcardsConfig(), "train", index) for index in range(4)]
    inputs = [(postcard.image, [list(sticker.box) for sticker in postcard.stickers]) for postcard in postcards]
    return [*inputs, (postcards[0].image, [])]  # the last image has no boxes


def test_shapes_types_and_order(extractor, images_and_boxes):
    results = list(extractor.extract(images_and_boxes, progress=False))
    assert len(results) == len(images_and_boxes)
    for (_, boxes), (image_features, object_features) in zip(images_and_boxes, results, strict=True):
        assert image_features.shape == (extractor.feature_size,) and image_features.dtype == np.float16
        assert object_features.shape == (len(boxes), extractor.feature_size) and object_features.dtype == np.float16
    np.testing.assert_allclose(results[0][0], results[-1][0], atol=1e-4)  # the same image, with and without boxes


@pytest.mark.parametrize("batch_size", [5, 1000])
def test_one_by_one_equals_batched(extractor, images_and_boxes, batch_size):
    together = list(extractor.extract(images_and_boxes, progress=False))
    extractor.batch_size, before = batch_size, extractor.batch_size
    alone = [next(extractor.extract([pair], progress=False)) for pair in images_and_boxes]
    extractor.batch_size = before
    for got, expected in zip(alone, together, strict=True):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one.astype(float), other.astype(float), atol=1e-4, rtol=1e-3)


def test_regions_are_told_apart_in_float16(extractor, images_and_boxes):
    features = next(extractor.extract(images_and_boxes, progress=False))[1]
    assert len(np.unique(features, axis=0)) == len(features)


def test_extraction_leaves_the_global_generator_alone(extractor, images_and_boxes):
    before = torch.get_rng_state()
    list(extractor.extract(images_and_boxes[:1], progress=False))
    assert torch.equal(torch.get_rng_state(), before)


def test_results_come_as_soon_as_a_batch_is_full(extractor, images_and_boxes):
    taken = []

    def inputs():
        for index, pair in enumerate(images_and_boxes * 3):
            taken.append(index)
            yield pair

    next(extractor.extract(inputs(), progress=False))
    assert len(taken) < 4  # 4 to 8 stickers an image and batches of 8: two images are enough


def test_no_images(extractor):
    assert list(extractor.extract([], progress=False)) == []


def test_progress_bar_counts_images(extractor, images_and_boxes, capsys):
    list(extractor.extract(images_and_boxes[:2]))
    printed = capsys.readouterr().err
    assert "VGG16 features" in printed and "2/2" in printed


def test_description(extractor):
    assert extractor.description == {
        "network": "VGG16 fc7 (4096, after ReLU)",
        "weights": "random:0",
        "size": 32,
        "torchvision": torchvision.__version__,
    }


def test_size_too_small():
    with pytest.raises(ValueError, match="size must be at least 32 pixels"):
        VisualFeatureExtractor("random:0", size=16)


def test_batch_size_too_small():
    with pytest.raises(ValueError, match="batch_size must be at least 1 region"):
        VisualFeatureExtractor("random:0", size=32, batch_size=0)
