"""Weights of the vision encoders: pretrained, random by seed, or those that a saved folder refers to."""

import dataclasses
import hashlib
import logging
import os
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig
from transformers.utils import cached_file, extract_commit_hash

from .frozen import STORED_DTYPE, FrozenEncoder
from .labels import check_choice
from .regions import PixelTransform
from .vgg16 import VGG16RegionEncoder
from .vision import VGG16_ENCODERS, TransformersRegionEncoder, default_transform


__all__ = [
    "load_region_encoder", "random_seed", "reference_to", "referenced_encoder", "resized", "transform_of",
    "vision_weights", "weights_digest",
]  # fmt: skip

logger = logging.getLogger(__name__)


def random_seed(weights: str) -> int | None:
    """SEED of "random:SEED", the one way to ask for random weights; None for any other name."""
    kind, _, seed = weights.partition(":")
    return int(seed) if kind == "random" and seed.isdecimal() else None


def load_region_encoder(
    kind: str, weights: str, *, config: PreTrainedConfig | dict | None = None
) -> tuple[nn.Module, PixelTransform]:
    """A frozen encoder in eval mode and float32, and how its pixels are made: as its own image processor does.

    Args:
        kind: "vgg16" (the paper's: a pass over each region), "vgg16_roi_align" (a pass over the image, then RoIAlign),
            or "transformers".
        weights: "imagenet" (of VGG16 only, 528 MB, downloaded once); "random:SEED", drawn by a generator of its own;
            for "transformers" a model's name or folder, of which the vision tower is taken if it has several.
        config: of the backbone, for kind "transformers" with random weights.

    Raises:
        ValueError: an unknown kind or weights; a checkpoint that lacks weights, which would be random; an image
            processor that does something else than a `PixelTransform`.
        OSError: the weights cannot be had.

    Example:
        >>> encoder, transform = load_region_encoder("vgg16", "random:0")
        >>> encoder(transform(Image.new("RGB", (64, 40))).unsqueeze(0)).shape
        torch.Size([1, 4096])
    """
    kinds, seed, transform = [*VGG16_ENCODERS, "transformers"], random_seed(weights), PixelTransform()
    if kind not in kinds:
        raise ValueError(f"the vision encoder must be one of {kinds}, received {kind!r}.")
    if kind != "transformers":
        encoder = _vgg16(VGG16_ENCODERS[kind], weights)
    elif seed is None:
        encoder, transform = _pretrained(weights)
    elif config is None:
        raise ValueError(f"weights={weights!r} needs a vision_config, from which the backbone is built.")
    else:
        config = AutoConfig.for_model(**config) if isinstance(config, dict) else config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder, transform = TransformersRegionEncoder(config), default_transform(config)
    encoder.source = encoder.source or {"name": weights, "revision": None}
    return encoder.eval().requires_grad_(False), transform


def reference_to(encoder: FrozenEncoder) -> dict[str, str | None]:
    """`VMHANConfig.vision_weights` of an encoder of `load_region_encoder`: where its weights are, and their digest.

    ValueError for weights that are not to be found elsewhere: of a folder, or of an encoder that was loaded with a
    model (set its `source`, which is then checked at each load).
    """
    source = encoder.source
    if source is None or os.path.exists(source["name"]):
        received = "weights that came with a saved model" if source is None else f"the path {source['name']!r}"
        raise ValueError(
            f"vision='reference' needs weights of a public checkpoint, received {received}: save with "
            "vision='weights', or set vision_encoder.source = {'name': 'imagenet', 'revision': None} where they are."
        )
    return {**source, "sha256": weights_digest(encoder.to(STORED_DTYPE))}


def vision_weights(vision: str | None, saved: dict | None, encoder: FrozenEncoder | None) -> dict | None:
    """`VMHANConfig.vision_weights` for a save with `vision`, of a model whose config has `saved`."""
    check_choice("vision", vision, (None, "weights", "reference"))
    if vision != "reference" or saved is not None:
        return None if vision == "weights" else saved
    if encoder is None:
        raise ValueError("vision='reference' needs a model with a vision encoder, received vision_encoder=None.")
    return reference_to(encoder)


def referenced_encoder(config: Any) -> FrozenEncoder:
    """The encoder of a `VMHANConfig` with vision_weights; OSError where they cannot be had, or are others."""
    kind, reference = config.vision_encoder, config.vision_weights
    name, where = reference["name"], f"this model's folder has its vision weights by reference, {reference}"
    try:
        if kind == "transformers" and random_seed(name) is None:
            encoder = _backbone(name, reference["revision"])
        else:
            encoder, _ = load_region_encoder(kind, name, config=config.vision_config)
    except OSError as error:
        raise OSError(f"{where}, which cannot be had: {error}") from error
    if (digest := weights_digest(encoder.to(STORED_DTYPE))) != reference["sha256"]:
        raise OSError(
            f"{where}, and what was found under that name has sha256 {digest}: delete it from the cache to have it "
            "downloaded again, or take a folder that was saved with vision='weights'."
        )
    return encoder.eval().requires_grad_(False)


