"""The rival and the processor that a run trains, `--model NAME`."""

import logging
from typing import Any

import datasets
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from modeling_vmhan import VMHANProcessor
from rivals import RivalConfig, RivalForRelationClassification, WordConvolutionConfig, build_rival
from rivals.words import count_words, read_word_vectors, word_tokenizer
from training.arguments import ModelArguments
from training.text_encoders import load_text_encoder


__all__ = ["build_rival_model", "rival_fields", "word_inputs"]

logger = logging.getLogger(__name__)

# Fields of RivalConfig that flags set, and the input without which a rival has no use for them.
NODE_FIELDS = {"num_objects": "objects", "num_text_phrases": "text_phrases", "num_image_phrases": "image_phrases"}
DEFAULT_NODES = 3  # as VMHANConfig's


def build_rival_model(
    model_args: ModelArguments, posts: datasets.DatasetDict
) -> tuple[RivalForRelationClassification, VMHANProcessor]:
    """The rival, with the data's labels and visual feature size, and its processor.

    It is built around the pretrained text encoder or, where it reads words, over those of the data.
    """
    fields, text_encoder, vectors = rival_fields(model_args, posts), None, {}
    if model_args.rival.reads_words:
        tokenizer, vectors = word_inputs(posts, model_args.word_vectors)
        shape = {"word_embedding_size": len(next(iter(vectors.values())))} if vectors else {}
        text_config = WordConvolutionConfig(vocab_size=len(tokenizer), **shape)
    else:
        text_encoder, tokenizer = load_text_encoder(model_args.text_encoder, model_args.text_encoder_layers)
        text_config = text_encoder.config
    config = RivalConfig(text_config=text_config, **fields)
    lengths = {"max_length": model_args.max_length, "max_image_text_length": model_args.max_image_text_length}
    processor = VMHANProcessor.for_config(config, tokenizer, **lengths)
    model = build_rival(
        config, text_encoder=text_encoder, vocab_size=len(processor.tokenizer), word_vectors=vectors or None
    )
    return model, processor


def word_inputs(
    posts: datasets.DatasetDict, vector_file: str | None
) -> tuple[PreTrainedTokenizerFast, dict[int, Tensor]]:
    """A tokenizer of the training split's words, and pretrained vectors by token id.

    A word that occurs once is unknown, so that the vector of unknown words is learned, unless it has a pretrained
    vector. Of those every word of the data is kept, in whatever split: the file would tell the same of any text.
    """
    counts = count_words(posts["train" if "train" in posts else next(iter(posts))]["tokens"])
    words, vectors = {word for word, count in counts.items() if count > 1}, {}
    if vector_file is not None:
        vectors = read_word_vectors(vector_file, count_words(t for split in posts.values() for t in split["tokens"]))
        logger.info("%d of the data's words have a vector in %s", len(vectors), vector_file)
    tokenizer = word_tokenizer(sorted(words | set(vectors)))
    return tokenizer, {tokenizer.convert_tokens_to_ids(word): vector for word, vector in vectors.items()}


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
