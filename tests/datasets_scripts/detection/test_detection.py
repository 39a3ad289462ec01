"""The filters all detectors share, as properties of random boxes; settings; and how a spec string is read."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from datasets_scripts.detection.base import (
    Detection,
    DetectionSettings,
    detections_from,
    keep_detections,
    seeded,
    weights_digest,
)
from datasets_scripts.detection.detectors import make_detector


WIDTH, HEIGHT = 40, 30

coordinates = st.one_of(st.integers(-10, 50), st.floats(-10, 50), st.sampled_from([math.nan, math.inf, -math.inf]))
candidates = st.lists(
    st.builds(
        Detection,
        box=st.tuples(coordinates, coordinates, coordinates, coordinates),
        score=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),  # few, so that there are ties
        label=st.sampled_from(["cat", "dog"]),
    ),
    max_size=25,
)
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
    everything = {"max_objects": 100, "duplicate_iou": 1.0}
    valid = keep_detections(
        given_candidates, (WIDTH, HEIGHT), score_threshold=options["score_threshold"], **everything
    )
    finite = [one for one in given_candidates if all(map(math.isfinite, one.box))]
    inside = [
        one
        for one in finite
        if min(one.box[2], WIDTH) - max(one.box[0], 0) > 0.02 and min(one.box[3], HEIGHT) - max(one.box[1], 0) > 0.02
    ]
    assert len(valid) >= sum(one.score > options["score_threshold"] for one in inside)
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    if len(kept) < options["max_objects"]:
        for one in valid:
            assert one in kept or any(iou(one, other) > options["duplicate_iou"] - 1e-9 for other in kept)


@given(candidates, filters, st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(given_candidates, options, shuffler):
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    shuffler.shuffle(given_candidates)
    assert keep_detections(given_candidates, (WIDTH, HEIGHT), **options) == kept


@given(candidates, filters)
def test_filtering_twice_changes_nothing(given_candidates, options):
    kept = keep_detections(given_candidates, (WIDTH, HEIGHT), **options)
    assert keep_detections(kept, (WIDTH, HEIGHT), **options) == kept


def test_duplicates_are_class_agnostic_and_the_better_one_stays():
    dog, cat = Detection((0, 0, 10, 10), 0.5, "dog"), Detection((0, 0, 10, 9), 0.6, "cat")
    far = Detection((20, 20, 30, 30), 0.1, "cat")
    kept = keep_detections([dog, cat, far], (WIDTH, HEIGHT), duplicate_iou=0.8)
    assert [detection.label for detection in kept] == ["cat", "cat"]
    assert [detection.score for detection in kept] == [0.6, 0.1]
    assert len(keep_detections([dog, cat, far], (WIDTH, HEIGHT), duplicate_iou=0.95)) == 3


def test_values_are_rounded_to_what_hardware_agrees_on():
    kept = keep_detections([Detection((1.00449, 2, 3.005001, 4), 0.12345678, "cat")], (WIDTH, HEIGHT))
    assert kept == [Detection((1.0, 2.0, 3.01, 4.0), 0.123457, "cat")]


def test_detections_from_tensors():
    made = detections_from(torch.tensor([[1.0, 2, 3, 4]], dtype=torch.float16), torch.tensor([0.5]), iter(["cat"]))
    assert made == [Detection((1.0, 2.0, 3.0, 4.0), 0.5, "cat")]


@pytest.mark.parametrize(
    ("field", "value"),
    [("score_threshold", 1.0), ("score_threshold", -0.1), ("duplicate_iou", 0.0), ("duplicate_iou", 1.1)]
    + [("max_objects", 0), ("batch_size", 0), ("dtype", "bfloat16"), ("device", "gpu")],
)
def test_settings_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected .*received {value!r}"):
        DetectionSettings(**{field: value})


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("none", {}, "detector: .*received 'none'"),
        ("torchvison:ssd300_vgg16", {}, "detector: .*did you mean 'torchvision'"),
        ("torchvision:", {}, "detector: .*received 'torchvision:'"),
        ("torchvision:ssd300_vgg16?weights", {}, r'detector: .*received "\?weights"'),
        ("torchvision:ssd300_vgg16?wieghts=random:0", {}, "received 'wieghts'; did you mean 'weights'"),
        ("torchvision:ssd300_vgg16?image_size=320", {}, "torchvision .* received 'image_size'"),
        ("torchvision:ssd300_vgg16", {"max_object": 3}, "received 'max_object'; did you mean 'max_objects'"),
        ("torchvision:ssd300_vgg16?max_objects=3", {"max_objects": 3}, "received 'max_objects' twice"),
        ("torchvision:ssd300_vgg16?dtype=a&dtype=b", {}, "received 'dtype' twice"),
        ("torchvision:ssd300_vgg16?max_objects=few", {}, "max_objects .* int, received 'few'"),
        ("torchvision:fasterrcnn_resnet50_fpnv2?weights=random:0", {}, "did you mean 'fasterrcnn_resnet50_fpn_v2'"),
        ("torchvision:vgg16", {}, "model: .*received 'vgg16'"),  # a model, and no detector
        ("torchvision:ssd300_vgg16?weights=COCO_V2", {}, "weights: .*received 'COCO_V2'; did you mean 'COCO_V1'"),
        *(
            (f"torchvision:ssd300_vgg16?weights={wrong}", {}, f"weights: .*received '{wrong}'")
            for wrong in ("random", "random:", "random:-1", "random:x")
        ),
    ],
)
def test_specs_that_name_nothing(spec, options, message):
    with pytest.raises(ValueError, match=message):
        make_detector(spec, **options)


def test_seeded_weights_and_their_digest():
    def layer(seed):
        with seeded(seed):
            return torch.nn.Linear(3, 2)

    before = torch.get_rng_state()
    assert weights_digest(layer(0)) == weights_digest(layer(0)) != weights_digest(layer(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_digest(layer(0)) != weights_digest(layer(0).double())
    assert weights_digest(torch.nn.BatchNorm1d(2))  # a scalar among its buffers
