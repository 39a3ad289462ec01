"""The model and the processor that a run trains, or of a finished one evaluates."""

import logging
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import PreTrainedConfig

from datasets_scripts.builders.building import visual_feature_description
from datasets_scripts.builders.mnre import FUNCTIONAL
from datasets_scripts.leaks import ORDER_BLIND, protocol_of
from datasets_scripts.recipes import recipe_of
from modeling_vmhan import VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.configuration_vmhan import PRESETS
from modeling_vmhan.weights import load_region_encoder, reference_to
from vmhan.baselines import BaselineForRelationClassification, get_baseline, load_baseline
from vmhan.training.arguments import DataArguments, ModelArguments
from vmhan.training.building.baselines import build_baseline_model, sentence_kind
from vmhan.training.building.starts import start_classifier, start_markers
from vmhan.training.checkpoints import check_model_folder
from vmhan.training.posts.node_numbers import node_numbers
from vmhan.training.text_encoders import load_text_encoder, public_name


__all__ = ["build_model", "how_to_take_pictures", "load_trained", "vision_of"]

logger = logging.getLogger(__name__)

Model = VMHANForRelationClassification | BaselineForRelationClassification


def build_model(
    model_args: ModelArguments, data_args: DataArguments, posts: datasets.DatasetDict
) -> tuple[Model, VMHANProcessor]:
    """The model around the pretrained encoder, with the data's labels and visual feature size, and its processor.

    ValueError as `node_numbers`, for --visual pixels of an encoder that nobody named, and for generated images that
    are missing or that the model does not read.
    """
    has_generated = "generated_image" in next(iter(posts.values())).features
    if has_generated != ("generated_image" in getattr(model_args.baseline, "inputs", ())):
        received = f"--model {model_args.model} and {'one' if has_generated else 'none'}"
        raise ValueError(
            f"--generated_images: expected a folder with --model tmr and with no other, received {received}."
        )
    if model_args.baseline is not None:
        return build_baseline_model(model_args, posts)
    columns = next(iter(posts.values())).features
    vector = columns.get("image_features")
    asked, preset = model_args.config_fields(), PRESETS[model_args.preset]
    if replaced := {name: value for name, value in preset.items() if asked.get(name, value) != value}:
        logger.info("--preset %s stands over flags and file: %s", model_args.preset, replaced)
    named = asked | preset
    if data_args.visual == "none":
        named |= {"num_image_phrases": 0, "num_objects": 0}
    labels = columns["pairs"].feature["relation"].names
    config_fields = {
        "id2label": dict(enumerate(labels)),
        "functional_relations": [relation for relation in FUNCTIONAL if relation in labels],
        "recipe": recipe_of(posts),
        "visual_feature_size": vector.length if vector is not None else 0,
        "order_blind": protocol_of(posts) == ORDER_BLIND,
        **named,
        **node_numbers(named, posts, sees_regions=vector is not None),
    }
    vision, weights, vision_fields = _vision(data_args, posts, sees=config_fields["visual_feature_size"] > 0)
    config_fields |= vision_fields
    text_encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
    config = VMHANConfig.from_preset(model_args.preset, text_config=text_encoder.config, **config_fields)
    lengths = {"max_length": model_args.max_length, "max_image_text_length": model_args.max_image_text_length}
    processor = VMHANProcessor.for_config(config, tokenizer, **lengths, trained_on=sentence_kind(posts))
    model = VMHANForRelationClassification.from_text_encoder(
        text_encoder, config, vocab_size=len(processor.tokenizer), vision=vision
    )
    if model_args.marker_start is not None:
        start_markers(model, processor.tokenizer)
    if model_args.classifier_start is not None:
        start_classifier(model, processor.tokenizer)
    if data_args.save_vision == "reference":
        if vision is None:
            raise ValueError(
                "--save_vision reference: expected a model that takes pictures, received none: leave it out."
            )
        model.config.vision_weights = reference_to(vision[0])
    if model.config.vision_config is not None:
        model.config.vision_config._name_or_path = public_name(weights)
    return model, processor


def load_trained(folder: Path) -> tuple[Model, VMHANProcessor]:
    """The model and processor of a finished run's folder, as they were saved; ValueError for an unfinished one."""
    check_model_folder("RUN_FOLDER", folder)
    is_baseline = "baseline" in PreTrainedConfig.get_config_dict(folder)[0]
    if not is_baseline:
        return VMHANForRelationClassification.from_pretrained(folder), VMHANProcessor.from_pretrained(folder)
    model = load_baseline(folder)
    return model, get_baseline(model.config.baseline).processor.from_pretrained(folder)


def _vision(
    data_args: DataArguments, posts: datasets.DatasetDict, *, sees: bool
) -> tuple[Any, str | None, dict[str, Any]]:
    """The encoder that is saved with the model, its weights' name and the fields of VMHANConfig; None and {} without.

    Where --visual was left out, it becomes "pixels" if the model sees pictures and the encoder of the data's features
    is known and can be had, and stays "features" if not.
    """
    is_asked = data_args.visual == "pixels"
    wants = data_args.may_save_vision and data_args.visual == "features" and sees
    if not is_asked and not (wants and "encoder" in (visual_feature_description(posts) or {})):
        return None, None, {}
    try:
        weights, fields = vision_of(posts)
        vision = load_region_encoder(fields["vision_encoder"], weights, config=fields.get("vision_config"))
    except (OSError, ValueError) as error:
        if is_asked:
            raise
        logger.warning("the encoder of the visual features cannot be saved with the model: %s", error)
        return None, None, {}
    if not is_asked:
        data_args.visual = "pixels"
        logger.info("the encoder of the visual features is saved with the model; --visual features leaves it out")
    return vision, weights, fields


def how_to_take_pictures(config: Any, data_args: DataArguments, posts: datasets.DatasetDict) -> str | None:
    """What to change in the command so that the model takes pictures; None where it does."""
    if getattr(config, "vision_encoder", None) is not None:
        return None
    if not config.visual_feature_size:
        left = "leave --visual none out and " if data_args.visual == "none" else ""
        return f"the model takes no pictures: to train one that does, {left}give --features, such as vgg16:imagenet"
    if "encoder" not in (visual_feature_description(posts) or {}):
        return (
            "the model takes visual features and no pictures, as the data do not say what made theirs: to train one "
            "that does, make them with --features, or `vmhan prepare --features`"
        )
    return "the model takes visual features and no pictures: --visual pixels trains one that takes pictures"


def vision_of(posts: datasets.DatasetDict) -> tuple[str, dict[str, Any]]:
    """Weights of the encoder that made the posts' features, and the fields of VMHANConfig that rebuild it.

    ValueError if the data set does not say what made its features.
    """
    made = visual_feature_description(posts)
    if made is None:
        raise ValueError(
            "--visual pixels needs features that say what made them, received a data set without that note. Build it "
            "with --features, or with `vmhan prepare --features`, or pass --visual features."
        )
    fields = {"vision_encoder": made["encoder"], "image_transform": made["transform"]}
    if made["encoder"] == "transformers":
        config = transformers.AutoConfig.from_pretrained(made["weights"])
        fields["vision_config"] = getattr(config, "vision_config", config)
    return made["weights"], fields
