"""ResNet's feature pyramid of a region, HVPNeT's input.

Shapes: R regions, S side of the input in pixels, C channels of the four stages together (ResNet-50: 3840).
"""

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from modeling_vmhan.regions import PixelTransform
from modeling_vmhan.weights import random_seed, resized


__all__ = ["FEATURE_SIZES", "POSITIONS", "PyramidEncoder", "pyramid_transform"]

GRID = 2  # each stage's map is pooled to GRID x GRID
POSITIONS = GRID * GRID
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
