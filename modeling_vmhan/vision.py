"""From an image and its object boxes to VGG16 fc7 features, one vector a region (paper section 5.1).

Shapes: R regions (the whole image, then its boxes), S side of a region in pixels, V visual feature size (4096).
"""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16
from torchvision.transforms.functional import pil_to_tensor


__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "VGG16RegionEncoder", "VisualProjection", "crop_regions", "region_pixels"]

# What torchvision's VGG16_Weights.IMAGENET1K_V1 was trained with; channels are RGB in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# How far, in pixels, a box may cross the border: detectors round.
BORDER_TOLERANCE = 1.0


class VGG16RegionEncoder(nn.Module):
    """VGG16 up to fc7: features -> avgpool -> classifier[:-1], that is, without fc8.

    The output is the 4096-d vector after fc7's ReLU, so it is never negative (Simonyan and Zisserman 2015,
    https://arxiv.org/abs/1409.1556). The dropouts inside act in training mode only: call `.eval()` before extracting
    features; `from_weights` has done so.

    Example:
        >>> encoder = VGG16RegionEncoder.from_weights("random:0")
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 4096])
    """

    feature_size = 4096  # V

    def __init__(self):
        super().__init__()
        network = vgg16(weights=None)
        self.features = network.features
        self.avgpool = network.avgpool
        self.classifier = network.classifier[:-1]

    @classmethod
    def from_weights(cls, weights: str) -> "VGG16RegionEncoder":
        """A frozen encoder in eval mode.

        Args:
            weights: "imagenet" downloads torchvision's `VGG16_Weights.IMAGENET1K_V1` (528 MB, then cached);
                "random:SEED" draws from torchvision's initial distribution for VGG with a generator of its own.

        Raises:
            ValueError: `weights` is neither.
            OSError: the ImageNet weights can be neither found in the cache nor downloaded.
        """
        kind, _, seed = weights.partition(":")
        if weights == "imagenet":
            encoder = cls._imagenet()
        elif kind == "random" and seed.isdecimal():
            encoder = cls._random(int(seed))
        else:
            raise ValueError(
                f'weights must be "imagenet" or "random:SEED" with a whole number SEED >= 0, received {weights!r}. '
                'For example "random:0" needs no download.'
            )
        return encoder.eval().requires_grad_(False)

    @classmethod
    def _random(cls, seed: int) -> "VGG16RegionEncoder":
        generator = torch.Generator().manual_seed(seed)
        with torch.device("meta"):  # no weights yet: drawing 134 million twice would take seconds
            encoder = cls()
        encoder.to_empty(device="cpu")
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01, generator=generator)
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(module.bias)
        return encoder

    @classmethod
    def _imagenet(cls) -> "VGG16RegionEncoder":
        weights = VGG16_Weights.IMAGENET1K_V1
        try:
            state = weights.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:  # unreachable; a file that fails the hash check
            raise OSError(
                f'weights="imagenet" needs {weights.url}, which could not be downloaded ({error}). Either put that '
                f'file into {torch.hub.get_dir()}/checkpoints, or pass weights="random:0" for seeded random '
                "weights (good enough to try the code, not to compare with the paper)."
            ) from error
        with torch.device("meta"):
            encoder = cls()
        wanted = encoder.state_dict()
        encoder.load_state_dict({key: state[key] for key in wanted}, assign=True)  # classifier.6 is left out
        return encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        """fc7 features of normalised regions: (R, 3, S, S) -> (R, 4096). S is at least 32; the paper's is 224.

        Raises:
            ValueError: not a batch of three-channel images of 32 pixels or more a side.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or min(pixel_values.shape[2:]) < 32:
            raise ValueError(
                "pixel_values must be (R, 3, S, S) with S >= 32 (VGG16 halves the side five times), received "
                f"{tuple(pixel_values.shape)}. Make it with region_pixels(image, boxes, size=224)."
            )
        maps = self.avgpool(self.features(pixel_values))  # (R, 512, 7, 7)
        return self.classifier(maps.flatten(1))


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB; transparent pixels become white instead of whatever colour they hide."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _pixel_box(box: Sequence[float], image_size: tuple[int, int], index: int) -> tuple[int, int, int, int]:
    """Whole pixels covered by `box`, cut at the border. Raises ValueError for what is not a box inside the image."""
    width, height = image_size
    received = f"boxes[{index}] = {[float(value) for value in box]} in an image of {width} x {height} pixels"
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise ValueError(f"a box must be four finite numbers [x1, y1, x2, y2] in pixels, received {received}.")
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"a box must have x1 < x2 and y1 < y2, received {received}. Drop empty boxes, and convert "
            "[x, y, width, height] to [x, y, x + width, y + height]."
        )
    if min(x1, y1) < -BORDER_TOLERANCE or x2 > width + BORDER_TOLERANCE or y2 > height + BORDER_TOLERANCE:
        raise ValueError(
            f"a box must lie inside its image, received {received}. Are the boxes in pixels of this very image "
            "(not normalised, not of a resized copy)?"
        )
    left, top = (min(max(math.floor(x1), 0), width - 1), min(max(math.floor(y1), 0), height - 1))
    right, bottom = min(math.ceil(x2), width), min(math.ceil(y2), height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


class VisualProjection(nn.Module):
    """Projection of region features to the node size, V -> D, with both sides normalised.

    Departure from the paper, which has the linear map alone: fc7 vectors are non-negative and those of different
    regions nearly parallel (cosine 0.98 with random weights), so that attention between a word and one of several
    regions did not learn from the raw map. LayerNorm takes out each vector's scale, a BatchNorm over the features what
    all regions share (a running average over all of training: they are data and do not drift), and a BatchNorm over
    the
    projection sets its scale.

    Args:
        feature_size: V. hidden_size: D.

    Example:
        >>> projection = VisualProjection(feature_size=8, hidden_size=4).eval()
        >>> projection(torch.rand(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, *, feature_size: int, hidden_size: int):
        super().__init__()
        self.feature_norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.region_norm = nn.BatchNorm1d(feature_size, affine=False, momentum=None)
        self.linear = nn.Linear(feature_size, hidden_size, bias=False)  # the norm behind it would take a bias out
        self.node_norm = nn.BatchNorm1d(hidden_size, affine=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """features (B, O, V), mask (B, O) bool -> (B, O, D), zeros where no region is.

        Statistics are those of the batch's regions in training (of a batch with two or more) and the running ones in
        evaluation; padding takes no part.
        """
        regions = self.feature_norm(features[mask].to(self.linear.weight.dtype))  # (R, V)
        nodes = _batch_norm(self.node_norm, self.linear(_batch_norm(self.region_norm, regions)))  # (R, D)
        filled = nodes.new_zeros(*mask.shape, nodes.shape[-1])  # (B, O, D)
        return filled.masked_scatter(mask.unsqueeze(-1), nodes)


def _batch_norm(norm: nn.BatchNorm1d, rows: Tensor) -> Tensor:
    """`norm`, but with its running statistics for fewer than two rows, of which no variance can be taken."""
    if len(rows) > 1:
        return norm(rows)
    return nn.functional.batch_norm(rows, norm.running_mean, norm.running_var, training=False, eps=norm.eps)


def crop_regions(image: Image.Image, boxes: Sequence[Sequence[float]]) -> list[Image.Image]:
    """The whole image first, then each box, all RGB (grey-scale, palette, CMYK and transparent images are converted).

    Args:
        image: any mode. boxes: (num_boxes, 4) pixels, [x1, y1, x2, y2]; may be empty. A box's fractions of pixels are
            widened to whole ones; up to one pixel beyond the border is cut off.

    Returns:
        R = 1 + num_boxes images.

    Raises:
        ValueError: a box is not four finite numbers, has no area, or lies outside the image.
    """
    pixel_boxes = [_pixel_box(box, image.size, index) for index, box in enumerate(boxes)]
    image = _to_rgb(image)
    return [image] + [image.crop(box) for box in pixel_boxes]


def region_pixels(image: Image.Image, boxes: Sequence[Sequence[float]], *, size: int) -> Tensor:
    """Regions as VGG16 reads them: cropped, resized to a square (the aspect ratio is given up), ImageNet-normalised.

    Args:
        image, boxes: as in `crop_regions`. size: S in pixels, >= 32.

    Returns:
        (1 + num_boxes, 3, S, S) float32.

    Raises:
        ValueError: as in `crop_regions`, or `size` is below 32.
    """
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels (VGG16 halves the side five times), received {size}.")
    crops = [crop.resize((size, size), Image.Resampling.BILINEAR) for crop in crop_regions(image, boxes)]
    pixels = torch.stack([pil_to_tensor(crop) for crop in crops]).float() / 255  # (R, 3, S, S)
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
