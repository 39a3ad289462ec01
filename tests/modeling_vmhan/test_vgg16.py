"""VGG16 up to fc7, over crops and by RoIAlign, with seeded random weights and no network."""

import pytest
import torch
from torchvision.models import vgg16

from modeling_vmhan.vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder
from modeling_vmhan.weights import load_region_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_region_encoder("vgg16", "random:0")[0]


def test_forward_is_fc7_of_torchvision_vgg16(encoder):
    with torch.device("meta"):
        network = vgg16(weights=None).eval()
    network.load_state_dict(encoder.state_dict(), strict=False, assign=True)  # all but classifier.6
    pixels = torch.randn(2, 3, 32, 32)
    maps = network.avgpool(network.features(pixels)).flatten(1)
    fc6 = network.classifier[0](maps).relu()
    fc7 = network.classifier[3](fc6).relu()
    torch.testing.assert_close(encoder(pixels), fc7)
    assert encoder(pixels).shape == (2, encoder.feature_size)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 16, 32)])
def test_forward_of_a_wrong_shape(encoder, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \(R, 3, S, S\) with S >= 32"):
        encoder(torch.zeros(shape))


@pytest.fixture(scope="module")
def aligned(encoder):
    with torch.device("meta"):
        aligned = VGG16RoIAlignEncoder()
    aligned.load_state_dict(encoder.state_dict(), assign=True)  # the names are the same
    return aligned.eval()


@pytest.mark.parametrize("cells", [1, 7, 14])  # at 32, 224 and 448 pixels
@torch.no_grad()
def test_the_whole_image_has_the_vector_of_a_crop(cells, encoder, aligned, monkeypatch):
    maps = torch.rand(1, 512, cells, cells, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(VGG16RegionEncoder, "_maps", lambda self, pixel_values: maps)
    whole = torch.tensor([[0, 0.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(aligned(None, whole), encoder(None))


@torch.no_grad()
def test_a_region_of_whole_cells_is_read_from_its_cells(aligned):
    """By hand: the right half of a 2 x 2 map is one cell wide, so each of its two cells fills half of the 7 rows."""
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    above, below = aligned.features(pixels)[0, :, :, 1].unbind(-1)  # (512,) each
    rows = (torch.arange(7) + 0.5) * 2 / 7 - 0.5  # centres of the bins, in cells
    share = rows.clamp(0, 1)  # of the lower cell, by linear interpolation
    columns = (1 + (torch.arange(7) + 0.5) / 7 - 0.5).clamp(max=1)  # of the right column
    left_above, left_below = aligned.features(pixels)[0, :, :, 0].unbind(-1)
    left = left_above[:, None] * (1 - share) + left_below[:, None] * share  # (512, 7)
    right = above[:, None] * (1 - share) + below[:, None] * share
    by_hand = left.unsqueeze(-1) * (1 - columns) + right.unsqueeze(-1) * columns  # (512, 7, 7)
    expected = aligned.classifier(by_hand.flatten().unsqueeze(0))
    torch.testing.assert_close(aligned(pixels, torch.tensor([[0, 0.5, 0.0, 1.0, 1.0]])), expected)


@torch.no_grad()
def test_each_region_is_of_its_own_image(aligned):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0]])
    alone = [aligned(pixels[i : i + 1], torch.cat([torch.zeros(1, 1), boxes[i : i + 1]], dim=1)) for i in (1, 0)]
    together = aligned(pixels, torch.cat([torch.tensor([[1.0], [0.0]]), boxes.flip(0)], dim=1))
    torch.testing.assert_close(together, torch.cat(alone))
