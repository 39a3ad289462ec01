"""How far away the objects of an image are, as a monocular depth model of transformers sees it: MOREformer's input."""

from collections.abc import Sequence

import torch
from PIL import Image
from torchvision.ops import roi_align


__all__ = ["DepthEstimator"]

SIDE = 8  # a box's depth map is SIDE x SIDE


class DepthEstimator:
    """A depth map of each box, by a model for depth estimation: the name or folder of one that transformers loads.

    OSError, as of `transformers.pipeline`, for one that cannot be loaded.
    """

    depth_size = SIDE * SIDE

    def __init__(self, model: str, device: str | None = None):
        from transformers import pipeline  # here, as it takes seconds

        from modeling_vmhan.weights import weights_digest

        self._estimate = pipeline("depth-estimation", model=model, device=device)
        self.description = {"model": model, "weights_sha256": weights_digest(self._estimate.model), "side": SIDE}

    @torch.no_grad()
    def object_depths(self, image: Image.Image, boxes: Sequence[Sequence[float]]) -> list[list[float]]:
        """The predicted depth in each of n boxes (xyxy in pixels), averaged to 8 x 8 values, row after row: n x 64.

        Of the whole image the least is 0 and the largest is 1. Which of them is near is the model's: most (DPT, Depth
        Anything) predict the inverse of the distance.
        """
        if not boxes:
            return []
        depth = self._estimate(image)["predicted_depth"].float().cpu()[None, None]  # (1, 1, height, width)
        depth = (depth - depth.min()) / (depth.max() - depth.min()).clamp(min=torch.finfo(torch.float32).eps)
        maps = roi_align(depth, [torch.tensor(boxes, dtype=torch.float32)], SIDE, aligned=True)  # (n, 1, 8, 8)
        return maps.flatten(1).tolist()
