"""What all detectors have in common: boxes, settings, filters, batches that cannot disturb each other, provenance.

Boxes are xyxy in pixels of the image as given: x1, y1 is the upper left corner, x2, y2 the lower right one,
0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height. Detections depend on the image and on the phrases asked for alone: no
detector knows a pair, a line number or a label.
"""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import nn
from torchvision.ops import nms

from datasets_scripts.checking import check_config
from modeling_vmhan.weights import weights_digest


__all__ = ["Detection", "DetectionSettings", "Detector", "keep_detections", "random_seed", "seeded"]

Count = Annotated[int, Field(ge=1)]
Sizes = list[tuple[int, int]]  # (width, height) of each image, in pixels
Queries = list[list[str]]  # the phrases looked for in each image
Raw = tuple[torch.Tensor, torch.Tensor, Sequence[str]]  # boxes (n, 4), scores (n,) and n labels of an image

# Coordinates are kept to a hundredth of a pixel and scores to six decimals: finer digits are noise of the hardware.
BOX_DECIMALS, SCORE_DECIMALS = 2, 6
# An image longer than this many times its other side is first extended with black to the right or below: resizing a
# longer strip to a network's size leaves it less than a pixel wide.
LONGEST_ASPECT = 8


@dataclass(frozen=True)
class Detection:
    """One object: its box (x1, y1, x2, y2) in pixels, how sure the detector is (0 to 1), and what it is.

    The score is None only of a box that comes from the data and no detector has scored, in drawings.
    """

    box: tuple[float, float, float, float]
    score: float | None
    label: str


@dataclass(frozen=True)
class DetectionSettings:
    """The options that all detectors take; a value out of its range is a ValueError."""

    score_threshold: Annotated[float, Field(ge=0, lt=1)] | None = (
        None  # what scores above it is kept; None: 0.25, of OWL-ViT and OWLv2 0.1
    )
    max_objects: Count = 10  # at most so many an image, the best ones
    # Of two boxes that overlap more than this, whatever their labels, the better one stays; 1 keeps all.
    duplicate_iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    batch_size: Count = 8  # images prepared at a time; those that then have one shape go through the network together
    device: str | torch.device | None = None  # None takes a CUDA device when there is one
    dtype: Literal["float32", "float16"] = (
        "float32"  # near 1,000 pixels float16's numbers are half a pixel apart, bfloat16's four
    )

    def __post_init__(self):
        check_config(self)
        try:
            torch.device(self.device or "cpu")
        except RuntimeError as error:
            raise ValueError(f"device: expected a torch device, received {self.device!r} ({error})") from error


