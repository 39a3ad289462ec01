"""YOLO detectors, through the package ultralytics: the paper's YOLOv3 (Redmon and Farhadi 2018) and its successors.

LICENCE: ultralytics, and the weights it publishes, are AGPL-3.0, or need a licence bought from Ultralytics. It is
never installed with this project: ask for it with `pip install "vmhan[ultralytics]"`. It is imported in this file
only, and only when a YOLO is made; a program that does so has to meet the AGPL's terms. `detection_torchvision` does
the same work under BSD-3-Clause.

Departure from the paper: its YOLOv3 is Darknet's, with anchor boxes; ultralytics' "yolov3u" is the same Darknet-53
backbone under an anchor-free head, trained anew on COCO. The 80 classes are the same; an architecture with random
weights has their numbers for labels.

Importing ultralytics writes a settings file into the user's configuration folder and sets print options of torch and
numpy. It also replaces `PIL.Image.open` (by one that installs a package when a file is no image) and `torch.save`:
both are put back. It is imported with YOLO_OFFLINE, YOLO_AUTOINSTALL and ULTRALYTICS_SAFE_LOAD set so that it neither
reports usage nor installs packages nor evaluates code; values that the environment already has are left alone. As
somebody else may have imported it before, a file of weights is read only after its restricted loader has found
nothing in it but weights and layers: the usual one runs whatever code a pickle holds.
"""

import os
import re
from collections.abc import Hashable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from datasets_scripts.detection.batching import BatchedDetector, random_seed, seeded, weights_digest
from datasets_scripts.detection.detectors import Detection, DetectionSettings, detections_from, nearest_names


__all__ = ["UltralyticsDetector", "import_ultralytics", "load_detector"]

SAFE_ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "ULTRALYTICS_SAFE_LOAD": "true"}
TASKS_WITH_BOXES = ("detect", "segment", "pose")
# Of the weights that ultralytics publishes, those that give boxes; it lists all its models together.
DETECTION_WEIGHTS = re.compile(r"(yolov?\d+[a-z]?6?u?(-seg|-pose|-oiv7)?|yolov3-(spp|tiny)u|rtdetr-[lx])\.pt")


class UltralyticsDetector(BatchedDetector):
    """A YOLO network with its own preprocessing and per-class non-maximum suppression.

    Every image is put into the same square, so that a batch's other images do not change how it is padded.

    Args:
        yolo: an `ultralytics.YOLO`.
        image_size: side in pixels of that square; ultralytics rounds it up to a multiple of 32.
        settings: see `DetectionSettings`.
        description: what names model and weights.
    """

    def __init__(self, yolo: Any, *, image_size: int, settings: DetectionSettings, description: dict[str, Any]):
        super().__init__(settings, score_threshold=0.25, description={**description, "image_size": image_size})
        self.yolo = yolo
        self.image_size = image_size

    def prepare(self, image: Image.Image, queries: list[str]) -> Image.Image:
        """The image itself: ultralytics resizes and pads."""
        return image

    def shape(self, prepared: Image.Image) -> Hashable:
        """One square for all."""
        return None

    def forward(
        self, prepared: list[Image.Image], sizes: list[tuple[int, int]], queries: list[list[str]]
    ) -> list[list[Detection]]:
        """See `BatchedDetector.forward`."""
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
        return [
            detections_from(result.boxes.xyxy, result.boxes.conf, (result.names[int(i)] for i in result.boxes.cls))
            for result in results
        ]


