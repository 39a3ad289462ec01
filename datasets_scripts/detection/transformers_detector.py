"""Detectors of transformers, by a folder or a name on the Hub: DETR and its kin with fixed classes, and the
text-conditioned OWL-ViT, OWLv2 and Grounding DINO, which look for phrases.

Each model's own processor prepares its images and reads its output. No code from the Hub is run. Checkpoints whose
backbone is timm's (facebook/detr-resnet-50) need `pip install timm`.
"""

import contextlib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from datasets_scripts.detection.batching import BatchedDetector, random_seed, seeded, weights_digest
from datasets_scripts.detection.detectors import Detection, DetectionSettings, detections_from, nearest_names


__all__ = ["FixedClassDetector", "TextConditionedDetector", "load_detector"]

OWL_TYPES = ("owlvit", "owlv2")
GROUNDING_TYPES = ("grounding-dino", "mm-grounding-dino")


class FixedClassDetector(BatchedDetector):
    """DETR (Carion et al. 2020), Deformable DETR, RT-DETR, YOLOS and whatever else AutoModelForObjectDetection knows.

    Args:
        model: the network.
        processor: its image processor (a text-conditioned one's processor, in the subclass).
        settings: see `DetectionSettings`.
        description: what names model and weights.
        score_threshold: where `settings` names none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        *,
        settings: DetectionSettings,
        description: dict[str, Any],
        score_threshold: float = 0.25,
    ):
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        super().__init__(settings, score_threshold=score_threshold, description={**description, "versions": versions})
        self.processor = processor
        self.model = model.to(self.device).eval().requires_grad_(False)

    def prepare(self, image: Image.Image, queries: list[str]) -> dict[str, Tensor]:
        """One image alone, so that it is padded to no other."""
        return dict(self.processor(images=image, return_tensors="pt"))

    def shape(self, prepared: dict[str, Tensor]) -> Hashable:
        """Sizes of all inputs: images, and for text the number of phrases and their lengths."""
        return tuple((name, tuple(tensor.shape)) for name, tensor in prepared.items())

    def forward(
        self, prepared: list[dict[str, Tensor]], sizes: list[tuple[int, int]], queries: list[list[str]]
    ) -> list[list[Detection]]:
        """See `BatchedDetector.forward`."""
        inputs = {name: torch.cat([one[name] for one in prepared]).to(self.device) for name in prepared[0]}
        outputs = self.model(**inputs)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        target_sizes = [(height, width) for width, height in sizes]
        return self.read(outputs, inputs, target_sizes, queries)

    def read(
        self, outputs: Any, inputs: dict[str, Tensor], target_sizes: list[tuple[int, int]], queries: list[list[str]]
    ) -> list[list[Detection]]:
        """Raw detections from the model's output, through its processor; target sizes are (height, width)."""
        results = self.processor.post_process_object_detection(
            outputs, threshold=self.filters["score_threshold"], target_sizes=target_sizes
        )
        names = self.model.config.id2label
        return [
            detections_from(result["boxes"], result["scores"], (names[int(index)] for index in result["labels"]))
            for result in results
        ]


class TextConditionedDetector(FixedClassDetector):
    """OWL-ViT, OWLv2 (Minderer et al. 2023) and Grounding DINO (Liu et al. 2023): the labels are the queries.

    A phrase is cut at the text encoder's length: 16 tokens for OWL, 256 for all phrases of an image together for
    Grounding DINO.
    """

    text_conditioned = True

    def prepare(self, image: Image.Image, queries: list[str]) -> dict[str, Tensor]:
        """One image with its own phrases: OWL would fill up a shorter list with a blank phrase and find that too."""
        if self.model.config.model_type in OWL_TYPES:
            text = {"text": [queries], "max_length": self.model.config.text_config.max_position_embeddings}
        else:  # phrases are told apart by full stops, so they must have none
            text = {"text": [[query.replace(".", " ") for query in queries]], "max_length": self._max_text_length()}
        return dict(self.processor(images=image, truncation=True, return_tensors="pt", **text))

    def _max_text_length(self) -> int:
        config = self.model.config
        return min(config.max_text_len, config.text_config.max_position_embeddings)

    def read(
        self, outputs: Any, inputs: dict[str, Tensor], target_sizes: list[tuple[int, int]], queries: list[list[str]]
    ) -> list[list[Detection]]:
        """See `FixedClassDetector.read`."""
        threshold = self.filters["score_threshold"]
        if self.model.config.model_type in OWL_TYPES:
            results = self.processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=target_sizes, text_labels=queries
            )
            return [detections_from(result["boxes"], result["scores"], result["text_labels"]) for result in results]
        results = self.processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold, text_threshold=threshold, target_sizes=target_sizes
        )
        stop = self.processor.tokenizer.convert_tokens_to_ids(".")
        found = []
        for result, logits, tokens, of_image in zip(results, outputs.logits, inputs["input_ids"], queries):
            probabilities = logits.sigmoid()  # (boxes, tokens)
            kept = probabilities[probabilities.amax(-1) > threshold]  # those in `result`, in its order
            best = best_queries(kept, phrase_of_token(tokens, stop), threshold)
            raw = detections_from(result["boxes"], result["scores"], [of_image[index] for index in best])
            found.append([detection for detection, index in zip(raw, best) if index >= 0])
        return found


