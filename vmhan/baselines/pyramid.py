"""ResNet's feature pyramid of a region, the input of HVPNeT and HVFormer, and what both do with it.

Shapes: R regions, S side of the input in pixels, C channels of the four stages together (ResNet-50: 3840), P pairs,
B examples, O objects of an example, K objects a pair.
"""

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from modeling_vmhan.nodes import masked_batch_norm
from modeling_vmhan.regions import PixelTransform
from modeling_vmhan.weights import random_seed, resized
from vmhan.baselines.base import EncoderBaseline
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["FEATURE_SIZES", "POSITIONS", "STAGES", "PyramidBaseline", "PyramidEncoder", "pyramid_transform"]

GRID = 2  # each stage's map is pooled to GRID x GRID
POSITIONS = GRID * GRID
STAGES = 4  # of a ResNet; each has twice the channels of the one before it
RESNETS = {
    "resnet18": torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": torchvision.models.ResNet50_Weights.IMAGENET1K_V1,  # what the public system loads
}
FEATURE_SIZES = {"resnet18": 960, "resnet50": 3840}  # C


def pyramid_transform(size: int = 224) -> PixelTransform:
    """The public system's pixels: the shorter side resized to 256, 224 x 224 of its middle; or less in proportion."""
    return resized(PixelTransform(size=224, crop_mode="center", shortest_edge=256), size)


class PyramidEncoder(nn.Module):
    """Feature maps of ResNet's four stages, each pooled to 2 x 2 and concatenated over the channels.

    `name` is "resnet50" (the published one) or "resnet18", and `state` torchvision's state dict of that network.
    """

    def __init__(self, name: str = "resnet50", state: dict[str, Any] | None = None):
        super().__init__()
        if name not in RESNETS:
            raise ValueError(f"the pyramid's network must be one of {list(RESNETS)}, received {name!r}.")
        resnet = getattr(torchvision.models, name)(weights=None)
        if state is not None:
            resnet.load_state_dict(state)
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.feature_size = FEATURE_SIZES[name]  # C

    @classmethod
    def from_weights(cls, name: str, weights: str) -> "PyramidEncoder":
        """A frozen encoder in eval mode; ValueError for wrong arguments, OSError if the weights cannot be had.

        weights: "imagenet" downloads torchvision's IMAGENET1K_V1, "random:SEED" draws torchvision's initial
        distribution with a generator of its own.
        """
        seed, state = random_seed(weights), None
        if weights == "imagenet" and name in RESNETS:
            try:
                state = RESNETS[name].get_state_dict(progress=True, check_hash=True, weights_only=True)
            except OSError as error:  # URLError included
                raise OSError(
                    f"the ImageNet weights of {name} could not be downloaded from {RESNETS[name].url} ({error}). "
                    f"Download that file into {torch.hub.get_dir()}/checkpoints, or give random:0 for a trial."
                ) from error
        elif seed is None:
            raise ValueError(f'the weights of the ResNet must be "imagenet" or "random:SEED", received {weights!r}.')
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed or 0)
            return cls(name, state).eval().requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Normalised regions (R, 3, S, S) -> (R, 4 positions, C). Any S: a map smaller than 2 x 2 is repeated."""
        maps, pooled = self.stem(pixel_values), []
        for stage in self.stages:
            maps = stage(maps)
            pooled.append(nn.functional.adaptive_avg_pool2d(maps, GRID))  # (R, channels, 2, 2)
        return torch.cat(pooled, dim=1).flatten(2).transpose(1, 2)  # (R, 4, C)


class PyramidBaseline(EncoderBaseline):
    """A baseline that sees the pixels of the image and of the pair's objects through a frozen ResNet at each step.

    visual_feature_size is C. Departures of all of them: the objects are those of the data set, because the public ones
    leak. A region that several pairs use is encoded once. The ResNet stays in evaluation mode. The pyramid is
    normalised; without this nothing was learned from random weights.
    """

    reads_images = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.pyramid = PyramidEncoder(config.pyramid)
        size = self.pyramid.feature_size
        self.feature_norm = nn.LayerNorm(size, elementwise_affine=False)
        self.region_norm = nn.BatchNorm1d(size, affine=False, momentum=None)

    def use_pyramid(self, weights: str) -> None:
        """Load the ResNet's weights, see `PyramidEncoder.from_weights`."""
        self.pyramid = PyramidEncoder.from_weights(self.config.pyramid, weights).to(self.dtype)

    def train(self, mode: bool = True) -> "PyramidBaseline":
        """As `nn.Module.train`, but the ResNet stays frozen (`from_pretrained` would not leave it so) and in eval."""
        super().train(mode)
        self.pyramid.eval().requires_grad_(False)
        return self

    def region_pyramids(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the ResNet makes of every region that a pair uses, each once: pyramids (1 + R, 4, C), the first of them
        zeros for what is missing; of_pair (P, 2 + K), which of them are the pair's image, objects and tail; present
        (P, 2 + K) bool. ValueError for posts without pixels.
        """
        example, tail = inputs["pair_to_example"], inputs["tail_object"][:, None] + 1  # (P,), (P, 1)
        columns = torch.cat([torch.zeros_like(tail), inputs["pair_objects"] + 1, tail], dim=1)  # image 0, object i + 1
        has_image = inputs["image_mask"][example].unsqueeze(1)  # (P, 1)
        present = has_image & torch.cat([torch.ones_like(has_image), columns[:, 1:] > 0], dim=1)  # (P, 2 + K)
        pixels = inputs.get("pixel_values")
        if pixels is None and present.any():
            raise ValueError(
                f"{self.config.baseline} reads pixels, received a batch with image_features and without pixel_values."
            )
        used = inputs["image_mask"].new_zeros(len(inputs["image_mask"]), 1 + inputs["object_mask"].shape[1])
        used[example.unsqueeze(1).expand_as(columns)[present], columns[present]] = True  # (B, 1 + O)
        pyramids = self.classifier.weight.new_zeros(1, POSITIONS, self.pyramid.feature_size)
        if used.any():
            with torch.no_grad():
                pyramids = torch.cat([pyramids, self.pyramid(pixels[used].to(pyramids.dtype))])
        number = used.flatten().cumsum(dim=0).view_as(used)  # 1 + the region's place among those used
        return pyramids, number[example.unsqueeze(1), columns].masked_fill(~present, 0), present

    def normalised(self, pyramids: Tensor) -> Tensor:
        """(1 + R, 4, C) as `VisualProjection` normalises features; the first, which is no region, stays zero."""
        is_region = torch.arange(len(pyramids), device=pyramids.device) > 0
        mask = is_region.unsqueeze(1).expand(-1, POSITIONS)  # (1 + R, 4)
        return masked_batch_norm(self.region_norm, self.feature_norm(pyramids), mask)
