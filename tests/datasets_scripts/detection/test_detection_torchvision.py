"""torchvision's detectors: which there are, COCO weights from the cache, and what happens when they are not there."""

import pytest
import torch
from detectors import picture
from torchvision.models import get_model, get_model_weights

from datasets_scripts.detection.base import seeded, weights_digest
from datasets_scripts.detection.detectors import make_detector


SSDLITE = "ssdlite320_mobilenet_v3_large"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of torch, and torchvision's address of the weights leading nowhere."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model_weights(SSDLITE).COCO_V1
    name = weights.url.rpartition("/")[2]
    monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:9/{name}")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder / name


@pytest.mark.parametrize("model", ["retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"])
def test_other_architectures(model):
    detector = make_detector(f"torchvision:{model}?weights=random:0&score_threshold=0", device="cpu")
    detector.network.transform.min_size = (64,)  # instead of 800 pixels, to be quick
    detections = detector.detect([picture(60, 40)])[0]
    assert 0 < len(detections) <= 10
    assert {detection.label for detection in detections} <= set(get_model_weights(model).DEFAULT.meta["categories"])


@pytest.mark.parametrize("weights", ["", "?weights=COCO_V1"])
def test_weights_in_the_cache_are_used(weights, cache):
    with seeded(3):
        network = get_model(SSDLITE, weights=None, weights_backbone=None, num_classes=91)
    torch.save(network.state_dict(), cache)
    detector = make_detector(f"torchvision:{SSDLITE}{weights}", device="cpu", score_threshold=0.0)
    assert detector.description["weights_sha256"] == weights_digest(network)
    assert detector.description["weights"] == "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1"
    assert detector.detect([picture(60, 40)])[0]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_weights_that_cannot_be_had(is_damaged, cache):
    if is_damaged:
        cache.write_bytes(b"half a download")
    with pytest.raises(OSError, match=f"http://127.0.0.1:9/{cache.name}.* {cache.parent}"):
        make_detector(f"torchvision:{SSDLITE}")
