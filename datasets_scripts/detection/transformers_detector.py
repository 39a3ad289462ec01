"""Detectors of transformers, by a folder or a name on the Hub: DETR and its kin with fixed classes, and the
text-conditioned OWL-ViT, OWLv2 and Grounding DINO, which look for phrases.

Each model's own processor prepares its images and reads its output. No code from the Hub is run. Checkpoints whose
backbone is timm's (facebook/detr-resnet-50) need `pip install timm`.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    PreTrainedModel,
)

from datasets_scripts.commands import nearest
from datasets_scripts.detection import base
from datasets_scripts.detection.base import DetectionSettings, Detector, Queries, Raw, Sizes


__all__ = ["FixedClassDetector", "TextConditionedDetector", "load_detector"]

OWL_TYPES = ("owlvit", "owlv2")
GROUNDING_TYPES = ("grounding-dino", "mm-grounding-dino")


class FixedClassDetector(Detector):
    """DETR (Carion et al. 2020), RT-DETR, YOLOS and whatever else AutoModelForObjectDetection knows."""

    def __init__(self, network: PreTrainedModel, processor: Any, **others: Any):
        super().__init__(network, versions={"transformers": transformers.__version__}, **others)
        self.processor = processor

    def prepare(self, image: Image.Image, queries: list[str]) -> dict[str, Tensor]:
        """One image alone, so that it is padded to no other."""
        return dict(self.processor(images=image, return_tensors="pt"))

    def shape(self, prepared: dict[str, Tensor]) -> Hashable:
        """Sizes of all inputs: images, and for text the number of phrases and their lengths."""
        return tuple((name, tuple(tensor.shape)) for name, tensor in prepared.items())

    def forward(self, prepared: list[dict[str, Tensor]], sizes: Sizes, queries: Queries) -> list[Raw]:
        inputs = {name: torch.cat([one[name] for one in prepared]).to(self.device) for name in prepared[0]}
        outputs = self.network(**inputs)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        common = {"threshold": self.filters["score_threshold"], "target_sizes": [size[::-1] for size in sizes]}
        return self.read(outputs, inputs.get("input_ids"), queries, common)

    def read(self, outputs: Any, tokens: Tensor | None, queries: Queries, common: dict[str, Any]) -> list[Raw]:
        """Raw detections from the model's output, through its processor's method, which takes `common`."""
        names = self.network.config.id2label
        results = self.processor.post_process_object_detection(outputs, **common)
        return [(one["boxes"], one["scores"], [names[int(index)] for index in one["labels"]]) for one in results]


class TextConditionedDetector(FixedClassDetector):
    """OWL-ViT, OWLv2 (Minderer et al. 2023) and Grounding DINO (Liu et al. 2023): the labels are the queries, cut at
    the text encoder's length: 16 tokens a phrase for OWL, 256 for all phrases of an image together for Grounding DINO.
    """

    text_conditioned = True

    def prepare(self, image: Image.Image, queries: list[str]) -> dict[str, Tensor]:
        """One image with its own phrases: OWL would fill up a shorter list with a blank phrase and find that too."""
        config = self.network.config
        length = config.text_config.max_position_embeddings
        if config.model_type not in OWL_TYPES:  # full stops separate the phrases, so they must have none
            queries = [query.replace(".", " ") for query in queries]
            length = min(config.max_text_len, length)
        options = {"max_length": length, "truncation": True, "return_tensors": "pt"}
        return dict(self.processor(images=image, text=[queries], **options))

    def read(self, outputs: Any, tokens: Tensor | None, queries: Queries, common: dict[str, Any]) -> list[Raw]:
        """See `FixedClassDetector.read`. Grounding DINO's processor may join halves of several phrases to a label."""
        if self.network.config.model_type in OWL_TYPES:
            results = self.processor.post_process_grounded_object_detection(outputs, text_labels=queries, **common)
            return [(one["boxes"], one["scores"], one["text_labels"]) for one in results]
        stop, found = self.processor.tokenizer.convert_tokens_to_ids("."), []
        for index, (height, width) in enumerate(common["target_sizes"]):
            sides = outputs.pred_boxes.new_tensor([width, height, width, height])
            boxes = box_convert(outputs.pred_boxes[index], "cxcywh", "xyxy") * sides  # (boxes, 4)
            scores, phrases = best_phrases(outputs.logits[index].sigmoid(), phrase_of_token(tokens[index], stop))
            found.append((boxes, scores, [queries[index][phrase] for phrase in phrases.tolist()]))
        return found


def phrase_of_token(tokens: Tensor, stop: int) -> Tensor:
    """Of "[CLS] a cat . red car . [SEP]" (T,), which phrase each token is in: [-1, 0, 0, -1, 1, 1, -1, -1] (T,)."""
    is_stop = tokens == stop
    phrase = is_stop.cumsum(0) - is_stop.int()  # (T,): number of stops before
    phrase[is_stop] = -1
    phrase[[0, -1]] = -1  # [CLS] and [SEP]
    return phrase


def best_phrases(probabilities: Tensor, phrase: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the likeliest token in any phrase, and that phrase: (boxes,) each.

    `probabilities` are (boxes, at least T), `phrase` is (T,), see `phrase_of_token`.
    """
    inside = probabilities[:, : len(phrase)].masked_fill(phrase < 0, 0.0)  # (boxes, T)
    scores, token = inside.max(-1)
    return scores, phrase[token]


def load_detector(model: str, *, settings: DetectionSettings, weights: str | None = None) -> FixedClassDetector:
    """The detector in a folder, or of a name on the Hub; `weights` is None or "random:SEED". See `make_detector`."""
    seed = base.random_seed(weights)
    try:
        config = AutoConfig.from_pretrained(model)
    except OSError as error:
        raise OSError(f"model: expected a folder or a name on the Hub, received {model!r} ({error})") from error
    text_conditioned = config.model_type in (*OWL_TYPES, *GROUNDING_TYPES)
    if not text_conditioned and type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        known = [*OWL_TYPES, *GROUNDING_TYPES, *(kind.model_type for kind in MODEL_FOR_OBJECT_DETECTION_MAPPING)]
        raise ValueError(
            f"model: expected a detector of one of the types {known}, received {model!r} of type "
            f"{config.model_type!r}{nearest(config.model_type, known)}"
        )
    auto_model = AutoModelForZeroShotObjectDetection if text_conditioned else AutoModelForObjectDetection
    processor = (AutoProcessor if text_conditioned else AutoImageProcessor).from_pretrained(model)
    if seed is None:
        network = _pretrained(auto_model, model)
    else:
        with base.seeded(seed):
            network = auto_model.from_config(config)
    return (TextConditionedDetector if text_conditioned else FixedClassDetector)(
        network,
        processor,
        settings=settings,
        score_threshold=0.1 if config.model_type in OWL_TYPES else 0.25,
        adapter="transformers",
        model=Path(model).resolve().name if Path(model).exists() else model,
        revision=getattr(config, "_commit_hash", None),
        weights=weights or "the model's own",
    )


def _pretrained(auto_model: Any, model: str) -> PreTrainedModel:
    # dtype: the default would keep a half-precision checkpoint in half precision.
    network, report = auto_model.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    if report["missing_keys"]:
        raise ValueError(
            f"{model}: expected all weights of a {type(network).__name__}, received a file without "
            f"{sorted(report['missing_keys'])[:3]}. Name a trained detector, or ask for random weights: "
            f'"transformers:{model}?weights=random:0"'
        )
    return network