class Detector(ABC):
    """Finds objects, deterministically: the same call gives the same lists.

    Other images in the call change at most the last digits, by the rounding of batched arithmetic, and with
    `batch_size=1` not even those. A subclass says how one image is prepared and what the network makes of a batch.

    `score_threshold` is taken where `settings` names none. `description` is what the subclass knows for provenance:
    adapter, model, weights, versions; the weights' sha256 and the thresholds join it in the attribute. Neither device
    nor batch size is in it, as several machines may share the work on one data set.
    """

    text_conditioned = False  # whether `detect` needs queries

    def __init__(
        self, network: nn.Module, *, settings: DetectionSettings, score_threshold: float = 0.25, **description: Any
    ):
        self.device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.dtype, self.batch_size = getattr(torch, settings.dtype), settings.batch_size
        self.filters = {
            "score_threshold": score_threshold if settings.score_threshold is None else settings.score_threshold,
            "max_objects": settings.max_objects,
            "duplicate_iou": settings.duplicate_iou,
        }
        described = {"weights_sha256": weights_digest(network), "text_conditioned": self.text_conditioned}
        self.description = description | described | self.filters | {"dtype": settings.dtype}
        self.description["versions"] = {"torch": torch.__version__} | description.get("versions", {})

    def prepare(self, image: Image.Image, queries: list[str]) -> Any:
        """The network's input for one image."""
        return image

    def shape(self, prepared: Any) -> Hashable:
        """Inputs for which this is equal can go through the network together."""
        return None

    @abstractmethod
    def forward(self, prepared: list[Any], sizes: Sizes, queries: Queries) -> list[Raw]:
        """What is found in each of several images of one shape, unfiltered and in any order."""

    def detect(self, images: list[Image.Image], queries: Queries | None = None) -> list[list[Detection]]:
        """Detections of each RGB image, in the order (-score, box, label); `queries` are each image's phrases, for
        text-conditioned detectors. ValueError for an image that is not RGB, or not one list of queries an image.
        """
        for index, image in enumerate(images):
            if getattr(image, "mode", None) != "RGB":
                raise ValueError(f"images[{index}]: expected an RGB PIL image, received {image!r}, see load_image")
        queries = self._checked_queries(queries, len(images))
        found: list[list[Detection]] = [[] for _ in images]
        wanted = [index for index in range(len(images)) if queries[index] or not self.text_conditioned]
        for start in range(0, len(wanted), self.batch_size):
            groups: dict[Hashable, list[tuple[int, Any, tuple[int, int]]]] = {}
            for index in wanted[start : start + self.batch_size]:
                canvas = _extended(images[index])
                prepared = self.prepare(canvas, queries[index])
                groups.setdefault(self.shape(prepared), []).append((index, prepared, canvas.size))
            for group in groups.values():
                indices, inputs, sizes = map(list, zip(*group))
                mixed = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
                with torch.inference_mode(), mixed:
                    results = self.forward(inputs, sizes, [queries[index] for index in indices])
                for index, raw in zip(indices, results, strict=True):
                    boxes, scores, labels = raw
                    rows = zip(boxes.float().tolist(), scores.float().tolist(), labels, strict=True)
                    candidates = [Detection(tuple(box), score, label) for box, score, label in rows]
                    found[index] = keep_detections(candidates, images[index].size, **self.filters)
        return found

    def _checked_queries(self, queries: Queries | None, num_images: int) -> Queries:
        """The queries with single blanks, each once, in the order given."""
        if queries is None:
            queries = [] if self.text_conditioned else [[]] * num_images
        if len(queries) != num_images:
            raise ValueError(
                f"queries: {self.description['model']} expects a list of phrases for each of {num_images} images, "
                f"received {len(queries)}"
            )
        return [list(dict.fromkeys(" ".join(query.split()) for query in row if query.strip())) for row in queries]


def keep_detections(
    candidates: Iterable[Detection],
    image_size: tuple[int, int],
    *,
    score_threshold: float = 0.0,
    max_objects: int = 10,
    duplicate_iou: float = 0.7,
) -> list[Detection]:
    """What is kept of raw output: clipped, filtered, without duplicates, sorted by (-score, box, label). Candidates
    may cross the border of `image_size`, (width, height) in pixels, be empty, or have infinite or NaN coordinates.
    """
    kept = [
        Detection(box, score, candidate.label)
        for candidate in candidates
        if (score := round(float(candidate.score), SCORE_DECIMALS)) > score_threshold
        and (box := _clipped(candidate.box, image_size)) is not None
    ]
    if not kept:
        return []
    kept.sort(key=lambda detection: (-detection.score, detection.box, detection.label))
    boxes = torch.tensor([detection.box for detection in kept], dtype=torch.float64)  # (n, 4)
    ranks = torch.arange(len(kept), 0, -1, dtype=torch.float64)  # (n,): nms takes them in just this order
    return [kept[index] for index in nms(boxes, ranks, duplicate_iou)[:max_objects].tolist()]


def _clipped(box: tuple[float, ...], image_size: tuple[int, int]) -> tuple[float, ...] | None:
    """The part of `box` inside the image; None if it has no area there or a coordinate is not a number."""
    if not all(math.isfinite(value) for value in box):
        return None
    limits = map(float, (*image_size, *image_size))
    x1, y1, x2, y2 = (round(min(max(float(side), 0.0), limit), BOX_DECIMALS) for side, limit in zip(box, limits))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _extended(image: Image.Image) -> Image.Image:
    """`image`, or for a long strip a canvas LONGEST_ASPECT times as long as wide with it in the upper left corner."""
    least = -(-max(image.size) // LONGEST_ASPECT)
    if min(image.size) >= least:
        return image
    canvas = Image.new("RGB", (max(image.width, least), max(image.height, least)))
    canvas.paste(image)
    return canvas


def random_seed(weights: str | None) -> int | None:
    """SEED of "random:SEED", None for other names of weights; ValueError for what begins with "random" otherwise."""
    kind, _, seed = (weights or "").partition(":")
    if kind == "random" and not seed.isdecimal():
        raise ValueError(f'weights: expected "random:SEED" with a whole number SEED >= 0, received {weights!r}')
    return int(seed) if kind == "random" else None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside depend on `seed` alone, and the CPU generator goes on afterwards as if nothing happened."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