def _vgg16(cls: type[VGG16RegionEncoder], weights: str) -> VGG16RegionEncoder:
    seed = random_seed(weights)
    if weights != "imagenet" and seed is None:
        raise ValueError(f'weights must be "imagenet" or "random:SEED" such as "random:0", received {weights!r}.')
    with torch.device("meta"):  # no weights yet: drawing 134 million twice would take seconds
        encoder = cls()
    if seed is None:
        state = _imagenet_weights()
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()}, assign=True)  # without fc8
        return encoder
    encoder.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)  # torchvision's initial distribution for VGG
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01, generator=generator)
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.zeros_(module.bias)
    return encoder


def _imagenet_weights() -> dict[str, Tensor]:
    weights = VGG16_Weights.IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # unreachable; a file that fails the hash check
        raise OSError(
            f'weights="imagenet" needs {weights.url} ({error}). Put that file into {torch.hub.get_dir()}/checkpoints, '
            "or take random:0 as weights (--features vgg16:random:0) to try the code, not to compare with the paper."
        ) from error


def _backbone(name: str, revision: str | None = None) -> TransformersRegionEncoder:
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        place = cached_file(name, "config.json", revision=revision)
        revision = extract_commit_hash(place, None) or revision  # None: a folder's
        config = getattr(config, "vision_config", config)
        with torch.device("meta"):
            encoder = TransformersRegionEncoder(config)
        options = {"dtype": torch.float32, "output_loading_info": True, "revision": revision}
        encoder.backbone, report = AutoModel.from_pretrained(name, config=config, **options)
    except OSError as error:
        raise OSError(f"the vision encoder {name!r} must be a model on the Hub or a folder: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"the vision encoder {name!r} lacks weights, which would be random: {missing[:5]}.")
    encoder.source = {"name": name, "revision": revision}
    return encoder


def _pretrained(name: str) -> tuple[TransformersRegionEncoder, PixelTransform]:
    encoder = _backbone(name)
    # a file that is not there is not the same as a Hub that is out of reach, which is an OSError
    files = ("preprocessor_config.json", "processor_config.json")
    if any(cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in files):
        return encoder, transform_of(AutoImageProcessor.from_pretrained(name))
    logger.warning("%s has no image processor: its pixels are made as ImageNet's", name)
    return encoder, default_transform(encoder.backbone.config)


def transform_of(processor: Any) -> PixelTransform:
    """What an image processor of transformers does, by its attributes.

    Raises:
        ValueError: it does something else than resize to a square (perhaps by cutting out the centre), divide by
            255 and normalise.
    """
    size, crop = (getattr(processor, name, None) or {} for name in ("size", "crop_size"))
    has_crop = bool(getattr(processor, "do_center_crop", None))
    square = crop if has_crop else size
    side, shortest = square.get("height"), size.get("shortest_edge") if has_crop else None
    scale = getattr(processor, "rescale_factor", 1 / 255) if getattr(processor, "do_rescale", True) else 1.0
    is_square = side is not None and side == square.get("width") and has_crop is (shortest is not None)
    if not is_square or not getattr(processor, "do_resize", True) or abs(scale * 255 - 1) > 1e-6:
        raise ValueError(
            f"{type(processor).__name__} must resize to a square, or a shortest_edge that is cut to one, and "
            f"rescale by 1/255, received size={dict(size)}, do_center_crop={has_crop}, crop_size={dict(crop)}, "
            f"rescale_factor={scale}. Give image_transform (a dict of PixelTransform's fields) yourself."
        )
    normalised = getattr(processor, "do_normalize", True)
    return PixelTransform(
        size=side,
        crop_mode="center" if has_crop else "squash",
        shortest_edge=shortest,
        resample=Image.Resampling(processor.resample).name.lower(),
        mean=tuple(processor.image_mean) if normalised else (0.0, 0.0, 0.0),
        std=tuple(processor.image_std) if normalised else (1.0, 1.0, 1.0),
    )


def resized(transform: PixelTransform, size: int) -> PixelTransform:
    """The same transform for another size; the share of the picture that "center" keeps stays."""
    edge = transform.shortest_edge
    edge = None if edge is None else max(round(edge * size / transform.size), size)
    return dataclasses.replace(transform, size=size, shortest_edge=edge)


def weights_digest(module: nn.Module) -> str:
    """sha256 of a state dict: names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
