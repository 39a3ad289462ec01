"""What every adapter does around its network: checks, batches that cannot disturb each other, seeds, provenance."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from PIL import Image

from datasets_scripts.detection.detectors import DTYPES, Detection, DetectionSettings, keep_detections
from modeling_vmhan.vision import weights_digest


__all__ = ["BatchedDetector", "random_seed", "seeded", "weights_digest"]

# An image longer than this many times its other side is first extended with black to the right or below: resizing a
# longer strip to a network's size leaves it less than a pixel wide.
LONGEST_ASPECT = 8


class BatchedDetector(ABC):
    """A detector but for its network: an adapter says how one image is prepared and what a batch of them gives.

    Args:
        settings: see `DetectionSettings`.
        score_threshold: the adapter's own, taken where `settings` names none.
        description: what the adapter adds to the provenance.
    """

    text_conditioned = False

    def __init__(self, settings: DetectionSettings, *, score_threshold: float, description: dict[str, Any]):
        self.device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = DTYPES[settings.dtype]
        self.batch_size = settings.batch_size
        own = score_threshold if settings.score_threshold is None else settings.score_threshold
        self.filters = {
            "score_threshold": own,
            "max_objects": settings.max_objects,
            "duplicate_iou": settings.duplicate_iou,
        }
        # Neither device nor batch size: several machines may share the work of one data set.
        self.description = {
            **description,
            "text_conditioned": self.text_conditioned,
            **self.filters,
            "dtype": settings.dtype,
        }

    @abstractmethod
    def prepare(self, image: Image.Image, queries: list[str] | None) -> Any:
        """The network's input for one image."""

    @abstractmethod
    def shape(self, prepared: Any) -> Hashable:
        """Inputs for which this is equal can go through the network together."""

    @abstractmethod
    def forward(
        self, prepared: list[Any], sizes: list[tuple[int, int]], queries: list[list[str]]
    ) -> list[list[Detection]]:
        """Raw detections of each of several images of one shape; sizes are (width, height)."""

    def detect(self, images: list[Image.Image], queries: list[list[str]] | None = None) -> list[list[Detection]]:
        """See `Detector.detect`. An image with an empty list of queries gets no detection from who needs them."""
        _check_images(images)
        queries = self._checked_queries(queries, len(images))
        found: list[list[Detection]] = [[] for _ in images]
        wanted = [index for index in range(len(images)) if queries[index] or not self.text_conditioned]
        for start in range(0, len(wanted), self.batch_size):
            for index, raw in self._run(wanted[start : start + self.batch_size], images, queries):
                found[index] = keep_detections(raw, images[index].size, **self.filters)
        return found

    def _run(
        self, indices: list[int], images: list[Image.Image], queries: list[list[str]]
    ) -> Iterator[tuple[int, list[Detection]]]:
        canvases = {index: _extended(images[index]) for index in indices}
        prepared = {index: self.prepare(canvases[index], queries[index]) for index in indices}
        groups: dict[Hashable, list[int]] = {}
        for index in indices:
            groups.setdefault(self.shape(prepared[index]), []).append(index)
        for group in groups.values():
            sizes = [canvases[index].size for index in group]
            mixed = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
            with torch.inference_mode(), mixed:
                raw = self.forward([prepared[index] for index in group], sizes, [queries[index] for index in group])
            yield from zip(group, raw, strict=True)

    def _checked_queries(self, queries: list[list[str]] | None, num_images: int) -> list[list[str]]:
        if queries is None and self.text_conditioned and num_images:
            raise ValueError(
                f"queries: {self.description['model']} looks for phrases and was given none. Pass one list of phrases "
                "an image, for example the noun chunks of its caption, or choose a detector with fixed classes such "
                'as "torchvision:fasterrcnn_resnet50_fpn_v2".'
            )
        if queries is None:
            return [[] for _ in range(num_images)]
        if len(queries) != num_images:
            raise ValueError(
                f"queries: expected one list of phrases an image, {num_images}, received {len(queries)}. Pass an "
                "empty list for an image in which nothing is looked for."
            )
        for index, of_image in enumerate(queries):
            if isinstance(of_image, str) or not all(isinstance(query, str) for query in of_image):
                raise ValueError(
                    f"queries[{index}]: expected a list of phrases, received {of_image!r}. Pass [phrase] for one."
                )
        # Each phrase once, in the order given.
        return [list(dict.fromkeys(" ".join(query.split()) for query in row if query.strip())) for row in queries]


def _check_images(images: list[Image.Image]) -> None:
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image) or image.mode != "RGB":
            received = f"mode {image.mode!r}" if isinstance(image, Image.Image) else type(image).__name__
            raise ValueError(
                f"images[{index}]: expected an RGB PIL image, received {received}. Open files with "
                "modeling_vmhan.images.load_image, which converts what is not RGB and applies the EXIF rotation."
            )


def _extended(image: Image.Image) -> Image.Image:
    """`image`, or for a long strip a canvas LONGEST_ASPECT times as long as wide with it in the upper left corner."""
    least = -(-max(image.size) // LONGEST_ASPECT)
    if min(image.size) >= least:
        return image
    canvas = Image.new("RGB", (max(image.width, least), max(image.height, least)))
    canvas.paste(image)
    return canvas


def random_seed(weights: str | None) -> int | None:
    """SEED of "random:SEED"; None for any other name of weights.

    Raises:
        ValueError: it begins with "random" and goes on otherwise.
    """
    kind, _, seed = (weights or "").partition(":")
    if kind != "random":
        return None
    if not seed.isdecimal():
        raise ValueError(
            f'weights: expected "random:SEED" with a whole number SEED >= 0, received {weights!r}. '
            'For example "random:0".'
        )
    return int(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside depend on `seed` alone, and the CPU generator goes on afterwards as if nothing happened."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
