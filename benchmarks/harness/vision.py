"""The pictures that the benchmarks read, pipelines around an encoder, and turns in which no picture is known."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn
from transformers import PreTrainedTokenizerBase

from benchmarks.harness.competitors import MAX_LENGTH
from modeling_vmhan import MultimodalRelationClassificationPipeline, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.frozen import FrozenEncoder
from modeling_vmhan.images import image_size


__all__ = ["anew", "load_pictures", "make_pipeline", "pixels_of", "three_boxes"]


def make_pipeline(
    text_encoder: nn.Module, tokenizer: PreTrainedTokenizerBase, **fields: Any
) -> MultimodalRelationClassificationPipeline:
    """A packed VM-HAN around the encoder; `fields` are those of `VMHANConfig`, and `vision` of `from_text_encoder`."""
    fields = {"entity_representation": "packed", **fields}
    model = VMHANForRelationClassification.from_text_encoder(text_encoder, **fields)
    processor = VMHANProcessor.for_config(model.config, tokenizer, max_length=MAX_LENGTH)
    return MultimodalRelationClassificationPipeline(model, processor, device="cpu")


def load_pictures(folder: Path | None, count: int | None) -> list[bytes]:
    """The bytes of the first `count` JPEG files of a folder at any depth (None: of all), or of as many drawn ones.

    ValueError for a folder with fewer.
    """
    if folder is None:
        drawn = [io.BytesIO() for _ in range(count or 0)]
        for i, file in enumerate(drawn):
            Image.effect_noise((800, 600), 60 + i).convert("RGB").save(file, format="JPEG")
        return [file.getvalue() for file in drawn]
    paths = sorted(folder.rglob("*.jpg"))[:count]
    if not paths or len(paths) < (count or 0):
        raise ValueError(
            f"--images: expected a folder with at least {count or 1} .jpg files, received {folder} with {len(paths)}"
        )
    return [path.read_bytes() for path in paths]


def three_boxes(picture: bytes) -> list[list[float]]:
    """Boxes of three objects in a picture, in pixels."""
    w, h = image_size(picture)
    return [[0, 0, 0.5 * w, 0.6 * h], [0.3 * w, 0.2 * h, 0.9 * w, 0.9 * h], [0.5 * w, 0.5 * h, w, h]]


def pixels_of(pipe: MultimodalRelationClassificationPipeline, posts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The inputs of `encode_regions`, made as the pipeline makes them."""
    inputs = pipe.processor.collate([pipe.preprocess(post)["encoded"] for post in posts])
    return {name: inputs[name] for name in ("pixel_values", "image_mask", "object_mask")}


def anew(vision: FrozenEncoder, task: Callable[[], Any]) -> Any:
    """Do the task as if no picture were known to the encoder."""
    vision.remembered.clear()
    return task()