def phrase_of_token(tokens: Tensor, stop: int) -> Tensor:
    """Of "[CLS] a cat . red car . [SEP]" (T,), which phrase each token is in: [-1, 0, 0, -1, 1, 1, -1, -1] (T,)."""
    is_stop = tokens == stop
    phrase = is_stop.cumsum(0) - is_stop.int()  # (T,): number of stops before
    phrase[is_stop] = -1
    phrase[[0, -1]] = -1  # [CLS] and [SEP]
    return phrase


def best_queries(probabilities: Tensor, phrase: Tensor, threshold: float) -> list[int]:
    """The phrase with the likeliest token, for each box; -1 where no phrase has one above the threshold.

    The processor's own label joins all tokens above the threshold, which may be halves of several phrases.

    Args:
        probabilities: (boxes, at least T).
        phrase: (T,), see `phrase_of_token`.
        threshold: of a probability.
    """
    inside = probabilities[:, : len(phrase)].masked_fill(phrase < 0, 0.0)  # (boxes, T)
    best, token = inside.max(-1)
    return torch.where(best > threshold, phrase[token], -1).tolist()


def load_detector(model: str, *, settings: DetectionSettings, weights: str | None = None) -> FixedClassDetector:
    """The detector in a folder, or of a name on the Hub.

    Args:
        model: what `from_pretrained` takes.
        settings: see `DetectionSettings`.
        weights: None, or "random:SEED" to take the configuration and the processor only.

    Raises:
        ValueError: not a detector; a text-conditioned one of a type not supported; weights are missing in the file.
        OSError: it is neither here nor can it be downloaded.
        ImportError: it needs timm, which is not installed.
    """
    seed = random_seed(weights)
    with _told(model):
        config = AutoConfig.from_pretrained(model)
    text_conditioned = config.model_type in (*OWL_TYPES, *GROUNDING_TYPES)
    if not text_conditioned and type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        known = sorted(kind.model_type for kind in MODEL_FOR_OBJECT_DETECTION_MAPPING)
        raise ValueError(
            f"model: expected a detector with fixed classes, of one of the types {known}, or a text-conditioned one, "
            f"of one of {[*OWL_TYPES, *GROUNDING_TYPES]}, received {model!r} of type {config.model_type!r}"
            f"{nearest_names(config.model_type, known)}"
        )
    auto_model = AutoModelForZeroShotObjectDetection if text_conditioned else AutoModelForObjectDetection
    auto_processor = AutoProcessor if text_conditioned else AutoImageProcessor
    with _told(model):
        processor = auto_processor.from_pretrained(model)
        network = _pretrained(auto_model, model) if seed is None else _random(auto_model, config, seed)
    description = {
        "adapter": "transformers",
        "model": Path(model).resolve().name if Path(model).exists() else model,
        "revision": getattr(config, "_commit_hash", None),
        "weights": weights or "the model's own",
        "weights_sha256": weights_digest(network),
    }
    detector = TextConditionedDetector if text_conditioned else FixedClassDetector
    own = {"score_threshold": 0.1} if config.model_type in OWL_TYPES else {}
    return detector(network, processor, settings=settings, description=description, **own)


def _random(auto_model: Any, config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    with seeded(seed):
        return auto_model.from_config(config)


def _pretrained(auto_model: Any, model: str) -> PreTrainedModel:
    # dtype: the default would keep a half-precision checkpoint in half precision.
    network, report = auto_model.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(
            f"{model}: expected all weights of a {type(network).__name__}, received a file without {len(missing)} of "
            f"them ({missing[0]} is one). Name a trained detector, or ask for random weights: "
            f'"transformers:{model}?weights=random:0"'
        )
    return network


@contextlib.contextmanager
def _told(model: str) -> Iterator[None]:
    """Adds to an error of `from_pretrained` what to do about it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"transformers:{model} needs a package that is not installed ({error}). For a timm backbone: pip install "
            'timm. Without it: "transformers:PekingU/rtdetr_r50vd" or "transformers:hustvl/yolos-tiny"'
        ) from error
    except OSError as error:
        raise OSError(
            f"transformers:{model} could be neither found in a folder or the cache nor downloaded ({error}). With a "
            f"network, run: hf download {model} --local-dir FOLDER, then name the folder: "
            '"transformers:FOLDER". Is HF_HUB_OFFLINE set?'
        ) from error
