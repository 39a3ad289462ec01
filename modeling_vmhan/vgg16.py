"""VGG16 up to fc7, the paper's vision encoder (section 5.1): a pass over each region, or one pass and RoIAlign.

Shapes: R regions (whole images and boxes), I images, S side of the input in pixels, V visual feature size (4096).
"""

import torch
from torch import Tensor
from torchvision.models import vgg16
from torchvision.ops import roi_align

from .frozen import FrozenEncoder


__all__ = ["MIN_SIZE", "VGG16RegionEncoder", "VGG16RoIAlignEncoder"]

MIN_SIZE = 32  # pixels: VGG16 halves the side five times


class VGG16RegionEncoder(FrozenEncoder):
    """VGG16 with a pass over each region's own pixels (the paper's), up to fc7, that is, without fc8.

    The output is the 4096-d vector after fc7's ReLU, so it is never negative (Simonyan and Zisserman 2015,
    https://arxiv.org/abs/1409.1556).
    """

    feature_size = 4096  # V
    takes_boxes = False  # it reads crops

    def __init__(self):
        super().__init__()
        network = vgg16(weights=None, init_weights=False)
        self.features = network.features
        self.avgpool = network.avgpool
        self.classifier = network.classifier[:-1]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(R, 3, S, S) -> (R, 4096). S is at least 32; the paper's is 224."""
        maps = self.avgpool(self._maps(pixel_values))  # (R, 512, 7, 7)
        return self.classifier(maps.flatten(1))

    def _maps(self, pixel_values: Tensor) -> Tensor:
        """(I, 3, S, S) -> (I, 512, S / 32, S / 32), after the last pooling."""
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < MIN_SIZE:
            raise ValueError(f"pixel_values must be (R, 3, S, S) with S >= {MIN_SIZE}, received {shape}.")
        return self.features(pixel_values)


class VGG16RoIAlignEncoder(VGG16RegionEncoder):
    """VGG16 with one pass over the image, then RoIAlign of each region in its feature map, then fc6 and fc7.

    The features are other than the crops': a region is seen with what surrounds it, and coarsely (7 x 7 cells an image
    at S = 224; take a larger S for small objects), so never mix the two kinds in one data set. RoIAlign (He et al.
    2017, https://arxiv.org/abs/1703.06870) has as many samples a bin as the map has cells in it: the whole image, at a
    multiple of 224 pixels, gets exactly the vector that `VGG16RegionEncoder` gives it. The weights are the same.
    """

    takes_boxes = True  # it reads whole images

    def forward(self, pixel_values: Tensor, rois: Tensor) -> Tensor:
        """pixel_values (I, 3, S, S), rois (R, 5): number of the image, then x1, y1, x2, y2 in [0, 1] -> (R, 4096)."""
        maps = self._maps(pixel_values)  # (I, 512, h, w)
        height, width = maps.shape[-2:]
        in_cells = rois.float() * rois.new_tensor([1, width, height, width, height], dtype=torch.float32)
        # in float32: torchvision has no bfloat16 kernel for CPU
        regions = roi_align(maps.float(), in_cells, output_size=7, sampling_ratio=-1, aligned=True)  # (R, 512, 7, 7)
        return self.classifier(regions.to(maps.dtype).flatten(1))
