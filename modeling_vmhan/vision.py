"""The vision encoders by name, for the model and for precomputed features alike.

An encoder is an `nn.Module` with `feature_size` (V) and `takes_boxes`:
    takes_boxes False: forward(pixel_values (R, 3, S, S)) -> (R, V), a pass over each region's own pixels;
    takes_boxes True:  forward(pixel_values (I, 3, S, S), rois (R, 5)) -> (R, V), a pass over each image.
Shapes: B examples, O boxes of an example, R regions, I images, S side of the input in pixels.
"""

import hashlib
import inspect
import logging
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig
from transformers.utils import cached_file

from .regions import PixelTransform
from .vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder, random_seed


__all__ = [
    "TransformersRegionEncoder",
    "build_region_encoder",
    "default_transform",
    "encode_regions",
    "load_region_encoder",
    "vision_from_weights",
    "weights_digest",
]

logger = logging.getLogger(__name__)

VGG16_ENCODERS = {"vgg16": VGG16RegionEncoder, "vgg16_roi_align": VGG16RoIAlignEncoder}
KINDS = (*VGG16_ENCODERS, "transformers")


class TransformersRegionEncoder(nn.Module):
    """A vision backbone of transformers (CLIP's and SigLIP's vision towers, DINOv2, DINOv3, ViT, ConvNeXt, ...).

    The feature is the backbone's `pooler_output`, of each region's own pixels.

    Args:
        config: of a backbone that AutoModel knows and that needs nothing but `pixel_values`.

    Raises:
        ValueError: it needs something else, as text encoders and backbones with patches of any number do.

    Example:
        >>> config = AutoConfig.for_model("clip_vision_model", hidden_size=32, num_attention_heads=2, image_size=32)
        >>> TransformersRegionEncoder(config)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """

    takes_boxes = False

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        # the type of the layers around it, not the one its own checkpoint was saved in
        self.backbone = AutoModel.from_config(config, dtype=torch.get_default_dtype())
        self.feature_size = getattr(config, "hidden_size", None) or config.hidden_sizes[-1]
        parameters = inspect.signature(type(self.backbone).forward).parameters.values()
        needed = {p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
        if self.backbone.main_input_name != "pixel_values" or not needed <= {"self", "pixel_values"}:
            raise ValueError(
                "a vision encoder must be a backbone that needs nothing but pixel_values (CLIP's or SigLIP's vision "
                f"model, DINOv2, DINOv3, ViT, ...), received {type(self.backbone).__name__}."
            )

    @classmethod
    def from_weights(cls, weights: str, config: PreTrainedConfig | None = None) -> "TransformersRegionEncoder":
        """A frozen encoder in eval mode and float32.

        Args:
            weights: a model's name or folder, of which the vision tower is taken if it has several; or "random:SEED",
                which needs `config`, the backbone's.

        Raises:
            OSError: there is no such model, or no weights of it.
            ValueError: it lacks weights that would then be random, or is no vision backbone; random weights without
                a config.
        """
        seed = random_seed(weights)
        if seed is None:
            encoder = cls._pretrained(weights)
        elif config is None:
            raise ValueError(
                f"weights={weights!r} needs a vision_config, from which the backbone is built. Without one give the "
                "name or folder of a model."
            )
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                encoder = cls(config)
        return encoder.eval().requires_grad_(False)

    @classmethod
    def _pretrained(cls, name: str) -> "TransformersRegionEncoder":
        try:
            config = AutoConfig.from_pretrained(name)
            config = getattr(config, "vision_config", config)
            with torch.device("meta"):
                encoder = cls(config)
            backbone, report = AutoModel.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True
            )
        except OSError as error:
            raise OSError(
                f"the vision encoder {name!r} must be a model on the Hub or a folder with config.json and "
                f"model.safetensors, and could not be read ({error}). Check the name, or download it first."
            ) from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise ValueError(
                f"the vision encoder {name!r} lacks the weights {missing[:5]} ({len(missing)} in all), which would be "
                "random. Use a checkpoint of the backbone itself, with its pooler."
            )
        encoder.backbone = backbone
        return encoder

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pooled features of normalised regions: (R, 3, S, S) -> (R, V).

        Raises:
            ValueError: the backbone does not take this size, or has no pooled feature of V numbers.
        """
        backbone = type(self.backbone).__name__
        try:
            pooled = self.backbone(pixel_values=pixel_values, return_dict=True).pooler_output
        except ValueError as error:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} do not fit {backbone}: {error} Make them with the "
                "model's own processor, whose image_transform has the backbone's size."
            ) from error
        if pooled is None or pooled.flatten(1).shape[1] != self.feature_size:
            received = None if pooled is None else tuple(pooled.shape)
            raise ValueError(
                f"{backbone} must give a pooler_output of {self.feature_size} numbers a region, received {received}. "
                "Use a backbone with a pooled feature."
            )
        return pooled.flatten(1)


def build_region_encoder(kind: str, config: PreTrainedConfig | None = None) -> nn.Module:
    """A frozen encoder in eval mode whose weights are still to be loaded.

    Args:
        kind: "vgg16", "vgg16_roi_align" or "transformers". config: of the backbone, for "transformers".
    """
    encoder = TransformersRegionEncoder(config) if kind == "transformers" else VGG16_ENCODERS[kind]()
    return encoder.eval().requires_grad_(False)


def load_region_encoder(
    kind: str, weights: str, *, config: PreTrainedConfig | None = None
) -> tuple[nn.Module, PixelTransform]:
    """A frozen encoder in eval mode, and how its pixels are made.

    Args:
        kind: "vgg16" (the paper's: a pass over each region), "vgg16_roi_align" (a pass over the image, then RoIAlign),
            or "transformers".
        weights: "imagenet" or "random:SEED" for the first two; see `TransformersRegionEncoder.from_weights`.
        config: of the backbone, for kind "transformers" with random weights.

    Returns:
        The transform is that of the model's own image processor, if it has one; see `default_transform`.

    Raises:
        ValueError: an unknown kind or weights; an image processor that does something else than a `PixelTransform`.
        OSError: the weights cannot be had.

    Example:
        >>> encoder, transform = load_region_encoder("vgg16", "random:0")
        >>> encoder(transform(Image.new("RGB", (64, 40))).unsqueeze(0)).shape
        torch.Size([1, 4096])
    """
    if kind not in KINDS:
        raise ValueError(f"the vision encoder must be one of {list(KINDS)}, received {kind!r}.")
    if kind != "transformers":
        return VGG16_ENCODERS[kind].from_weights(weights), PixelTransform()
    encoder = TransformersRegionEncoder.from_weights(weights, config)
    if random_seed(weights) is not None:
        return encoder, default_transform(encoder.backbone.config)
    if not _has_image_processor(weights):
        transform = default_transform(encoder.backbone.config)
        logger.warning("%s has no image processor: its pixels are made by %s", weights, transform)
        return encoder, transform
    return encoder, PixelTransform.from_image_processor(AutoImageProcessor.from_pretrained(weights))


def _has_image_processor(name: str) -> bool:
    """A file that is not there is not the same as a Hub that is out of reach, which is an OSError."""
    files = ("preprocessor_config.json", "processor_config.json")
    return any(cached_file(name, file, _raise_exceptions_for_missing_entries=False) for file in files)


def vision_from_weights(fields: dict[str, Any], weights: str | None) -> tuple[nn.Module | None, dict[str, Any]]:
    """The vision encoder that fields of a configuration name, and what the configuration takes over from it.

    Args:
        fields: of them `vision_encoder`, `vision_config`, `image_transform` and `visual_feature_size` are read; any
            may be missing. weights: as in `load_region_encoder`; None without a vision encoder.

    Raises:
        ValueError: weights without an encoder, or the other way round: none is random unasked.
    """
    kind, config = fields.get("vision_encoder"), fields.get("vision_config")
    if (kind is None) != (weights is None):
        raise ValueError(
            "vision_weights goes with a vision_encoder, and the other way round, received "
            f'vision_encoder={kind!r} and vision_weights={weights!r}. Weights are "imagenet", "random:SEED", or for '
            "vision_encoder='transformers' a model's name or folder."
        )
    if kind is None:
        return None, {}
    if isinstance(config, dict):
        config = AutoConfig.for_model(**config)
    encoder, transform = load_region_encoder(kind, weights, config=config)
    taken = {"visual_feature_size": fields.get("visual_feature_size", encoder.feature_size)}
    taken["image_transform"] = fields.get("image_transform") or transform.to_dict()
    if kind == "transformers":
        taken["vision_config"] = encoder.backbone.config
    return encoder, taken


def default_transform(config: PreTrainedConfig | None = None) -> PixelTransform:
    """ImageNet's mean and deviation, bilinear, squashed to the backbone's `image_size`, or to VGG16's 224."""
    size = getattr(config, "image_size", None) or PixelTransform.size
    return PixelTransform(size=size if isinstance(size, int) else size[0])


@torch.no_grad()
def encode_regions(
    encoder: nn.Module, pixel_values: Tensor, image_mask: Tensor, object_mask: Tensor, boxes: Tensor | None = None
) -> Tensor:
    """Features of a padded batch; each region is encoded once, and padding not at all.

    The one place of a step where the host waits for the device: the number of regions is the number of passes.

    Args:
        pixel_values: (B, 1 + O, 3, S, S), the image first; (B, 1, 3, S, S) for an encoder that takes boxes.
        image_mask: (B,) bool. object_mask: (B, O) bool.
        boxes: (B, O, 4) relative, for an encoder that takes them.

    Returns:
        (B, 1 + O, V), zeros where no region is.

    Raises:
        ValueError: shapes that do not belong together, or boxes that are missing or of no use.
    """
    _check_batch(encoder, pixel_values, object_mask, boxes)
    mask = torch.cat([image_mask.unsqueeze(1), object_mask & image_mask.unsqueeze(1)], dim=1)  # (B, 1 + O)
    dtype = next(encoder.parameters()).dtype
    filled = torch.zeros(*mask.shape, encoder.feature_size, dtype=dtype, device=pixel_values.device)
    if not mask.any():
        return filled
    if encoder.takes_boxes:
        whole = boxes.new_tensor([0, 0, 1, 1], dtype=torch.float32).expand(len(boxes), 1, 4)
        number = (image_mask.cumsum(0) - 1).unsqueeze(1).expand_as(mask)[mask]  # (R,), among the images that are there
        rois = torch.cat([number.unsqueeze(1), torch.cat([whole, boxes.float()], dim=1)[mask]], dim=1)  # (R, 5)
        features = encoder(pixel_values[image_mask, 0].to(dtype), rois)  # (R, V)
    else:
        features = encoder(pixel_values[mask].to(dtype))  # (R, V)
    filled[mask] = features.to(dtype)
    return filled


def _check_batch(encoder: nn.Module, pixel_values: Tensor, object_mask: Tensor, boxes: Tensor | None) -> None:
    batch, num_objects = object_mask.shape
    regions = 1 if encoder.takes_boxes else 1 + num_objects
    shape = tuple(pixel_values.shape)
    if len(shape) != 5 or shape[:3] != (batch, regions, 3) or shape[3] != shape[4]:
        raise ValueError(
            f"pixel_values must be ({batch}, {regions}, 3, S, S) with object_mask {tuple(object_mask.shape)} and this "
            f"vision encoder, received {shape}. Make them with the model's own processor."
        )
    expected = (batch, num_objects, 4) if encoder.takes_boxes else None
    received = None if boxes is None else tuple(boxes.shape)
    if received != expected:
        raise ValueError(
            f"boxes must be {expected} for this vision encoder (None: it sees each region's own pixels), received "
            f"{received}. Make them with the model's own processor."
        )


def weights_digest(module: nn.Module) -> str:
    """sha256 of a state dict: names, types, shapes and bytes, in the order of names. About a second for VGG16."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
