"""What the frozen vision encoders share: the form that is fastest on a device, and each picture encoded once.

Shapes: n passes of an image (its regions, or the image itself), r regions, S side in pixels, V visual feature size.
"""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor, nn


__all__ = ["STORED_DTYPE", "FrozenEncoder", "fast_dtype"]

STORED_DTYPE = torch.bfloat16  # of the weights in a model and its folder; what computes in float32 gets them exactly
REMEMBERED_IMAGES = 256  # of 4 regions and VGG16's 4096 numbers: 8 MiB


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it (CPUs with AVX512-BF16 or AMX, newer GPUs), else float32.

    float16, which older GPUs have, is left out: large activations do not fit it.
    """
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say
        has_bfloat16 = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    else:
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32


class FrozenEncoder(nn.Module):
    """Base of the encoders in vision.py, whose `forward` and attributes are described there."""

    feature_size: int  # V
    takes_boxes: bool
    source: dict[str, str | None] | None = None  # name of the checkpoint, and its revision on the Hub; None: not known

    def __init__(self):
        super().__init__()
        self.remembered: OrderedDict[bytes, Tensor] = OrderedDict()  # the last ones used stand last
        self.register_load_state_dict_post_hook(_forget)

    def in_form(self, device: torch.device, dtype: torch.dtype | None = None) -> "FrozenEncoder":
        """The encoder itself on the device, convolutions channels last, in `dtype` (None: `fast_dtype`)."""
        with torch.inference_mode(False):  # in which it would make weights that nothing can load into afterwards
            return self.to(device=device, dtype=dtype or fast_dtype(device), memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, *inputs: Tensor) -> Tensor:
        """`forward` in the encoder's own type, autocast or not: pixels, and with `takes_boxes` rois, -> (r, V)."""
        pixel_values, *rois = inputs
        with torch.autocast(pixel_values.device.type, enabled=False):
            return self(pixel_values.to(next(self.parameters()).dtype), *rois)

    def encode_image(self, *inputs: Tensor) -> Tensor:
        """As `encode` of one image, (n, 3, S, S), once by content: the last `REMEMBERED_IMAGES` are kept.

        The result depends on the image and its regions alone, not on what else a batch has.
        """
        weights = [(str(p.dtype), 0 if p.is_inference() else p._version) for p in self.parameters()]
        digest = hashlib.sha256(repr(weights).encode())  # the version counts changes in place
        for tensor in inputs:
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy())
        key = digest.digest()
        features = self.remembered.pop(key, None)
        self.remembered[key] = features = self.encode(*inputs) if features is None else features
        if len(self.remembered) > REMEMBERED_IMAGES:
            self.remembered.popitem(last=False)
        return features


def _forget(encoder: FrozenEncoder, _: object) -> None:
    """Features of other weights are of no use."""
    encoder.remembered.clear()
