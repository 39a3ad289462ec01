"""The rival and the processor that a run trains, `--model NAME`."""

import logging
from typing import Any

import datasets

from modeling_vmhan import VMHANProcessor
from rivals import RivalConfig, RivalForRelationClassification, build_rival
from rivals.pyramid import FEATURE_SIZES, pyramid_transform
from training.arguments import ModelArguments
from training.text_encoders import load_text_encoder


__all__ = ["build_rival_model", "rival_fields"]

logger = logging.getLogger(__name__)

# Fields of RivalConfig that flags set, and the input without which a rival has no use for them.
NODE_FIELDS = {"num_objects": "objects", "num_text_phrases": "text_phrases", "num_image_phrases": "image_phrases"}
DEFAULT_NODES = 3  # as VMHANConfig's


def build_rival_model(
    model_args: ModelArguments, posts: datasets.DatasetDict
) -> tuple[RivalForRelationClassification, VMHANProcessor]:
    """The rival around the pretrained encoder, with the data's labels and visual feature size, and its processor."""
    text_encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
    config = RivalConfig(text_config=text_encoder.config, **rival_fields(model_args, posts))
    lengths = {"max_length": model_args.max_length, "max_image_text_length": model_args.max_image_text_length}
    pixels = {"image_transform": pyramid_transform(model_args.pyramid_size_px).to_dict()}
    processor = VMHANProcessor.for_config(config, tokenizer, **lengths, **(pixels if model_args.reads_pixels else {}))
    model = build_rival(config, text_encoder=text_encoder, vocab_size=len(processor.tokenizer))
    if model_args.reads_pixels:
        model.use_pyramid(model_args.pyramid.partition(":")[2])
    return model, processor


def rival_fields(model_args: ModelArguments, posts: datasets.DatasetDict) -> dict[str, Any]:
    """Fields of RivalConfig but `text_config`: of the flags those that the rival reads, the others are logged."""
    rival, flags = model_args.rival, model_args.config_fields()
    columns = next(iter(posts.values())).features
    fields = {
        "rival": model_args.model,
        "id2label": dict(enumerate(columns["pairs"].feature["relation"].names)),
        "entity_representation": rival.entity_representation,
    }
    if {"image", "objects"} & set(rival.inputs) and "image_features" in columns:
        fields["visual_feature_size"] = columns["image_features"].length
    if model_args.reads_pixels:
        fields["pyramid"] = model_args.pyramid.partition(":")[0]
        if "image" in columns:
            fields["visual_feature_size"] = FEATURE_SIZES.get(fields["pyramid"], 1)  # the model names a wrong network
    for name, needed in NODE_FIELDS.items():
        if needed in rival.inputs:
            fields[name] = flags.get(name, DEFAULT_NODES)
    if "classifier_dropout" in flags:
        fields["classifier_dropout"] = flags["classifier_dropout"]
    ignored = sorted(set(flags) - set(fields)) + ["vision_in_model"] * model_args.vision_in_model
    if flags.get("entity_representation", rival.entity_representation) != rival.entity_representation:
        ignored.append("entity_representation")
    if ignored:
        logger.info("%s takes no %s: not used", model_args.model, ", ".join(ignored))
    return fields
