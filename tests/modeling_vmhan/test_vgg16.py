"""VGG16 up to fc7, over crops and by RoIAlign, with seeded random weights and no network."""

import urllib.error

import pytest
import torch
from torchvision.models import VGG16_Weights, vgg16

from modeling_vmhan.vgg16 import VGG16RegionEncoder, VGG16RoIAlignEncoder, random_seed


@pytest.fixture(scope="module")
def encoder():
    return VGG16RegionEncoder.from_weights("random:0")


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


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(thin_vgg16):
    before = torch.get_rng_state()
    first, again, other = (VGG16RegionEncoder.from_weights(f"random:{seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.features[0].weight, other.features[0].weight)


def test_random_weights_have_torchvisions_initial_distribution(encoder):
    assert encoder.features[10].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert encoder.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not encoder.features[10].bias.any() and not encoder.classifier[0].bias.any()


def test_encoder_is_frozen_and_in_eval_mode(encoder):
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("weights", ["random", "random:", "random:-1", "IMAGENET1K_V1", ""])
def test_unknown_weights(weights):
    with pytest.raises(ValueError, match='weights must be "imagenet" or "random:SEED"'):
        VGG16RegionEncoder.from_weights(weights)


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), RuntimeError("invalid hash value")])
def test_imagenet_weights_out_of_reach(monkeypatch, error):
    def fail(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fail)
    with pytest.raises(OSError, match=r"imagenet.*vgg16-397923af\.pth.*random:0"):
        VGG16RegionEncoder.from_weights("imagenet")


def test_imagenet_weights_are_loaded_without_the_last_layer(monkeypatch, encoder):
    state = {
        **encoder.state_dict(),
        "classifier.6.weight": torch.zeros(1000, 4096),
        "classifier.6.bias": torch.zeros(1000),
    }
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, *args, **kwargs: state)
    loaded = VGG16RegionEncoder.from_weights("imagenet").state_dict()
    assert loaded.keys() == encoder.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 16, 32)])
def test_forward_of_a_wrong_shape(encoder, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \(R, 3, S, S\) with S >= 32"):
        encoder(torch.zeros(shape))


# ---------------------------------------------------------------- RoIAlign


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
    columns = (1 + (torch.arange(7) + 0.5) / 7 - 0.5).clamp(max=1)  # of the right column, likewise
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


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 6)])
def test_rois_of_a_wrong_shape(aligned, shape):
    with pytest.raises(ValueError, match=r"rois must be \(R, 5\).*received"):
        aligned(torch.zeros(1, 3, 32, 32), torch.zeros(shape))


@pytest.mark.parametrize(
    ("weights", "seed"), [("random:0", 0), ("random:12", 12), ("random", None), ("random:x", None)]
)
def test_random_weights_are_asked_for_by_one_name(weights, seed):
    assert random_seed(weights) == seed
