"""The vision encoders by name, for the model and for precomputed features alike. `weights.py` loads them.

An encoder is a `FrozenEncoder` with `feature_size` (V) and `takes_boxes`:
    takes_boxes False: forward(pixel_values (R, 3, S, S)) -> (R, V), a pass over each region's own pixels;
    takes_boxes True:  forward(pixel_values (I, 3, S, S), rois (R, 5)) -> (R, V), a pass over each image.
Shapes: B examples, O boxes of an example, R regions, I images, S side of the input in pixels.
"""

import inspect

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from .frozen import STORED_DTYPE, FrozenEncoder
from .regions import PixelTransform
from .vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder


__all__ = [
    "TransformersRegionEncoder", "build_region_encoder", "chosen_objects", "default_transform", "encode_regions",
]  # fmt: skip

VGG16_ENCODERS = {"vgg16": VGG16RegionEncoder, "vgg16_roi_align": VGG16RoIAlignEncoder}


class TransformersRegionEncoder(FrozenEncoder):
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


def build_region_encoder(kind: str, config: PreTrainedConfig | None = None) -> FrozenEncoder:
    """A frozen encoder in eval mode whose weights are still to be loaded; `config` is of kind "transformers"."""
    encoder = TransformersRegionEncoder(config) if kind == "transformers" else VGG16_ENCODERS[kind]()
    return encoder.to(STORED_DTYPE).eval().requires_grad_(False)


def default_transform(config: PreTrainedConfig | None = None) -> PixelTransform:
    """ImageNet's mean and deviation, bilinear, squashed to the backbone's `image_size`, or to VGG16's 224."""
    size = getattr(config, "image_size", None) or PixelTransform.size
    return PixelTransform(size=size if isinstance(size, int) else size[0])


def images_a_call(device: torch.device) -> int:
    """How many images are encoded together: what bounds an accelerator's memory; on a CPU one is as fast as many."""
    return 1 if device.type == "cpu" else 16


@torch.no_grad()
def encode_regions(
    encoder: FrozenEncoder,
    pixel_values: Tensor,
    image_mask: Tensor,
    object_mask: Tensor,
    boxes: Tensor | None = None,
) -> Tensor:
    """Features of a padded batch, (B, 1 + O, V), zeros where no region is; the encoder is put into its fastest form.

    Where images are encoded one after the other, with their regions, a picture's features are the same to the last bit
    in every batch, and `FrozenEncoder.encode_image` need not make them twice.

    The one place of a step where the host waits for the device: the number of regions is the number of passes. Shapes
    are those of `VMHANModel.forward`; others are a ValueError.
    """
    batch, num_objects = object_mask.shape
    regions, expected = (1, (batch, num_objects, 4)) if encoder.takes_boxes else (1 + num_objects, None)
    shape, received = tuple(pixel_values.shape), None if boxes is None else tuple(boxes.shape)
    if len(shape) != 5 or shape[:3] != (batch, regions, 3) or shape[3] != shape[4] or received != expected:
        wanted = f"({batch}, {regions}, 3, S, S) and boxes {expected}"
        raise ValueError(f"this vision encoder takes pixel_values {wanted}, received {shape} and {received}.")
    encoder.in_form(pixel_values.device)
    mask = torch.cat([image_mask.unsqueeze(1), object_mask & image_mask.unsqueeze(1)], dim=1)  # (B, 1 + O)
    filled = torch.zeros(*mask.shape, encoder.feature_size, device=pixel_values.device)
    at_once = images_a_call(pixel_values.device)
    encode = encoder.encode_image if at_once == 1 else encoder.encode
    for images in image_mask.nonzero().flatten().split(at_once):
        own = mask[images]  # (I, 1 + O)
        if encoder.takes_boxes:
            number = torch.arange(len(images), device=own.device).unsqueeze(1).expand_as(own)[own]  # (R,)
            whole = boxes.new_tensor([0, 0, 1, 1]).expand(len(images), 1, 4)
            relative = torch.cat([whole, boxes[images]], dim=1)[own].float()  # (R, 4)
            features = encode(pixel_values[images, 0], torch.cat([number.unsqueeze(1), relative], dim=1))
        else:
            features = encode(pixel_values[images][own])  # (R, V)
        filled[images] = filled[images].masked_scatter(own.unsqueeze(-1), features.to(filled.dtype))
    return filled


def chosen_objects(object_mask: Tensor, pair_to_example: Tensor, pair_objects: Tensor, tail_object: Tensor) -> Tensor:
    """Those of `object_mask` (B, O) that are an object or the tail of a pair; shapes are `VMHANModel.forward`'s."""
    chosen = torch.cat([pair_objects, tail_object.unsqueeze(1)], dim=1) + 1  # (P, K + 1), 0 for none
    read = nn.functional.pad(torch.zeros_like(object_mask), (1, 0))  # (B, 1 + O)
    read[pair_to_example.unsqueeze(1).expand_as(chosen), chosen] = True
    return object_mask & read[:, 1:]
