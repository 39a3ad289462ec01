"""Objects of an image: what a detection is, what a detector does, and how one is made from a string.

One file drives each library, and imports it: `detection_ultralytics`, `detection_torchvision`,
`detection_transformers`. Boxes are xyxy in pixels of the image as given: x1, y1 is the upper left corner, x2, y2 the
lower right one, 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height. Detections are a function of the image, and of the
phrases asked for: they know no pair, no line number and no label (DATA.md, "The leak").
"""

import difflib
import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qsl

import torch
from PIL import Image
from torchvision.ops import nms


__all__ = [
    "Detection",
    "DetectionSettings",
    "Detector",
    "detections_from",
    "keep_detections",
    "make_detector",
    "nearest_names",
]

# The file that drives each library, and the options it has beside those of DetectionSettings, by type.
ADAPTERS: dict[str, tuple[str, dict[str, type]]] = {
    "ultralytics": ("datasets_scripts.detection.ultralytics_detector", {"weights": str, "image_size": int}),
    "torchvision": ("datasets_scripts.detection.torchvision_detector", {"weights": str}),
    "transformers": ("datasets_scripts.detection.transformers_detector", {"weights": str}),
}
DTYPES = {"float32": torch.float32, "float16": torch.float16}

# Coordinates are kept to a hundredth of a pixel and scores to six decimals: finer digits are noise of the hardware.
BOX_DECIMALS, SCORE_DECIMALS = 2, 6


@dataclass(frozen=True)
class Detection:
    """One object: its box (x1, y1, x2, y2) in pixels, how sure the detector is (0 to 1), and what it is.

    The score is None only of a box that comes from the data and no detector has scored, in drawings.
    """

    box: tuple[float, float, float, float]
    score: float | None
    label: str


class Detector(Protocol):
    """Finds objects, deterministically: the same call gives the same lists.

    What else is in the call changes at most an image's last digits, by the rounding of batched arithmetic, and with
    `batch_size=1` not even those.
    """

    description: dict[str, Any]
    """JSON-able provenance: adapter, model, weights and their digest, thresholds, library versions.
    `description["text_conditioned"]` says whether `detect` needs queries."""

    def detect(self, images: list[Image.Image], queries: list[list[str]] | None = None) -> list[list[Detection]]:
        """Detections of each image, best first, in the order (-score, box, label).

        Args:
            images: RGB images of any size.
            queries: per image, the phrases that a text-conditioned detector looks for; others ignore them.

        Raises:
            ValueError: an image is not RGB; not one list of queries an image; a text-conditioned detector got none.
        """
        ...