def load_detector(
    model: str, *, settings: DetectionSettings, weights: str | None = None, image_size: int = 640
) -> UltralyticsDetector:
    """The YOLO that ultralytics calls `model`.

    Args:
        model: weights (".pt"), as a path, or by a name that is looked for in `torch.hub.get_dir()/checkpoints`, then
            in ultralytics' own folder of weights, then downloaded into the former; or an architecture (".yaml"), a
            path or one of ultralytics' names, which needs `weights`.
        settings: see `DetectionSettings`.
        weights: None, or "random:SEED" for an architecture.
        image_size: side in pixels of the square that the network sees.

    Raises:
        ValueError: no such model; weights that are not ultralytics' or give no boxes; an architecture without
            `weights`, or weights with; `image_size` below 32.
        OSError: the weights are not on this machine and cannot be downloaded.
        ImportError: ultralytics is not installed.
    """
    if image_size < 32:
        raise ValueError(
            f"image_size: expected at least 32 pixels (YOLO halves the side five times), received {image_size}"
        )
    is_architecture = model.endswith((".yaml", ".yml"))
    seed = random_seed(weights)
    if is_architecture and seed is None:
        raise ValueError(
            f"{model} is an architecture and has no weights, received weights={weights!r}. Name weights, such as "
            f'"ultralytics:yolov3u.pt", or ask for random ones: "ultralytics:{model}?weights=random:0"'
        )
    if not is_architecture and weights is not None:
        raise ValueError(
            f"weights: {model} names its own weights, received weights={weights!r}. Leave them out, or name an "
            'architecture: "ultralytics:yolov3.yaml?weights=random:0"'
        )
    library = import_ultralytics()
    yolo = _random(library, model, seed) if is_architecture else _pretrained(library, model)
    if yolo.task not in TASKS_WITH_BOXES:
        raise ValueError(
            f"{model}: expected a model of one of the tasks {list(TASKS_WITH_BOXES)}, which give boxes, received one "
            f'of the task {yolo.task!r}. For example "ultralytics:yolov3u.pt"'
        )
    description = {
        "adapter": "ultralytics",
        "model": Path(model).name,  # of a path only the name: where it lay on this machine is nobody's business
        "weights": weights or Path(model).name,
        "weights_sha256": weights_digest(yolo.model),
        "versions": {"torch": torch.__version__, "ultralytics": library.__version__},
    }
    return UltralyticsDetector(yolo, image_size=image_size, settings=settings, description=description)


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


def _random(library: ModuleType, model: str, seed: int) -> Any:
    try:
        with seeded(seed):
            return library.YOLO(model)
    except FileNotFoundError as error:
        folder = Path(library.__file__).parent / "cfg" / "models"
        known = sorted(path.name for path in folder.rglob("*.yaml"))
        raise ValueError(
            f"model: expected a file or one of ultralytics' architectures {known}, each with its size after the "
            f"number (yolo11n.yaml), received {model!r}{nearest_names(model, known)}"
        ) from error


def _pretrained(library: ModuleType, model: str) -> Any:
    path = _weights_file(model)
    from ultralytics.nn.tasks import torch_safe_load

    try:
        torch_safe_load(path, safe_only=True)  # raises before any code in the file runs; YOLO has no such argument
        return library.YOLO(path)
    except Exception as error:  # whatever the bytes of a damaged file happen to spell
        raise ValueError(
            f"{path}: expected weights saved by ultralytics (a .pt file), received something else or a damaged file "
            f"({error}). Download it again, or name another."
        ) from error


def _weights_file(model: str) -> Path:
    """The weights on this machine; downloaded if they are ultralytics' and not here."""
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for path in (Path(model).expanduser(), cache / model, Path(SETTINGS["weights_dir"]) / model):
        if path.is_file():
            return path.absolute()
    known = sorted(name for name in GITHUB_ASSETS_NAMES if DETECTION_WEIGHTS.fullmatch(name))
    if model not in known:
        raise ValueError(
            f"model: expected a file that exists or one of ultralytics' weights {known}, received {model!r}"
            f"{nearest_names(model, known)}"
        )
    try:
        attempt_download_asset(cache / model)
    except OSError as error:
        raise OSError(
            f"ultralytics:{model} could not be downloaded ({error}). Put the file, from "
            f"https://github.com/ultralytics/assets/releases, into {cache}, or pass its path, or pass "
            f'"ultralytics:yolov3.yaml?weights=random:0" for random weights, good enough to try the code only.'
        ) from error
    return cache / model
