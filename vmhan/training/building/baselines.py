"""The baseline and the processor that a run trains, `--model NAME`."""

import logging
from typing import Any

import datasets
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from datasets_scripts.leaks import ORDER_BLIND, protocol_of
from datasets_scripts.schema import has_text
from modeling_vmhan import VMHANProcessor
from vmhan.baselines import BaselineConfig, BaselineForRelationClassification, WordConvolutionConfig, build_baseline
from vmhan.baselines.pyramid import FEATURE_SIZES, pyramid_transform
from vmhan.baselines.words import count_words, read_word_vectors, word_tokenizer
from vmhan.training.arguments import ModelArguments
from vmhan.training.posts.node_numbers import node_numbers
from vmhan.training.text_encoders import load_text_encoder


__all__ = ["baseline_fields", "build_baseline_model", "sentence_kind", "word_inputs"]

logger = logging.getLogger(__name__)

# Of those that read pixels, unless --model_kwargs says otherwise.
PYRAMID, PYRAMID_SIZE_PX = "resnet50:imagenet", 224
# Fields of BaselineConfig that flags set, and the input without which a baseline has no use for them.
NODE_FIELDS = {"num_objects": "objects", "num_text_phrases": "text_phrases", "num_image_phrases": "image_phrases"}
DEFAULT_NODES = 3  # as VMHANConfig's


def build_baseline_model(
    model_args: ModelArguments, posts: datasets.DatasetDict
) -> tuple[BaselineForRelationClassification, VMHANProcessor]:
    """The baseline around the pretrained text encoder, or over the data's words where it reads those."""
    fields, text_encoder, vectors = baseline_fields(model_args, posts), None, {}
    if model_args.baseline.reads_words:
        tokenizer, vectors = word_inputs(posts, model_args.model_kwargs.get("word_vectors"))
        shape = {"word_embedding_size": len(next(iter(vectors.values())))} if vectors else {}
        text_config = WordConvolutionConfig(vocab_size=len(tokenizer), **shape)
    else:
        text_encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
        text_config = text_encoder.config
    config = BaselineConfig(text_config=text_config, **fields)
    options: dict[str, Any] = {name: getattr(model_args, name) for name in ("max_length", "max_image_text_length")}
    pyramid_weights = None
    if model_args.reads == "pixels":
        pyramid_weights = model_args.model_kwargs.get("pyramid", PYRAMID).partition(":")[2]
        size_px = model_args.model_kwargs.get("pyramid_size_px", PYRAMID_SIZE_PX)
        options["image_transform"] = pyramid_transform(size_px).to_dict()
    options["trained_on"] = "tokens" if model_args.baseline.reads_words else sentence_kind(posts)
    processor = model_args.baseline.processor.for_config(config, tokenizer, **options)
    model = build_baseline(
        config,
        text_encoder=text_encoder,
        vocab_size=len(processor.tokenizer),
        word_vectors=vectors or None,
        pyramid_weights=pyramid_weights,
    )
    return model, processor


def sentence_kind(posts: datasets.DatasetDict) -> str:
    """What the processor tokenizes of the posts that are learned from: their "text", or "tokens" joined by blanks."""
    return "text" if has_text(posts["train" if "train" in posts else next(iter(posts))]) else "tokens"


def word_inputs(
    posts: datasets.DatasetDict, vector_file: str | None
) -> tuple[PreTrainedTokenizerFast, dict[int, Tensor]]:
    """A tokenizer of the training split's words, and pretrained vectors by token id, of every word of all splits that
    has one: the file would tell the same of any text. Another word that occurs once is unknown, so that the vector of
    unknown words is learned.
    """
    counts = count_words(posts["train" if "train" in posts else next(iter(posts))]["tokens"])
    words, vectors = {word for word, count in counts.items() if count > 1}, {}
    if vector_file is not None:
        vectors = read_word_vectors(vector_file, count_words(t for split in posts.values() for t in split["tokens"]))
        logger.info("%d of the data's words have a vector in %s", len(vectors), vector_file)
    tokenizer = word_tokenizer(sorted(words | set(vectors)))
    return tokenizer, {tokenizer.convert_tokens_to_ids(word): vector for word, vector in vectors.items()}


def baseline_fields(model_args: ModelArguments, posts: datasets.DatasetDict) -> dict[str, Any]:
    """Fields of BaselineConfig but `text_config`: of the flags those that it reads; the others are logged. ValueError
    as `node_numbers`.
    """
    baseline, flags = model_args.baseline, model_args.config_fields()
    columns = next(iter(posts.values())).features
    fields = {
        "baseline": model_args.model,
        "id2label": dict(enumerate(columns["pairs"].feature["relation"].names)),
        "entity_representation": baseline.entity_representation,
        "order_blind": protocol_of(posts) == ORDER_BLIND,
    }
    if {"image", "objects"} & set(baseline.inputs) and "image_features" in columns:
        fields["visual_feature_size"] = columns["image_features"].length
    if "depth" in baseline.inputs and "object_depths" in columns:
        fields["depth_size"] = columns["object_depths"].feature.length
    if model_args.reads == "pixels":
        fields["pyramid"] = model_args.model_kwargs.get("pyramid", PYRAMID).partition(":")[0]
        if "image" in columns:
            fields["visual_feature_size"] = FEATURE_SIZES.get(fields["pyramid"], 1)  # the model names a wrong network
    read = [name for name, needed in NODE_FIELDS.items() if needed in baseline.inputs]
    sees_regions = fields.get("visual_feature_size", 0) > 0
    fields |= dict.fromkeys(read, DEFAULT_NODES) | node_numbers(flags, posts, read, sees_regions=sees_regions)
    if "classifier_dropout" in flags:
        fields["classifier_dropout"] = flags["classifier_dropout"]
    ignored = sorted(set(flags) - set(fields))
    if flags.get("entity_representation", baseline.entity_representation) != baseline.entity_representation:
        ignored.append("entity_representation")
    if ignored:
        logger.info("%s takes no %s: not used", model_args.model, ", ".join(ignored))
    return fields
