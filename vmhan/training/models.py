"""The model and the processor that a run trains, or of a finished one evaluates."""

from typing import Any

import datasets
import transformers
from transformers import PreTrainedConfig

from datasets_scripts.builders.building import visual_feature_description
from modeling_vmhan import VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.weights import load_region_encoder
from vmhan.baselines import BaselineForRelationClassification, load_baseline
from vmhan.training.arguments import DataArguments, ModelArguments
from vmhan.training.baselines import build_baseline_model
from vmhan.training.text_encoders import load_text_encoder


__all__ = ["build_model", "load_trained", "vision_of"]


def build_model(
    model_args: ModelArguments, data_args: DataArguments, posts: datasets.DatasetDict
) -> tuple[VMHANForRelationClassification | BaselineForRelationClassification, VMHANProcessor]:
    """The model around the pretrained encoder, with the data's labels and visual feature size, and its processor.

    With --trained_model, that one.

    Raises:
        ValueError: --vision_in_model without visual features; as `load_trained`.
    """
    if model_args.trained_model is not None:
        return load_trained(model_args, posts)
    if model_args.baseline is not None:
        return build_baseline_model(model_args, posts)
    columns = next(iter(posts.values())).features
    labels = columns["pairs"].feature["relation"].names
    vector = columns.get("image_features")
    config_fields = {
        "id2label": dict(enumerate(labels)),
        "visual_feature_size": vector.length if vector is not None else 0,
        **model_args.config_fields(),
    }
    if data_args.no_visual:
        config_fields |= {"num_image_phrases": 0, "num_objects": 0}
    vision = None
    if model_args.vision_in_model and not data_args.no_visual:
        if vector is None:
            raise ValueError(
                "--vision_in_model saves the encoder that made the visual features, received posts without any. Build "
                "them with --features (a prepared data set: datasets_scripts.prepare.command --features), or leave it out."
            )
        weights, vision_fields = vision_of(posts)
        config_fields |= vision_fields
        vision = load_region_encoder(
            vision_fields["vision_encoder"], weights, config=vision_fields.get("vision_config")
        )
    text_encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
    config = VMHANConfig.from_preset(model_args.preset, text_config=text_encoder.config, **config_fields)
    processor = VMHANProcessor.for_config(
        config,
        tokenizer,
        max_length=model_args.max_length,
        max_image_text_length=model_args.max_image_text_length,
    )
    model = VMHANForRelationClassification.from_text_encoder(
        text_encoder, config, vocab_size=len(processor.tokenizer), vision=vision
    )
    return model, processor


def load_trained(
    model_args: ModelArguments, posts: datasets.DatasetDict
) -> tuple[VMHANForRelationClassification | BaselineForRelationClassification, VMHANProcessor]:
    """The model and processor of a finished run's folder, as they were saved: no flag of the model changes them.

    Raises:
        ValueError: it is another model than --model, or its labels are not the data's. OSError: there is no model.
    """
    folder, is_baseline = model_args.trained_model, model_args.baseline is not None
    name = PreTrainedConfig.get_config_dict(folder)[0].get("baseline", "vmhan")
    if name != (model_args.model if is_baseline else "vmhan"):
        raise ValueError(
            f"--trained_model {folder} holds {name!r}, received --model {model_args.model}: pass --model {name}."
        )
    model = load_baseline(folder) if is_baseline else VMHANForRelationClassification.from_pretrained(folder)
    labels = next(iter(posts.values())).features["pairs"].feature["relation"].names
    if labels != model.config.labels:
        raise ValueError(
            f"--trained_model {folder} was trained on the relations {model.config.labels}, received data with "
            f"{labels}: they must be the same, in the same order."
        )
    return model, VMHANProcessor.from_pretrained(folder)


def vision_of(posts: datasets.DatasetDict) -> tuple[str, dict[str, Any]]:
    """Weights of the encoder that made the posts' features, and the fields of VMHANConfig that rebuild it.

    Raises:
        ValueError: the data set does not say what made its features.
    """
    made = visual_feature_description(posts)
    if made is None:
        raise ValueError(
            "--vision_in_model needs features that say what made them, received a data set without that note. Build "
            "it with --features, or with datasets_scripts.prepare.command."
        )
    fields = {"vision_encoder": made["encoder"], "image_transform": made["transform"]}
    if made["encoder"] == "transformers":
        config = transformers.AutoConfig.from_pretrained(made["weights"])
        fields["vision_config"] = getattr(config, "vision_config", config)
    return made["weights"], fields
