"""Visual features of posts: one vector for the whole image and one for each object box, by a frozen vision encoder.

V is the visual feature size (VGG16: 4096), n the number of boxes of an image, R regions.
"""

import functools
import hashlib
import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modeling_vmhan.frozen import STORED_DTYPE, FrozenEncoder, fast_dtype
from modeling_vmhan.images import load_image
from modeling_vmhan.regions import region_inputs
from modeling_vmhan.vgg16 import MIN_SIZE, VGG16RegionEncoder
from modeling_vmhan.vision import TransformersRegionEncoder
from modeling_vmhan.weights import load_region_encoder, resized, weights_digest


__all__ = ["VisualFeatureExtractor", "parse_features"]

ENCODERS = ("vgg16", "vgg16_roi_align", "transformers")
DTYPES = ("float32", "bfloat16", "float16", "auto")
LIBRARIES = ("torch", "torchvision", "transformers", "pillow")

# One pass of the encoder: what it reads, (3, S, S), and the relative boxes (r, 4) it gives a vector for.
Pass = tuple[Tensor, Tensor]


def parse_features(spec: str) -> tuple[str, str]:
    """The `features` of a builder or of the command line as (encoder, weights); ValueError on another form.

    Forms: "vgg16:imagenet", "vgg16:random:SEED" (both also without "vgg16:"), the same with "vgg16_roi_align", and
    "transformers:NAME_OR_FOLDER".
    """
    if spec == "imagenet" or spec.startswith("random:"):
        return "vgg16", spec
    encoder, _, weights = spec.partition(":")
    if encoder not in ENCODERS or not weights:
        raise ValueError(
            f'features: expected "imagenet", "random:SEED", or ENCODER:WEIGHTS with an encoder of {list(ENCODERS)}, '
            f'such as "transformers:openai/clip-vit-base-patch32", received {spec!r}'
        )
    return encoder, weights


