"""Detectors of `torchvision.models.detection`: Faster R-CNN (Ren et al. 2015), Mask and Keypoint R-CNN, RetinaNet,
SSD, SSDlite and FCOS, by torchvision's names of models and weights.

The COCO weights come from download.pytorch.org into `torch.hub.get_dir()/checkpoints`; a file put there by hand is
used as it is. Code and weights are BSD-3-Clause: the choice for those who cannot take ultralytics' AGPL.
"""

from collections.abc import Hashable
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.transforms.functional import pil_to_tensor

from datasets_scripts.commands import nearest
from datasets_scripts.detection import base
from datasets_scripts.detection.base import DetectionSettings, Detector, Queries, Raw, Sizes


__all__ = ["TorchvisionDetector", "load_detector"]


class TorchvisionDetector(Detector):
    """A torchvision detection network; `labels` are the names of its class ids, background included."""

    def __init__(self, network: nn.Module, labels: list[str], **others: Any):
        super().__init__(network, versions={"torchvision": torchvision.__version__}, **others)
        self.labels = labels
        last = getattr(network, "roi_heads", network)  # where R-CNNs, and where one-stage detectors, filter
        last.score_thresh = self.filters["score_threshold"]
        last.detections_per_img = max(last.detections_per_img, self.filters["max_objects"])

    def prepare(self, image: Image.Image, queries: list[str]) -> Tensor:
        """Bytes, (3, height, width): a quarter of what floats take while the image waits for its batch."""
        return pil_to_tensor(image)

    def shape(self, prepared: Tensor) -> Hashable:
        """SSD resizes everything to one square; the others pad a batch to its largest image."""
        return None if self.network.transform.fixed_size else prepared.shape

    def forward(self, prepared: list[Tensor], sizes: Sizes, queries: Queries) -> list[Raw]:
        outputs = self.network([pixels.to(self.device).float() / 255 for pixels in prepared])
        return [(one["boxes"], one["scores"], [self.labels[index] for index in one["labels"]]) for one in outputs]


def load_detector(model: str, *, settings: DetectionSettings, weights: str | None = None) -> TorchvisionDetector:
    """The detector that torchvision calls `model`, see `make_detector`.

    `weights` is None for torchvision's best, the name of one of the model's, such as "COCO_V1", or "random:SEED".
    """
    known = list_models(module=torchvision.models.detection)
    if model not in known:
        raise ValueError(f"model: torchvision has the detectors {known}, received {model!r}{nearest(model, known)}")
    choices, seed = get_model_weights(model), base.random_seed(weights)
    names = list(choices.__members__)
    if seed is None and weights not in (None, *names):
        raise ValueError(
            f'weights: {model} has {names}, or "random:SEED", received {weights!r}{nearest(weights, names)}'
        )
    trained = choices.DEFAULT if weights is None or seed is not None else choices[weights]
    labels = list(trained.meta["categories"])
    if seed is None:
        network = _pretrained(model, trained)
    else:
        with base.seeded(seed):
            network = get_model(model, weights=None, weights_backbone=None, num_classes=len(labels))
    named = str(trained) if seed is None else weights
    return TorchvisionDetector(network, labels, settings=settings, adapter="torchvision", model=model, weights=named)


def _pretrained(model: str, weights: torchvision.models.WeightsEnum) -> nn.Module:
    try:
        # get_model would run the code in a file that has some; this looks first, and downloads.
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # unreachable; or damaged, and then whatever its bytes happen to spell
        raise OSError(
            f"torchvision:{model} needs {weights.url}, which could not be loaded ({error}). Put that file into "
            f"{torch.hub.get_dir()}/checkpoints (remove one that is damaged), or append ?weights=random:0 to the "
            "detector to try the code"
        ) from error
    return get_model(model, weights=weights)
