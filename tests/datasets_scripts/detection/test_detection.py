"""The filters all detectors share, as properties of random boxes; settings; and how a spec string is read."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from datasets_scripts.detection.base import Detection, keep_detections, seeded, weights_digest
from datasets_scripts.detection.detectors import make_detector


WIDTH, HEIGHT = 40, 30

coordinates = st.one_of(st.integers(-10, 50), st.floats(-10, 50), st.sampled_from([math.nan, math.inf, -math.inf]))
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates)
scores = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])  # few, so that there are ties
labels = st.sampled_from(["cat", "dog"])
candidates = st.lists(st.builds(Detection, box=boxes, score=scores, label=labels), max_size=25)
filters = st.fixed_dictionaries(
    {
        "score_threshold": st.sampled_from([0.0, 0.2, 0.5]),
        "max_objects": st.integers(1, 6),
        "duplicate_iou": st.sampled_from([0.1, 0.5, 0.7, 1.0]),
    }
)


def iou(one, other):
    return box_iou(torch.tensor([one.box]).double(), torch.tensor([other.box]).double()).item()


@given(candidates, filters)
def test_what_is_kept_is_clipped_sorted_and_without_duplicates(given_candidates, options):
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    assert len(kept) <= options["max_objects"]
    for detection in kept:
        x1, y1, x2, y2 = detection.box
        assert 0 <= x1 < x2 <= WIDTH and 0 <= y1 < y2 <= HEIGHT
        assert all(type(value) is float for value in (*detection.box, detection.score))
        assert detection.score > options["score_threshold"]
    assert kept == sorted(kept, key=lambda detection: (-detection.score, detection.box, detection.label))
    for index, detection in enumerate(kept):
        assert all(iou(detection, other) <= options["duplicate_iou"] + 1e-9 for other in kept[:index])


@given(candidates, filters)
def test_what_is_dropped_had_a_reason(given_candidates, options):
    threshold = options["score_threshold"]
    everything = {"score_threshold": threshold, "max_objects": 100, "duplicate_iou": 1.0}
    valid = keep_detections(given_candidates, (WIDTH, HEIGHT), **everything)
    scored = [one.box for one in given_candidates if one.score > threshold and all(map(math.isfinite, one.box))]
    inside = [
        x1 for x1, y1, x2, y2 in scored if min(x2, WIDTH) - max(x1, 0) > 0.02 and min(y2, HEIGHT) - max(y1, 0) > 0.02
    ]
    assert len(valid) >= len(inside)
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    if len(kept) < options["max_objects"]:
        for one in valid:
            assert one in kept or any(iou(one, other) > options["duplicate_iou"] - 1e-9 for other in kept)


@given(candidates, filters, st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter_and_filtering_twice_changes_nothing(given_candidates, options, shuffler):
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    shuffler.shuffle(given_candidates)
    assert keep_detections(given_candidates, (WIDTH, HEIGHT), **options) == kept
    assert keep_detections(kept, (WIDTH, HEIGHT), **options) == kept


def test_duplicates_are_class_agnostic_and_the_better_one_stays():
    dog, cat = Detection((0.0, 0.0, 10.0, 10.0), 0.5, "dog"), Detection((0.0, 0.0, 10.0, 9.0), 0.6, "cat")
    far = Detection((20.0, 20.0, 30.0, 30.0), 0.1, "cat")
    assert keep_detections([dog, cat, far], (WIDTH, HEIGHT), duplicate_iou=0.8) == [cat, far]
    assert keep_detections([dog, cat, far], (WIDTH, HEIGHT), duplicate_iou=0.95) == [cat, dog, far]
    kept = keep_detections([Detection((1.00449, 2, 3.005001, 4), 0.12345678, "cat")], (WIDTH, HEIGHT))
    assert kept == [Detection((1.0, 2.0, 3.01, 4.0), 0.123457, "cat")]  # rounded to what hardware agrees on


SSD = "torchvision:ssd300_vgg16"


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("none", {}, "detector: .*received 'none'"),
        ("torchvison:ssd300_vgg16", {}, "detector: .*'torchvision'"),
        ("torchvision:", {}, "detector: .*received 'torchvision:'"),
        (f"{SSD}?weights", {}, r'detector: .*received "\?weights"'),
        (f"{SSD}?wieghts=random:0", {}, "received 'wieghts'.*'weights'"),
        (f"{SSD}?image_size=320", {}, "torchvision .* received 'image_size'"),
        (SSD, {"max_object": 3}, "received 'max_object'.*'max_objects'"),
        (f"{SSD}?max_objects=3", {"max_objects": 3}, "received 'max_objects' twice"),
        (f"{SSD}?dtype=a&dtype=b", {}, "received 'dtype' twice"),
        (f"{SSD}?max_objects=few", {}, "max_objects .* int, received 'few'"),
        ("torchvision:fasterrcnn_resnet50_fpnv2?weights=random:0", {}, "'fasterrcnn_resnet50_fpn_v2'"),
        ("torchvision:vgg16", {}, "model: .*received 'vgg16'"),  # a model, and no detector
        (f"{SSD}?weights=COCO_V2", {}, "weights: .*received 'COCO_V2'.*'COCO_V1'"),
        *((f"{SSD}?weights={wrong}", {}, f"weights: .*received '{wrong}'") for wrong in ("random", "random:-1")),
        *((SSD, {"score_threshold": value}, f"score_threshold: .*received {value}") for value in (1.0, -0.1)),
        *((SSD, {"duplicate_iou": value}, f"duplicate_iou: .*received {value}") for value in (0.0, 1.1)),
        *((SSD, {name: 0}, f"{name}: .*received 0") for name in ("max_objects", "batch_size")),
        *((SSD, {name: "bfloat16"}, f"{name}: .*received 'bfloat16'") for name in ("dtype", "device")),
    ],
)
def test_specs_and_options_that_name_nothing(spec, options, message):
    with pytest.raises(ValueError, match=message):
        make_detector(spec, **options)


def test_seeded_weights_and_their_digest():
    def layer(seed):
        with seeded(seed):
            return torch.nn.Linear(3, 2)

    before = torch.get_rng_state()
    assert weights_digest(layer(0)) == weights_digest(layer(0)) != weights_digest(layer(1))
    assert torch.equal(torch.get_rng_state(), before)