class VisualFeatureExtractor:
    """Runs a frozen vision encoder over images, in batches that span several of them.

    Each image is read and encoded once, in the order given. Other batches and dtypes round otherwise.
    They are stored as float16, whose relative step (0.0005) is far below what tells two regions apart; an overflow is
    an error. ValueError for an argument out of its range, or unknown `weights`.

    Args:
        weights: "imagenet" or "random:SEED"; for encoder "transformers" a model's name or folder.
        size: side in pixels that every region (or image) is resized to; None takes the encoder's own, VGG16's 224.
        batch_size: passes of the encoder at a time: regions, or for "vgg16_roi_align" images.
        device: where the network runs; None takes an accelerator when there is one.
        encoder: "vgg16" (the paper's fc7, a pass over each region), "vgg16_roi_align" (a pass over the image, then
            RoIAlign), or "transformers" (any vision backbone's pooled output). Their features must not be mixed.
        dtype: "float32", "bfloat16" or "float16"; "auto" is as in the model: weights rounded to bfloat16, computed in
            what is fastest on the device (`fast_dtype`). Name one where machines of several kinds share the work.
    """

    def __init__(
        self,
        weights: str = "imagenet",
        size: int | None = None,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        *,
        encoder: str = "vgg16",
        dtype: str = "auto",
    ):
        if encoder != "transformers" and size is not None and size < MIN_SIZE:
            raise ValueError(f"size: expected at least {MIN_SIZE} pixels for VGG16, received {size}")
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1 region, received {batch_size}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {list(DTYPES)}, received {dtype!r}")
        self.kind, self.weights, self.batch_size = encoder, weights, batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = fast_dtype(self.device) if dtype == "auto" else getattr(torch, dtype)
        self.encoder, transform = load_region_encoder(encoder, weights)
        self.feature_size = self.encoder.feature_size  # V
        self.transform = transform if size is None else resized(transform, size)
        self._weights_sha256 = weights_digest(self.encoder)  # before they are rounded to `dtype`
        self._weights_dtype = STORED_DTYPE if dtype == "auto" else self.dtype
        self.encoder.to(self._weights_dtype).in_form(self.device, self.dtype)

    @classmethod
    def from_spec(cls, spec: str, **options: Any) -> "VisualFeatureExtractor":
        """From the `features` of a builder or of the command line, see `parse_features`; other options as above."""
        encoder, weights = parse_features(spec)
        return cls(weights, encoder=encoder, **options)

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What made the features, for `DatasetInfo`: features of different descriptions must not be mixed."""
        return {
            "encoder": self.kind,
            "weights": self.weights,
            "weights_sha256": self._weights_sha256,
            "feature_size": self.feature_size,
            "transform": self.transform.to_dict(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "weights_dtype": str(self._weights_dtype).removeprefix("torch."),
            "code_sha256": _code_digest(),
            **{library: version(library) for library in LIBRARIES},
        }

    def extract(
        self, images_and_boxes: Iterable[tuple[str | Path | bytes | Image.Image, Sequence[Sequence[float]]]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield image_features (V,) and object_features (n, V), float16, of each image and its (n, 4) boxes.

        Boxes are xyxy in pixels. `load_image` reads the images, no further ahead than a batch needs. A ValueError
        gives the number of an image that is missing, unreadable or has a wrong box, or says that features do not fit
        float16.
        """
        for vectors in self.encode(images_and_boxes):
            stored = vectors.half().numpy()
            if not np.isfinite(stored).all():
                raise ValueError(
                    f"features: expected values that fit float16, received up to {vectors.abs().max().item():.3g}. "
                    'Compute in dtype="float32", or use another encoder'
                )
            yield stored[0], stored[1:]

    def encode(self, images_and_boxes: Iterable[tuple[Any, Sequence[Sequence[float]]]]) -> Iterator[Tensor]:
        """As `extract`, but one tensor (1 + n, V) an image, its own vector first, float32 as computed."""
        counts: deque[int] = deque()  # regions of the images not yet yielded
        passes = self._passes(images_and_boxes, counts)
        vectors = torch.empty(0, self.feature_size)
        while batch := list(islice(passes, self.batch_size)):
            vectors = torch.cat([vectors, self._run(batch)])  # (R, V)
            while counts and counts[0] <= len(vectors):
                of_image, vectors = vectors[: counts[0]], vectors[counts[0] :]
                counts.popleft()
                yield of_image

    def _passes(self, images_and_boxes: Iterable[tuple[Any, Any]], counts: deque[int]) -> Iterator[Pass]:
        """What the encoder reads, image after image: each region, or each image with all its regions."""
        takes_boxes = self.encoder.takes_boxes
        for number, (image, boxes) in enumerate(images_and_boxes):
            try:
                pixels, relative = region_inputs(image, boxes, transform=self.transform, takes_boxes=takes_boxes)
            except (OSError, ValueError) as error:
                raise ValueError(f"image number {number}: {error}") from error
            counts.append(len(relative))
            yield from zip(pixels, [relative] if takes_boxes else relative.unsqueeze(1), strict=True)

    def _run(self, batch: list[Pass]) -> Tensor:
        """The vectors (R, V) of a batch of passes, on CPU."""
        inputs = [torch.stack([pixels for pixels, _ in batch]).to(self.device, self.dtype)]
        if self.encoder.takes_boxes:
            rows = [torch.nn.functional.pad(boxes, (1, 0), value=i) for i, (_, boxes) in enumerate(batch)]
            inputs.append(torch.cat(rows).to(self.device))  # (R, 5)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            return self.encoder.encode(*inputs).float().cpu()


def _code_digest() -> str:
    """sha256 of the source of everything between an image and its stored features."""
    encoders = (FrozenEncoder, VGG16RegionEncoder, TransformersRegionEncoder, load_region_encoder)
    parts = (load_image, region_inputs, *encoders, VisualFeatureExtractor)
    files = [inspect.getsourcefile(part) for part in parts]
    return hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files)).hexdigest()
