"""What alternatives.py compares: each takes posts with `tokens`, `pairs`, `image` and `boxes`, and answers about all
their pairs.
"""

import copy
import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.harness.competitors import MAX_LENGTH
from benchmarks.harness.posts import NUM_OBJECTS, Post, text_alone
from benchmarks.harness.vision import make_pipeline, pixels_of
from modeling_vmhan import PRESETS, MultimodalRelationClassificationPipeline, VMHANProcessor
from modeling_vmhan.weights import load_region_encoder, resized
from vmhan.baselines import BaselineConfig, build_baseline
from vmhan.baselines.pyramid import FEATURE_SIZES, pyramid_transform


__all__ = ["REGIONS", "Subject", "clip", "clip_config", "hvpnet", "text_pipelines", "vgg16_subjects", "vit_subject"]

REGIONS = 1 + NUM_OBJECTS  # the picture and its boxes
FEATURE_SIZE = 4096  # numbers of a stored feature
IMAGE_PHRASES = ["two people in red shirts", "a crowded stadium", "a banner with a name"]
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}

Subject = Callable[[Sequence[Post]], Any]
Pipe = MultimodalRelationClassificationPipeline


def text_pipelines(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: dict) -> dict[str, Subject]:
    """VM-HAN over what is text or was stored: the sentence alone, with phrases, and with features."""
    of_text = {"visual_feature_size": 0, **PRESETS["text_only"]}
    text = make_pipeline(encoder, tokenizer, id2label=labels, **of_text)
    full = make_pipeline(encoder, tokenizer, id2label=labels, visual_feature_size=FEATURE_SIZE)
    return {
        "VM-HAN, text only": partial(_answer, text, text_alone),
        "VM-HAN, phrases": partial(_answer, full, with_phrases),
        "VM-HAN, features": partial(_answer, full, with_stored_features),
    }


def _answer(pipe: Pipe, of_form: Callable[[Post], Post], posts: Sequence[Post]) -> Any:
    return pipe([of_form(post) for post in posts], batch_size=len(posts))


def with_phrases(post: Post) -> Post:
    """The text with three of its words as phrases of each pair, and `IMAGE_PHRASES`."""
    alone = text_alone(post)
    for pair in alone["pairs"]:
        pair["text_phrases"] = [[i, i + 1] for i in range(min(len(post["tokens"]), len(IMAGE_PHRASES)))]
    return alone | {"image_phrases": IMAGE_PHRASES}


def with_stored_features(post: Post) -> Post:
    """The text with features in float16 of its picture and its boxes."""
    features = np.ones((REGIONS, FEATURE_SIZE), dtype=np.float16)
    return text_alone(post) | {"image_features": features[0], "object_features": features[1:], "boxes": post["boxes"]}


def with_pixels(post: Post) -> Post:
    return text_alone(post) | {"image": post["image"], "boxes": post["boxes"]}


def vgg16_subjects(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: dict, posts: Sequence[Post], size: int
) -> dict[str, Subject]:
    """VGG16 alone over the crops of `posts`, and VM-HAN with it over pictures that are new to it, and that are not."""
    vision, transform = load_region_encoder("vgg16", "random:0")
    fields = {"vision_encoder": "vgg16", "vision": (vision, resized(transform, size)), "id2label": labels}
    pipe = make_pipeline(encoder, tokenizer, **fields)
    crops = {post["id"]: pixels_of(pipe, [with_pixels(post)])["pixel_values"][0] for post in posts}  # (4, 3, S, S)

    def bare(given: Sequence[Post]) -> Tensor:
        return vision.in_form(pipe.device).encode(torch.cat([crops[post["id"]] for post in given]))

    see = partial(_answer, pipe, with_pixels)
    return {"bare vision": bare, "VM-HAN, VGG16": partial(_as_new, pipe, see), "VM-HAN, seen before": see}


def _as_new(pipe: Pipe, subject: Subject, posts: Sequence[Post]) -> None:
    """Answer as if no picture were known; those that were, and these, are known afterwards."""
    encoder = pipe.model.vmhan.vision_encoder
    known, encoder.remembered = encoder.remembered, OrderedDict()
    subject(posts)
    encoder.remembered = known | encoder.remembered


def vit_subject(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: dict, shape: CLIPConfig
) -> Subject:
    """VM-HAN over pictures that are new to it, with the visual network of CLIP."""
    vision = load_region_encoder("transformers", "random:0", config=shape.vision_config)
    pipe = make_pipeline(encoder, tokenizer, vision_encoder="transformers", vision=vision, id2label=labels)
    return partial(_as_new, pipe, partial(_answer, pipe, with_pixels))


def hvpnet(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: dict, size: int) -> Subject:
    """HVPNeT with ResNet-50 over the picture and the boxes."""
    fields = {"baseline": "hvpnet", "pyramid": "resnet50", "visual_feature_size": FEATURE_SIZES["resnet50"]}
    config = BaselineConfig(text_config=encoder.config, id2label=labels, num_objects=NUM_OBJECTS, **fields)
    transform = pyramid_transform(size).to_dict()
    processor = VMHANProcessor.for_config(config, tokenizer, max_length=MAX_LENGTH, image_transform=transform)
    model = build_baseline(config, text_encoder=encoder, pyramid_weights="random:0")
    return lambda posts: model(**processor([with_pixels(post) for post in posts])).logits.softmax(dim=-1)


def clip_config(tokenizer: PreTrainedTokenizerBase, tiny: bool) -> CLIPConfig:
    """The shape of openai/clip-vit-base-patch32, which are CLIPConfig's defaults, or a tiny one of 32 pixels; for the
    ids of another tokenizer.
    """
    text = {**(TINY if tiny else {}), "eos_token_id": tokenizer.sep_token_id}
    vision = {**TINY, "image_size": 32, "patch_size": 16} if tiny else {}
    return CLIPConfig(text_config=text, vision_config=vision)


def clip(tokenizer: PreTrainedTokenizerBase, relations: Sequence[str], shape: CLIPConfig) -> Subject:
    """transformers' pipeline, called once a pair: its picture against a text of the pair for each relation."""
    own = copy.deepcopy(tokenizer)
    own.model_input_names = ["input_ids", "attention_mask"]
    size = shape.vision_config.image_size
    pixels = CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    parts = {"model": CLIPModel(shape).eval(), "tokenizer": own, "image_processor": pixels}
    pipe = transformers.pipeline("zero-shot-image-classification", **parts, device="cpu")

    def classify(posts: Sequence[Post]) -> list[Any]:
        return [
            pipe(Image.open(io.BytesIO(post["image"])), candidate_labels=texts, hypothesis_template="{}")
            for post in posts
            for texts in descriptions(post, relations)
        ]

    return classify


def descriptions(post: Post, relations: Sequence[str]) -> list[list[str]]:
    """For each pair a text for each relation, such as "Ann and Oslo: place of residence"."""
    said = [relation.rpartition("/")[2].replace("_", " ") for relation in relations]
    mentions = [[" ".join(post["tokens"][slice(*pair[role])]) for role in ("head", "tail")] for pair in post["pairs"]]
    return [[f"{head} and {tail}: {relation}" for relation in said] for head, tail in mentions]
