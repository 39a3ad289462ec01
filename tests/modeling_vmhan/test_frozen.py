"""The form of a frozen encoder on a device, and what it remembers."""

import pytest
import torch
from torch import nn

from modeling_vmhan import frozen
from modeling_vmhan.frozen import FrozenEncoder, fast_dtype


class Doubled(FrozenEncoder):
    """Gives each region its pixels in one, twice; with rois the sum of each region's, too. Counts the passes."""

    feature_size, takes_boxes = 12, False

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False).requires_grad_(False)
        nn.init.dirac_(self.convolution.weight).mul_(2)
        self.passes, self.seen = 0, None

    def forward(self, pixel_values, rois=None):
        self.passes, self.seen = self.passes + 1, pixel_values.dtype
        features = self.convolution(pixel_values).flatten(1)
        return features if rois is None else features.expand(len(rois), -1) + rois.sum(1, keepdim=True)


@pytest.fixture
def encoder():
    return Doubled()


def pixels(value=1.0):
    return torch.full((1, 3, 2, 2), value)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"architecture": "aarch64"}, torch.float32),
        (None, torch.float32),
    ],
)
def test_the_form_is_what_the_cpu_computes_in(capabilities, expected, encoder, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    if capabilities is None:  # an older torch
        monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast_dtype(torch.device("cpu")) == expected and fast_dtype(torch.device("meta")) == torch.float32
    weight = encoder.in_form(torch.device("cpu")).convolution.weight
    assert weight.dtype == expected and weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_form_on_a_gpu(native, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert fast_dtype(torch.device("cuda")) == expected


def test_autocast_does_not_change_the_form(encoder):
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder.encode(pixels(1.001)).dtype == encoder.seen == torch.float32
    encoder.to(torch.bfloat16)
    assert encoder.encode(pixels()).dtype == encoder.seen == torch.bfloat16


def test_an_image_is_encoded_once_by_content_and_by_regions(encoder):
    rois = torch.tensor([[0, 0, 0, 1, 1.0]])
    for inputs in ((pixels(),), (pixels(),), (pixels(2.0),), (pixels(), rois), (pixels(), rois / 2), (pixels(), rois)):
        assert torch.equal(encoder.encode_image(*inputs), encoder(*inputs))
    assert encoder.passes == 6 + 4
    encoder.to(torch.bfloat16)
    assert encoder.encode_image(pixels()).dtype == torch.bfloat16


def test_other_weights_forget(encoder):
    encoder.encode_image(pixels())
    encoder.load_state_dict({"convolution.weight": encoder.convolution.weight * 2})
    assert encoder.encode_image(pixels()).unique().item() == 4


def test_weights_changed_in_place_are_others(encoder):
    encoder.encode_image(pixels())
    encoder.convolution.weight.mul_(2)
    assert encoder.encode_image(pixels()).unique().item() == 4


def test_a_first_use_in_inference_mode_leaves_weights_that_can_be_loaded(encoder):
    with torch.inference_mode():
        encoder.in_form(torch.device("cpu"), torch.bfloat16).encode_image(pixels())
    encoder.load_state_dict({"convolution.weight": encoder.convolution.weight * 2})
    assert not encoder.convolution.weight.is_inference()
    assert encoder.encode_image(pixels()).unique().item() == 4


def test_the_least_recently_used_image_is_forgotten(encoder, monkeypatch):
    monkeypatch.setattr(frozen, "REMEMBERED_IMAGES", 2)
    for value in (1.0, 2.0, 1.0, 3.0):
        encoder.encode_image(pixels(value))
    assert (encoder.passes, len(encoder.remembered)) == (3, 2)
    encoder.encode_image(pixels(1.0))
    assert encoder.passes == 3
    encoder.encode_image(pixels(2.0))
    assert encoder.passes == 4
