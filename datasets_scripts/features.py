"""Visual features of posts: one VGG16 fc7 vector for the whole image and one for each object box.

V is the visual feature size (4096), n the number of boxes of an image.
"""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torchvision
from PIL import Image
from tqdm.auto import tqdm

from modeling_vmhan.vision import VGG16RegionEncoder, region_pixels


__all__ = ["VisualFeatureExtractor"]

logger = logging.getLogger(__name__)


class VisualFeatureExtractor:
    """Runs a frozen VGG16 over regions, in batches that may span several images.

    Features do not depend on the batch size beyond float rounding. They are stored as float16: fc7 values are far
    inside its range, and its relative step (0.0005) is far below what tells two regions apart.

    Args:
        weights: "imagenet" or "random:SEED", see `VGG16RegionEncoder.from_weights`.
        size: side in pixels that every region is resized to. 224 is VGG16's own; 32 is the least and by far the
            fastest.
        batch_size: regions a forward pass.
        device: where the network runs; None takes an accelerator when there is one.

    Raises:
        ValueError: `size` below 32, `batch_size` below 1, or unknown `weights`.
        OSError: the ImageNet weights cannot be downloaded.

    Example:
        >>> extractor = VisualFeatureExtractor("random:0", size=32)
        >>> image_features, object_features = next(extractor.extract([(image, [[0, 0, 20, 20]])]))
        >>> image_features.shape, object_features.shape
        ((4096,), (1, 4096))
    """

    def __init__(
        self,
        weights: str = "imagenet",
        size: int = 224,
        batch_size: int = 64,
        device: str | torch.device | None = None,
    ):
        if size < 32:
            raise ValueError(f"size must be at least 32 pixels (VGG16 halves the side five times), received {size}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 region, received {batch_size}.")
        self.weights, self.size, self.batch_size = weights, size, batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.encoder = VGG16RegionEncoder.from_weights(weights).to(self.device)

    @property
    def feature_size(self) -> int:
        """V, the length of every feature vector."""
        return self.encoder.feature_size

    @property
    def description(self) -> dict[str, str | int]:
        """What made the features, for `DatasetInfo`: features of different descriptions must not be mixed."""
        return {
            "network": "VGG16 fc7 (4096, after ReLU)",
            "weights": self.weights,
            "size": self.size,
            "torchvision": torchvision.__version__,
        }

    def extract(
        self, images_and_boxes: Iterable[tuple[Image.Image, list[list[float]]]], *, progress: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features of each image, in the order given; reads ahead no further than a batch needs.

        Args:
            images_and_boxes: image and its (n, 4) pixel boxes, xyxy; n may be 0.
            progress: show a tqdm bar that counts images.

        Yields:
            image_features (V,) and object_features (n, V), float16.
        """
        waiting: list[torch.Tensor] = []  # regions of images not yet yielded, (1 + n, 3, S, S) each
        num_waiting = 0
        for image, boxes in tqdm(images_and_boxes, desc="VGG16 features", unit="image", disable=not progress):
            waiting.append(region_pixels(image, boxes, size=self.size))
            num_waiting += len(waiting[-1])
            if num_waiting >= self.batch_size:
                yield from self._encode(waiting)
                waiting, num_waiting = [], 0
        if waiting:
            yield from self._encode(waiting)

    @torch.inference_mode()
    def _encode(self, regions_by_image: list[torch.Tensor]) -> list[tuple[np.ndarray, np.ndarray]]:
        regions = torch.cat(regions_by_image)  # (R, 3, S, S)
        chunks = [self.encoder(chunk.to(self.device)).cpu() for chunk in regions.split(self.batch_size)]
        features = torch.cat(chunks).half().numpy()  # (R, V)
        ends = np.cumsum([len(regions) for regions in regions_by_image])
        by_image = np.split(features, ends[:-1])
        return [(of_image[0], of_image[1:]) for of_image in by_image]
