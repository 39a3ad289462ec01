"""YOLO detectors, through the package ultralytics: the paper's YOLOv3 (Redmon and Farhadi 2018) and its successors.

LICENCE: ultralytics, and the weights it publishes, are AGPL-3.0, or need a licence bought from Ultralytics. It is
never installed with this project: ask for it with `pip install "vmhan[ultralytics]"`. It is imported in this file
only, and only when a YOLO is made; a program that does so has to meet the AGPL's terms. `torchvision_detector` does
the same work under BSD-3-Clause.

Departure from the paper: its YOLOv3 is Darknet's, with anchor boxes; ultralytics' "yolov3u" is the same Darknet-53
backbone under an anchor-free head, trained anew on COCO. The 80 classes are the same; an architecture with random
weights has their numbers for labels.

Importing ultralytics replaces `PIL.Image.open` (by one that installs a package when a file is no image) and
`torch.save`: both are put back. Environment variables keep it from reporting usage, installing packages and evaluating
code. A file of weights is read only after ultralytics' restricted loader has found nothing in it but weights and
layers, because the usual one runs whatever code a pickle holds.
"""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from datasets_scripts.commands import nearest
from datasets_scripts.detection import base
from datasets_scripts.detection.base import DetectionSettings, Detector, Queries, Raw, Sizes


__all__ = ["UltralyticsDetector", "import_ultralytics", "load_detector"]

SAFE_ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "ULTRALYTICS_SAFE_LOAD": "true"}
TASKS_WITH_BOXES = ("detect", "segment", "pose")


class UltralyticsDetector(Detector):
    """A YOLO network with its own preprocessing and per-class non-maximum suppression; every image is put into a
    square of `image_size` pixels (rounded up to a multiple of 32), so that a batch's other images do not change how it
    is padded.
    """

    def __init__(self, yolo: Any, *, image_size: int, **others: Any):
        super().__init__(yolo.model, image_size=image_size, **others)
        self.yolo, self.image_size = yolo, image_size

    def forward(self, prepared: list[Image.Image], sizes: Sizes, queries: Queries) -> list[Raw]:
        results = self.yolo.predict(
            prepared,
            conf=self.filters["score_threshold"],
            max_det=max(300, self.filters["max_objects"]),
            imgsz=self.image_size,
            rect=False,
            device=self.device,
            save=False,
            verbose=False,
        )
        boxes = [(result.boxes, result.names) for result in results]
        return [(found.xyxy, found.conf, [names[int(index)] for index in found.cls]) for found, names in boxes]


def load_detector(
    model: str, *, settings: DetectionSettings, weights: str | None = None, image_size: int = 640
) -> UltralyticsDetector:
    """The YOLO of weights (".pt"), or of an architecture (".yaml") with `weights` "random:SEED"; see `make_detector`.

    Weights are a path, or a name that is looked for in `torch.hub.get_dir()/checkpoints` and downloaded into it.
    """
    is_architecture = model.endswith((".yaml", ".yml"))
    seed = base.random_seed(weights)
    if is_architecture == (weights is None) or (is_architecture and seed is None):
        raise ValueError(
            "weights: expected none beside a file of weights (yolov3u.pt) and random:SEED beside an architecture "
            f"(yolov3.yaml), received {weights!r} for {model}"
        )
    library = import_ultralytics()
    with base.seeded(seed or 0):
        yolo = library.YOLO(model) if is_architecture else _pretrained(library, _weights_file(model))
    if yolo.task not in TASKS_WITH_BOXES:
        raise ValueError(
            f"{model}: expected a model of one of the tasks {list(TASKS_WITH_BOXES)}, which give boxes, received one "
            f"of the task {yolo.task!r}"
        )
    name = Path(model).name  # not the path: where it lay on this machine is nobody's business
    return UltralyticsDetector(
        yolo,
        image_size=image_size,
        settings=settings,
        adapter="ultralytics",
        model=name,
        weights=weights or name,
        versions={"ultralytics": library.__version__},
    )


def import_ultralytics() -> ModuleType:
    """The package, imported as the top of this file says; ImportError with what to do if it is not there."""
    for name, value in SAFE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    patched = Image.open, torch.save
    try:
        import ultralytics
    except ImportError as error:
        raise ImportError(
            f"YOLO needs the package ultralytics (AGPL-3.0), which could not be imported ({error}): pip install "
            '"vmhan[ultralytics]". If libGL is what is missing, replace opencv-python by opencv-python-headless. '
            'Without the AGPL: "torchvision:fasterrcnn_resnet50_fpn_v2"'
        ) from error
    Image.open, torch.save = patched
    return ultralytics


def _pretrained(library: ModuleType, path: Path) -> Any:
    from ultralytics.nn.tasks import torch_safe_load

    try:
        torch_safe_load(path, safe_only=True)  # raises before any code in the file runs; YOLO has no such argument
        return library.YOLO(path)
    except Exception as error:  # whatever the bytes of a damaged file happen to spell
        raise ValueError(
            f"{path}: expected weights saved by ultralytics, received something else or a damaged file ({error})"
        ) from error


def _weights_file(model: str) -> Path:
    """The weights on this machine; downloaded if they are ultralytics' and not here."""
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for path in (Path(model).expanduser(), cache / model):
        if path.is_file():
            return path.absolute()
    if model not in GITHUB_ASSETS_NAMES:
        raise ValueError(
            f"model: expected a file that exists or weights that ultralytics publishes, received {model!r}"
            f"{nearest(model, GITHUB_ASSETS_NAMES)}"
        )
    attempt_download_asset(cache / model)
    return cache / model
