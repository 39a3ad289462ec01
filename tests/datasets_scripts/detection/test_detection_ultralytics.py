"""YOLO through ultralytics: no network and no code from files, weights by path and by name, and its absence.

Skipped but for the last when the extra `ultralytics` (AGPL-3.0) is not installed.
"""

import io
import os
import pickle
import socket
import sys

import detectors
import pytest
import torch
from detectors import picture
from PIL import Image, UnidentifiedImageError

from datasets_scripts.detection.detectors import make_detector


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return detectors.save_yolo(tmp_path_factory.mktemp("yolo") / "yolov3u.pt")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"a network call: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_local_weights_need_no_network_and_write_nothing(weights, no_network, tmp_path, monkeypatch):
    """Nor is Pillow's `open` ultralytics' own, which looks for a package to install when a file is no image."""
    monkeypatch.chdir(tmp_path)
    options = {"device": "cpu", "score_threshold": 1e-5}
    small, large = (make_detector(f"ultralytics:{weights}", **options, image_size=size) for size in (64, 128))
    (found,) = small.detect([picture(60, 40)])
    assert found and large.detect([picture(60, 40)]) != [found] and large.description["image_size"] == 128
    assert small.description["model"] == small.description["weights"] == weights.name  # no folder of this machine
    assert list(tmp_path.iterdir()) == []
    assert all(os.environ[name] for name in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "ULTRALYTICS_SAFE_LOAD"))
    with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
        Image.open(io.BytesIO(b"no image"))
    assert Image.open.__module__ == "PIL.Image" and torch.save.__module__ == "torch.serialization"


def test_weights_by_name_in_the_cache_of_torch(weights, no_network, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "yolov3u.pt").write_bytes(weights.read_bytes())
    by_name = make_detector("ultralytics:yolov3u.pt", device="cpu")
    assert by_name.description == make_detector(f"ultralytics:{weights}", device="cpu").description
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(OSError):
        make_detector("ultralytics:yolov5nu.pt")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("yolov3.pt", "model: .*received 'yolov3.pt'; did you mean 'yolov3u.pt'"),
        ("missing/best.pt", "model: .*received 'missing/best.pt'"),
        ("yolo11n.yaml", "weights: .*received None for yolo11n.yaml"),
        ("yolov3u.pt?weights=random:0", "weights: .*received 'random:0' for yolov3u.pt"),
        ("yolo77.yaml?weights=random:0", "yolo77.yaml"),
        ("yolo11n-cls.yaml?weights=random:0", "yolo11n-cls.yaml: .*'detect'.*'classify'"),
    ],
)
def test_wrong_names(weights, spec, message):
    with pytest.raises((ValueError, OSError), match=message):
        make_detector(f"ultralytics:{spec}")


class Trap:
    """Unpickled without care, it makes the folder "sprung"."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_files_that_are_not_weights(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damaged, trap = tmp_path / "damaged.pt", tmp_path / "trap.pt"
    damaged.write_bytes(weights.read_bytes()[:1000])
    torch.save({"model": Trap()}, trap, pickle_module=pickle)
    for path in (damaged, trap):
        with pytest.raises(ValueError, match=str(path)):
            make_detector(f"ultralytics:{path}")
    assert not (tmp_path / "sprung").exists()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(ImportError, match=r'AGPL-3.0.*"vmhan\[ultralytics\]".*torchvision:'):
        make_detector("ultralytics:yolov3u.pt")
