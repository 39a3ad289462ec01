"""What every detector promises, asked of each: real networks with random weights, small."""

import json

import detectors
import numpy as np
import pytest
import torch
from detectors import picture

from datasets_scripts.detection.detectors import make_detector


SPECS = {
    "faster_rcnn": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn?weights=random:0",
    "ssdlite": "torchvision:ssdlite320_mobilenet_v3_large?weights=random:0",
    "yolo": "ultralytics:{saved}.pt?image_size=96",
    "detr": "transformers:{saved}",
    "owlv2": "transformers:{saved}",
    "grounding_dino": "transformers:{saved}",
}
TEXT_CONDITIONED = ("owlv2", "grounding_dino")
QUERIES = [["red car", "a cat"], ["a dog"], ["cat", "dog", "Black hawk."], ["dog", "red car"], ["cat"], ["dog"]]


@pytest.fixture(scope="module")
def images():
    """Two of one size, two that the networks would pad to each other, a single pixel, a strip."""
    sizes = [(64, 48), (48, 64), (64, 48), (50, 50), (1, 1), (2, 90)]
    return [picture(width, height, seed) for seed, (width, height) in enumerate(sizes)]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """`make(name, **options)`: one of SPECS; it finds as much as it may unless `score_threshold` says otherwise."""
    folder = tmp_path_factory.mktemp("detectors")

    def detector(name, **options):
        saved, spec = folder / name, SPECS[name]
        if "weights" in options:
            spec = "ultralytics:yolo11n.yaml" if name == "yolo" else spec.partition("?")[0]
        if "{saved}" in SPECS[name] and not any(folder.glob(f"{name}*")):
            getattr(detectors, f"save_{name}")(saved.with_suffix(".pt") if name == "yolo" else saved)
        defaults = {"device": "cpu", "score_threshold": 1e-5 if name == "yolo" else 0.0}
        made = make_detector(spec.format(saved=saved), **{**defaults, **options})
        if name == "faster_rcnn":  # a third of its 320 and 640 pixels, a tenth of its 1,000 proposals, to be quick
            made.network.transform.min_size, made.network.transform.max_size = (96,), 192
            made.network.rpn._post_nms_top_n["testing"] = 100
        return made

    return detector


@pytest.fixture(scope="module", params=SPECS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def detector(make, name):
    return make(name, batch_size=4)


@pytest.fixture(scope="module")
def found(detector, images):
    return detector.detect(images, QUERIES)


def test_boxes_are_inside_their_image_and_in_order(found, images):
    assert len(found) == len(images)
    assert all(found[index] for index in range(4))
    for detections, image in zip(found, images):
        assert len(detections) <= 10
        for detection in detections:
            x1, y1, x2, y2 = detection.box
            assert 0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height
            assert 0 < detection.score <= 1 and isinstance(detection.label, str) and detection.label
        assert detections == sorted(detections, key=lambda one: (-one.score, one.box, one.label))


def test_the_same_call_gives_the_same_and_leaves_the_generator_alone(detector, found, images):
    before = torch.get_rng_state()
    assert detector.detect(images, QUERIES) == found
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbours_in_the_call_do_not_move_boxes(detector, found, images):
    for image, queries, together in zip(images, QUERIES, found):
        alone = detector.detect([image], [queries])[0]
        np.testing.assert_allclose([one.score for one in alone], [one.score for one in together], atol=1e-4)
        for one in alone:  # nearly equal scores may have changed places
            assert any(np.allclose(one.box, other.box, atol=0.1) and one.label == other.label for other in together)


def test_description(make, name, detector):
    described = json.loads(json.dumps(detector.description))
    assert SPECS[name].startswith(described["adapter"])
    assert described["text_conditioned"] == (name in TEXT_CONDITIONED)
    assert len(described["weights_sha256"]) == 64 and described["versions"]["torch"] == torch.__version__
    assert make(name, batch_size=1).description == described  # it says what was found, not how fast
    assert make(name, max_objects=2).description == described | {"max_objects": 2}


def test_max_objects_thresholds_and_duplicates(make, name, detector, found, images):
    assert detector.detect([]) == [] and detector.detect([], []) == []
    assert make(name, score_threshold=1 - 1e-9).detect(images[:2], QUERIES[:2]) == [[], []]
    assert make(name, max_objects=1).detect(images[:1], QUERIES[:1]) == [found[0][:1]]
    everything = make(name, duplicate_iou=1.0, max_objects=1000).detect(images[:1], QUERIES[:1])[0]
    assert set(found[0]) <= set(everything)
    assert len(everything) > len(found[0]) or name == "owlv2"  # whose 16 boxes here hardly overlap


@pytest.mark.parametrize("name", ["ssdlite", "yolo", "detr", "owlv2"])
def test_seeds_give_different_networks(make, name):
    networks = [make(name, weights=f"random:{seed}") for seed in (0, 0, 1)]
    digests = [network.description["weights_sha256"] for network in networks]
    assert digests[0] == digests[1] != digests[2] and networks[2].description["weights"] == "random:1"


@pytest.mark.parametrize("name", ["faster_rcnn", "yolo", "detr", "owlv2", "grounding_dino"])
def test_float16_is_close(make, name, images):
    half = make(name, dtype="float16")
    assert half.description["dtype"] == "float16"
    rough, exact = (one.detect(images[:1], QUERIES[:1])[0] for one in (half, make(name)))
    assert abs(rough[0].score - exact[0].score) < 0.02 and rough != exact


@pytest.mark.parametrize(
    ("images", "queries", "message"),
    [
        ([picture(8, 8), picture(8, 8).convert("L")], QUERIES[:2], r"images\[1\]: .*mode=L"),
        (["photo.jpg"], QUERIES[:1], r"images\[0\]: .*'photo.jpg'"),
        ([picture(8, 8)], [["cat"], ["dog"]], "queries: .* 1 images, received 2"),
    ],
)
def test_bad_images_and_queries(detector, images, queries, message):
    with pytest.raises(ValueError, match=message):
        detector.detect(images, queries)


@pytest.mark.parametrize("text_conditioned", TEXT_CONDITIONED)
def test_labels_are_queries(make, images, text_conditioned):
    detector = make(text_conditioned)
    with pytest.raises(ValueError, match="queries: "):
        detector.detect(images)
    for detections, asked in zip(detector.detect(images, QUERIES), QUERIES):
        assert {detection.label for detection in detections} <= set(asked)
    found = detector.detect(images[:2], [["a cat"], ["", "  "]])
    assert {detection.label for detection in found[0]} == {"a cat"} and found[1] == []
    assert detector.detect(images[:1], [["a cat", " a  cat "]])[0] == found[0]
    assert detector.detect(images[:1], [["red car " * 50]])  # cut, not an error
