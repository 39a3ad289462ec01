"""The vision encoders by name, for the model and for precomputed features alike. `weights.py` loads them.

An encoder is an `nn.Module` with `feature_size` (V) and `takes_boxes`:
    takes_boxes False: forward(pixel_values (R, 3, S, S)) -> (R, V), a pass over each region's own pixels;
    takes_boxes True:  forward(pixel_values (I, 3, S, S), rois (R, 5)) -> (R, V), a pass over each image.
Shapes: B examples, O boxes of an example, R regions, I images, S side of the input in pixels.
"""

import inspect

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from .regions import PixelTransform
from .vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder


__all__ = ["TransformersRegionEncoder", "build_region_encoder", "default_transform", "encode_regions"]

VGG16_ENCODERS = {"vgg16": VGG16RegionEncoder, "vgg16_roi_align": VGG16RoIAlignEncoder}


class TransformersRegionEncoder(nn.Module):
    """`pooler_output` of a vision backbone of transformers (CLIP's and SigLIP's vision towers, DINOv2, ConvNeXt, ...).

    A backbone that needs more than `pixel_values` is a ValueError.
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
            received = type(self.backbone).__name__
            raise ValueError(f"a vision encoder must need nothing but pixel_values, as CLIP's, received {received}.")

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(R, 3, S, S) -> (R, V); a size that the backbone does not pool to V numbers is a ValueError."""
        pooled = self.backbone(pixel_values=pixel_values, return_dict=True).pooler_output
        if pooled is None or pooled.flatten(1).shape[1] != self.feature_size:
            backbone, received = type(self.backbone).__name__, None if pooled is None else tuple(pooled.shape)
            raise ValueError(f"{backbone} must pool a region to {self.feature_size} numbers, received {received}.")
        return pooled.flatten(1)


def build_region_encoder(kind: str, config: PreTrainedConfig | None = None) -> nn.Module:
    """A frozen encoder in eval mode whose weights are still to be loaded; `config` is of kind "transformers"."""
    encoder = TransformersRegionEncoder(config) if kind == "transformers" else VGG16_ENCODERS[kind]()
    return encoder.eval().requires_grad_(False)


def default_transform(config: PreTrainedConfig | None = None) -> PixelTransform:
    """ImageNet's mean and deviation, bilinear, squashed to the backbone's `image_size`, or to VGG16's 224."""
    size = getattr(config, "image_size", None) or PixelTransform.size
    return PixelTransform(size=size if isinstance(size, int) else size[0])


@torch.no_grad()
def encode_regions(
    encoder: nn.Module, pixel_values: Tensor, image_mask: Tensor, object_mask: Tensor, boxes: Tensor | None = None
) -> Tensor:
    """Features of a padded batch, (B, 1 + O, V), zeros where no region is; each region is encoded once.

    The one place of a step where the host waits for the device: the number of regions is the number of passes. Shapes
    are those of `VMHANModel.forward`; others are a ValueError.
    """
    batch, num_objects = object_mask.shape
    regions, expected = (1, (batch, num_objects, 4)) if encoder.takes_boxes else (1 + num_objects, None)
    shape, received = tuple(pixel_values.shape), None if boxes is None else tuple(boxes.shape)
    if len(shape) != 5 or shape[:3] != (batch, regions, 3) or shape[3] != shape[4] or received != expected:
        wanted = f"({batch}, {regions}, 3, S, S) and boxes {expected}"
        raise ValueError(f"this vision encoder takes pixel_values {wanted}, received {shape} and {received}.")
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