@dataclass(frozen=True)
class DetectionSettings:
    """What all detectors have in common.

    Args:
        score_threshold: only detections that score above it are kept, 0 <= score_threshold < 1; None is the adapter's
            own (0.25; 0.1 for OWL-ViT and OWLv2, whose scores are lower).
        max_objects: at most so many detections an image, the best ones.
        duplicate_iou: of two boxes that overlap more than this, whatever their labels, the better one stays;
            0 < duplicate_iou <= 1, where 1 keeps all.
        batch_size: images taken in at a time. Of those, the ones that have the same shape after preprocessing go
            through the network together: nothing is padded to its neighbours' shape, which would move its boxes.
        device: where the network runs; None takes a CUDA device when there is one.
        dtype: "float32", or "float16" for mixed precision, whose numbers near 1,000 pixels are half a pixel apart.
            There is no "bfloat16": there they are four pixels apart.

    Raises:
        ValueError: a value out of its range.
    """

    score_threshold: float | None = None
    max_objects: int = 10
    duplicate_iou: float = 0.7
    batch_size: int = 8
    device: str | torch.device | None = None
    dtype: str = "float32"

    def __post_init__(self):
        if self.score_threshold is not None and not 0 <= self.score_threshold < 1:
            raise ValueError(f"score_threshold: expected 0 <= score_threshold < 1, received {self.score_threshold}")
        if not 0 < self.duplicate_iou <= 1:
            raise ValueError(
                f"duplicate_iou: expected 0 < duplicate_iou <= 1 (1 keeps all), received {self.duplicate_iou}"
            )
        for name in ("max_objects", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, received {getattr(self, name)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {list(DTYPES)}, received {self.dtype!r}")
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(
                f'device: expected a torch device such as "cpu" or "cuda:0", received {self.device!r} ({error})'
            ) from error


# Types of the fields above, in a spec.
OPTION_TYPES: dict[str, type] = {
    "score_threshold": float,
    "max_objects": int,
    "duplicate_iou": float,
    "batch_size": int,
    "device": str,
    "dtype": str,
}


def make_detector(spec: str, **options: Any) -> Detector:
    """A detector from "ADAPTER:MODEL", or "ADAPTER:MODEL?option=value&option=value".

    | spec | what runs |
    | --- | --- |
    | "ultralytics:yolov3u.pt" | a YOLO by the name or path of its weights; needs the extra `ultralytics`, AGPL-3.0 |
    | "torchvision:fasterrcnn_resnet50_fpn_v2" | any model of `torchvision.models.detection`, COCO weights |
    | "transformers:facebook/detr-resnet-50" | DETR and its kin, a folder or a name on the Hub |
    | "transformers:google/owlv2-base-patch16-ensemble" | text-conditioned: OWL-ViT, OWLv2, Grounding DINO |

    Random weights are used only when asked for, with `weights=random:SEED`, the same for all adapters:
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn?weights=random:0", "ultralytics:yolo11n.yaml?weights=random:0".

    Args:
        spec: as above. "none" is for callers that want no objects: they must not come here.
        options: fields of `DetectionSettings`; `weights` ("random:SEED", or for torchvision the name of a set of its
            weights, such as "COCO_V1"); `image_size`, ultralytics only: the side in pixels of the square that the
            network sees (640). An option stands in the spec or here, not in both.

    Raises:
        ValueError: no such adapter, model or option, or a value out of its range.
        OSError: the weights are neither here nor can they be downloaded.
        ImportError: the library is not installed.

    Example:
        >>> detector = make_detector("torchvision:ssdlite320_mobilenet_v3_large?weights=random:0", max_objects=3)
        >>> len(detector.detect([image])[0]) <= 3
        True
    """
    adapter, model, written = _parse(spec)
    module_name, own_types = ADAPTERS[adapter]
    types = {**OPTION_TYPES, **own_types}
    _check_options(adapter, [name for name, _ in written], list(options), known=list(types))
    options |= {name: _typed(name, value, types[name]) for name, value in written}
    common = {name: options.pop(name) for name in OPTION_TYPES if name in options}
    settings = DetectionSettings(**common)
    return importlib.import_module(module_name).load_detector(model, settings=settings, **options)


def _parse(spec: str) -> tuple[str, str, list[tuple[str, str]]]:
    head, _, query = spec.partition("?")
    adapter, _, model = head.partition(":")
    if adapter not in ADAPTERS or not model:
        raise ValueError(
            f'detector: expected "ADAPTER:MODEL" with one of the adapters {list(ADAPTERS)}, received {spec!r}'
            f'{nearest_names(adapter, ADAPTERS)}. For example "torchvision:fasterrcnn_resnet50_fpn_v2". For no '
            'objects ("none") make no detector.'
        )
    try:
        written = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(
            f'detector: expected "?option=value&option=value", received "?{query}" in {spec!r}'
        ) from error
    return adapter, model, written


def _check_options(adapter: str, written: list[str], passed: list[str], *, known: list[str]) -> None:
    unknown = [name for name in written + passed if name not in known]
    if unknown:
        raise ValueError(
            f"detector: {adapter} expects some of the options {known}, received {unknown}"
            f"{nearest_names(unknown[0], known)}"
        )
    twice = sorted({name for name in written if (written + passed).count(name) > 1})
    if twice:
        raise ValueError(f"detector: expected each option once, in the spec or as an argument, received {twice} twice")


def _typed(name: str, value: str, kind: type) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(
            f"detector: option {name} expects a value of type {kind.__name__}, received {value!r}"
        ) from error


def nearest_names(name: str, known: Iterable[str]) -> str:
    """The end of an error message: '; did you mean ...?', or nothing when no known name is like it."""
    found = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(repr(match) for match in found)}?" if found else ""


def detections_from(boxes: torch.Tensor, scores: torch.Tensor, labels: Iterable[str]) -> list[Detection]:
    """Detections of one image, unfiltered, from boxes (n, 4), scores (n,) and n labels."""
    rows = zip(boxes.float().tolist(), scores.float().tolist(), labels, strict=True)
    return [Detection(box=tuple(box), score=score, label=label) for box, score, label in rows]


def keep_detections(
    candidates: Iterable[Detection],
    image_size: tuple[int, int],
    *,
    score_threshold: float = 0.0,
    max_objects: int = 10,
    duplicate_iou: float = 0.7,
) -> list[Detection]:
    """What is kept of a detector's raw output: clipped, filtered, sorted, without duplicates.

    Args:
        candidates: in any order; boxes may cross the border, be empty, or have infinite or NaN coordinates.
        image_size: (width, height) in pixels, as `PIL.Image.size`.
        score_threshold, max_objects, duplicate_iou: see `DetectionSettings`.

    Returns:
        At most `max_objects` detections, in the order (-score, box, label).
    """
    kept = [
        Detection(box, score, candidate.label)
        for candidate in candidates
        if (score := round(float(candidate.score), SCORE_DECIMALS)) > score_threshold
        and (box := _clipped(candidate.box, image_size)) is not None
    ]
    kept.sort(key=lambda detection: (-detection.score, detection.box, detection.label))
    if not kept:
        return []
    boxes = torch.tensor([detection.box for detection in kept], dtype=torch.float64)  # (n, 4)
    ranks = torch.arange(len(kept), 0, -1, dtype=torch.float64)  # (n,): nms takes them in just this order
    survivors = nms(boxes, ranks, duplicate_iou)[:max_objects]
    return [kept[index] for index in survivors.tolist()]


def _clipped(box: tuple[float, ...], image_size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The part of `box` inside the image; None if it has no area there or a coordinate is not a number."""
    if not all(math.isfinite(value) for value in box):
        return None
    width, height = map(float, image_size)
    x1, x2 = (round(min(max(float(value), 0.0), width), BOX_DECIMALS) for value in (box[0], box[2]))
    y1, y2 = (round(min(max(float(value), 0.0), height), BOX_DECIMALS) for value in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
