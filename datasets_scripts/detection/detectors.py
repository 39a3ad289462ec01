"""A detector from a string. One file drives each library, and is imported only when one of its detectors is made."""

import importlib
import inspect
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl

from datasets_scripts.commands import nearest
from datasets_scripts.detection.base import Detection, DetectionSettings, Detector


__all__ = ["Detection", "DetectionSettings", "Detector", "make_detector"]

ADAPTERS = ("ultralytics", "torchvision", "transformers")
SETTINGS = [field.name for field in fields(DetectionSettings)]
# Of the options that can stand in a spec, those that are no strings.
NUMBERS = {"score_threshold": float, "duplicate_iou": float, "max_objects": int, "batch_size": int, "image_size": int}


def make_detector(spec: str, **options: Any) -> Detector:
    """A detector from "ADAPTER:MODEL", or "ADAPTER:MODEL?option=value&option=value".

    | spec | what runs |
    | --- | --- |
    | "ultralytics:yolov3u.pt" | a YOLO by the name or path of its weights; needs the extra `ultralytics`, AGPL-3.0 |
    | "torchvision:fasterrcnn_resnet50_fpn_v2" | any model of `torchvision.models.detection`, COCO weights |
    | "transformers:facebook/detr-resnet-50" | DETR and its kin, a folder or a name on the Hub |
    | "transformers:google/owlv2-base-patch16-ensemble" | text-conditioned: OWL-ViT, OWLv2, Grounding DINO |

    Options are fields of `DetectionSettings`; `weights`, the name of a set of torchvision's such as "COCO_V1", or
    "random:SEED" (random weights are used only when asked for, so); and ultralytics' `image_size`, the side in pixels
    of the square that the network sees (640). An option stands in the spec or here, not in both.

    ValueError for no such adapter, model or option, or a value out of its range; OSError for weights that are neither
    here nor can be downloaded; ImportError without the library.
    """
    head, _, query = spec.partition("?")
    adapter, _, model = head.partition(":")
    if adapter not in ADAPTERS or not model:
        raise ValueError(
            f"detector: expected ADAPTER:MODEL, one of {ADAPTERS}, received {spec!r}{nearest(adapter, ADAPTERS)}"
        )
    load_detector = importlib.import_module(f"datasets_scripts.detection.{adapter}_detector").load_detector
    options = _with_options_of_spec(query, options)
    own = inspect.signature(load_detector).parameters
    known = SETTINGS + [name for name in own if name not in ("model", "settings")]
    for name in options:
        if name not in known:
            raise ValueError(f"detector: {adapter} has the options {known}, received {name!r}{nearest(name, known)}")
    settings = DetectionSettings(**{name: options.pop(name) for name in SETTINGS if name in options})
    return load_detector(model, settings=settings, **options)


def _with_options_of_spec(query: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with those of "name=value&name=value", each of its type."""
    try:
        written = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(f'detector: expected "?option=value&option=value", received "?{query}"') from error
    options = dict(options)
    for name, value in written:
        if name in options:
            raise ValueError(f"detector: expected each option once, in spec or arguments, received {name!r} twice")
        kind = NUMBERS.get(name, str)
        try:
            options[name] = kind(value)
        except ValueError as error:
            raise ValueError(f"detector: {name} expects a {kind.__name__}, received {value!r}") from error
    return options
