"""From an image and its object boxes to the pixels a vision encoder reads.

A region is the whole image or one of its boxes. Shapes: n boxes of an image, S side of an encoder's input in pixels.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from .images import load_image
from .labels import check_choice, check_number
from .values import BOX, read_value, shown


__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "PixelTransform", "pixel_boxes", "region_inputs"]

# What torchvision's VGG16_Weights.IMAGENET1K_V1 was trained with; channels are RGB in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# How far, in pixels, a box may cross the border: detectors round.
BORDER_TOLERANCE = 1.0

RESAMPLING = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CROP_MODES = ("squash", "center")


@dataclasses.dataclass(frozen=True)
class PixelTransform:
    """How a region becomes an encoder's input: resized to a square, scaled to [0, 1], normalised. In float32.

    Attributes:
        size: S in pixels.
        crop_mode: "squash" resizes the region to S x S and gives up its aspect; "center" resizes its shorter side to
            `shortest_edge` (pixels, >= size; None is `size`) and keeps the S x S in the middle.
        resample: Pillow's name of the filter.
        mean, std: of each channel in [0, 1].
    """

    size: int = 224
    crop_mode: str = "squash"
    shortest_edge: int | None = None
    resample: str = "bilinear"
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def __post_init__(self):
        object.__setattr__(self, "size", check_number("image_transform: size", self.size, whole=True, low=1))
        check_choice("image_transform: crop_mode", self.crop_mode, CROP_MODES)
        check_choice("image_transform: resample", self.resample, RESAMPLING)
        if self.crop_mode == "center":
            edge = self.size if self.shortest_edge is None else self.shortest_edge
            edge = check_number("image_transform: shortest_edge", edge, whole=True, low=self.size)
            object.__setattr__(self, "shortest_edge", edge)
        else:
            check_choice("image_transform: shortest_edge (with 'squash')", self.shortest_edge, (None,))
        for name, above in (("mean", -math.inf), ("std", 0)):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or len(values) != 3:
                raise ValueError(f"image_transform: {name} must be three numbers, received {shown(values)}.")
            values = [check_number(f"image_transform: {name}", v, low=above, low_allowed=False) for v in values]
            object.__setattr__(self, name, tuple(map(float, values)))

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any] | None) -> "PixelTransform":
        """The inverse of `to_dict`; missing fields are VGG16's."""
        known = [field.name for field in dataclasses.fields(cls)]
        if fields is not None and (not isinstance(fields, Mapping) or not fields.keys() <= set(known)):
            raise ValueError(f"image_transform must be None or a dict of some of {known}, received {fields!r}.")
        return cls(**(fields or {}))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for configurations and provenance."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __call__(self, region: Image.Image) -> Tensor:
        """An RGB region -> (3, S, S)."""
        size = (self.size, self.size)
        box = None if self.crop_mode == "squash" else self._center_box(region.size)
        square = region.resize(size, Image.Resampling[self.resample.upper()], box=box)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (pil_to_tensor(square).float() / 255 - mean) / std

    def _center_box(self, region_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of the region that is left after resizing and cutting: a thin region is never resized whole.

        Pillow's filters look beyond the box, so the pixels are those of resizing everything first, up to rounding.
        """
        shorter = min(region_size)
        starts, ends = [], []
        for side in region_size:
            resized = self.shortest_edge if side == shorter else int(self.shortest_edge * side / shorter)
            start = (resized - self.size) // 2
            starts.append(start * side / resized)
            ends.append((start + self.size) * side / resized)
        return (*starts, *ends)


def pixel_boxes(boxes: Sequence[Sequence[float]], image_size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The whole pixels that boxes cover: fractions are widened, up to one pixel beyond the border is cut off.

    boxes are (n, 4) pixels, [x1, y1, x2, y2]; image_size is (width, height). A box that is not four finite numbers,
    has no area, or lies outside the image is a ValueError.
    """
    width, height = image_size
    covered = []
    for index, box in enumerate(boxes):
        x1, y1, x2, y2 = box = read_value(box, BOX, f"boxes[{index}]")
        received = f"boxes[{index}] = {box} in an image of {width} x {height} pixels"
        if min(x1, y1) < -BORDER_TOLERANCE or x2 > width + BORDER_TOLERANCE or y2 > height + BORDER_TOLERANCE:
            raise ValueError(f"a box must lie inside its image, in pixels of this very image, received {received}.")
        left, top = min(max(math.floor(x1), 0), width - 1), min(max(math.floor(y1), 0), height - 1)
        right, bottom = min(math.ceil(x2), width), min(math.ceil(y2), height)
        covered.append((left, top, max(right, left + 1), max(bottom, top + 1)))
    return covered


def region_inputs(
    image: Any, boxes: Sequence[Sequence[float]], *, transform: PixelTransform, takes_boxes: bool = False
) -> tuple[Tensor, Tensor]:
    """What a vision encoder reads of one image: the only path, for the model and for precomputed features.

    Args:
        image: whatever `load_image` reads. boxes: of the upright image, as in `pixel_boxes`.
        takes_boxes: True for encoders that find the regions in the image's feature map.

    Returns:
        pixels (1 + n, 3, S, S), the image first; (1, 3, S, S) with `takes_boxes`.
        relative_boxes (1 + n, 4), the image first: whole pixels divided by width and height, in [0, 1].
    """
    image = load_image(image)
    covered = [(0, 0, *image.size), *pixel_boxes(boxes, image.size)]
    crops = (image.crop(box) for box in (() if takes_boxes else covered[1:]))  # one in memory at a time
    relative = torch.tensor(covered, dtype=torch.float32) / torch.tensor([*image.size, *image.size])
    return torch.stack([transform(image), *map(transform, crops)]), relative
