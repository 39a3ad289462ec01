"""Vision backbones that cannot be encoders, and the encoding of padded batches."""

import pytest
import torch
import transformers
from torch import nn

from modeling_vmhan import vision
from modeling_vmhan.frozen import FrozenEncoder
from modeling_vmhan.vision import TransformersRegionEncoder, chosen_objects, encode_regions


@pytest.mark.parametrize("model_type", ["bert", "siglip2_vision_model"])
def test_a_backbone_that_needs_more_than_pixels(model_type):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    with pytest.raises(ValueError, match="pixel_values, .*received (Bert|Siglip2Vision)Model"):
        TransformersRegionEncoder(config)


def test_a_backbone_without_a_pooled_feature(make_vision_config):
    encoder = TransformersRegionEncoder(make_vision_config("siglip_vision_model", vision_use_head=False))
    with pytest.raises(ValueError, match="SiglipVisionModel .*32 numbers, received None"):
        encoder(torch.zeros(1, 3, 32, 32))


class Sums(FrozenEncoder):
    """Gives each region three times the sum of its pixels, or of its relative box; counts the passes."""

    feature_size = 3

    def __init__(self, takes_boxes):
        super().__init__()
        self.takes_boxes, self.passes = takes_boxes, 0
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, pixel_values, rois=None):
        self.passes += len(pixel_values)
        sums = pixel_values.sum((1, 2, 3))
        if self.takes_boxes:
            sums = sums[rois[:, 0].long()] + rois[:, 1:].sum(1)
        return sums.unsqueeze(1).expand(-1, 3) * self.weight


IMAGE_MASK = torch.tensor([True, False, True])
OBJECT_MASK = torch.tensor([[True, True], [True, False], [True, False]])  # of the image that is missing, none counts


@pytest.fixture(params=[1, 2])
def at_once(request, monkeypatch):
    """Images of a call: as on a CPU, and as on an accelerator."""
    monkeypatch.setattr(vision, "images_a_call", lambda device: request.param)


@pytest.mark.usefixtures("at_once")
def test_crops_of_a_batch_are_encoded_once_and_padding_is_not():
    values = torch.arange(1.0, 10).view(3, 3, 1, 1, 1).expand(-1, -1, 3, 2, 2)
    encoder = Sums(takes_boxes=False)
    features = encode_regions(encoder, values, IMAGE_MASK, OBJECT_MASK)
    assert features[..., 0].tolist() == [[12, 24, 36], [0, 0, 0], [84, 96, 0]]
    assert encoder.passes == 5


@pytest.mark.usefixtures("at_once")
def test_images_of_a_batch_are_encoded_once_with_their_boxes():
    values = torch.arange(1.0, 4).view(3, 1, 1, 1, 1).expand(-1, -1, 3, 2, 2)
    boxes = torch.arange(6.0).view(3, 2, 1).expand(-1, -1, 4)
    encoder = Sums(takes_boxes=True)
    features = encode_regions(encoder, values, IMAGE_MASK, OBJECT_MASK, boxes)
    assert features[..., 0].tolist() == [[12 + 2, 12 + 0, 12 + 4], [0, 0, 0], [36 + 2, 36 + 16, 0]]
    assert encoder.passes == 2


def test_a_batch_without_any_image_is_zeros():
    encoder = Sums(takes_boxes=False)
    features = encode_regions(encoder, torch.ones(3, 3, 3, 2, 2), torch.zeros(3, dtype=torch.bool), OBJECT_MASK)
    assert features.shape == (3, 3, 3) and not features.any() and encoder.passes == 0


def test_only_objects_that_a_pair_reads_are_chosen():
    """Pairs of the posts 0, 0 and 2: objects 2 and none; the tail 0; an object that post 2 does not have."""
    pair_objects, tail_object = torch.tensor([[2, -1], [-1, -1], [1, -1]]), torch.tensor([-1, 0, -1])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    chosen = chosen_objects(mask, torch.tensor([0, 0, 2]), pair_objects, tail_object)
    assert chosen.tolist() == [[True, False, True], [False] * 3, [False] * 3]
    assert mask[0].all()


WRONG_SHAPES = [(False, shape, None) for shape in ((3, 1, 3, 2, 2), (3, 3, 1, 2, 2), (3, 3, 3, 2, 4), (9, 3, 2, 2))]
WRONG_SHAPES += [(takes_boxes, (3, 3, 3, 2, 2), (3, 2, 4)) for takes_boxes in (False, True)]
WRONG_SHAPES += [(True, (3, 1, 3, 2, 2), boxes) for boxes in (None, (3, 1, 4))]


@pytest.mark.parametrize(("takes_boxes", "shape", "boxes"), WRONG_SHAPES)
def test_pixels_and_boxes_of_a_wrong_shape(takes_boxes, shape, boxes):
    wanted = ("(3, 1, 3, S, S)", "(3, 2, 4)") if takes_boxes else ("(3, 3, 3, S, S)", "None")
    given = None if boxes is None else torch.zeros(boxes)
    with pytest.raises(ValueError, match="pixel_values.* boxes") as caught:
        encode_regions(Sums(takes_boxes), torch.zeros(shape), IMAGE_MASK, OBJECT_MASK, given)
    assert all(part in str(caught.value) for part in (*wanted, f"received {shape} and {boxes}"))
