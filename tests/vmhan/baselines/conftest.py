"""Tiny baselines, and the inputs that each of them reads."""

import pytest
import torch
from baseline_posts import DEPTH_SIZE, picture_of, with_details, with_pixels
from tiny import LABELS, VISUAL_SIZE

from vmhan.baselines import BASELINES, BaselineConfig, WordConvolutionConfig, build_baseline
from vmhan.baselines.words import count_words, word_tokenizer


SIDE = 32  # pixels of the crops of those that read pixels


def reads_pixels(name):
    return "pixels" in BASELINES[name].inputs


@pytest.fixture(scope="session")
def make_baseline(make_text_config, posts):
    """`make_baseline(name)`: tiny, seeded, in evaluation mode; its weights are large (0.2) as `make_model`'s."""

    def make(name, **fields):
        baseline = BASELINES[name]
        fields = {"classifier_dropout": 0.0, "initializer_range": 0.2, "pyramid": "resnet18", **fields}
        if baseline.reads_words:
            words = sorted(count_words(post["tokens"] for post in posts()))
            shape = WordConvolutionConfig(vocab_size=len(word_tokenizer(words)), word_embedding_size=8)
            fields.setdefault("text_config", shape)
        if {"image", "objects"} & set(baseline.inputs):
            fields |= {"visual_feature_size": 960 if reads_pixels(name) else VISUAL_SIZE, "num_objects": 3}
        if name == "moreformer":
            fields = {"depth_size": DEPTH_SIZE, **fields}
        config = BaselineConfig(
            baseline=name,
            entity_representation=baseline.entity_representation,
            text_config=fields.pop("text_config", make_text_config(initializer_range=fields["initializer_range"])),
            num_text_phrases=2 if "text_phrases" in baseline.inputs else 0,
            id2label=dict(enumerate(LABELS)),
            **fields,
        )
        torch.manual_seed(0)
        return build_baseline(config, pyramid_weights="random:0" if reads_pixels(name) else None)

    return make


@pytest.fixture(scope="session")
def processor_of(tokenizer, posts):
    """`processor_of(model)`: with words for those that read words, and pixels of 32 x 32 for those that read them."""

    def make(model):
        name, words = model.config.baseline, sorted(count_words(post["tokens"] for post in posts()))
        own = word_tokenizer(words) if BASELINES[name].reads_words else tokenizer
        fields = {"image_transform": {"size": SIDE}} if reads_pixels(name) else {}
        return BASELINES[name].processor.for_config(model.config, own, **fields)

    return make


@pytest.fixture(scope="session")
def inputs_of(processor_of):
    """`inputs_of(model, posts)`: all that the model reads, pixels in the place of features for some, and labels."""

    def encode(model, posts):
        name = model.config.baseline
        if name == "tmr":
            posts = [{**post, "generated_image": picture_of(post, seed=1)} for post in posts]
        posts = with_pixels(posts) if reads_pixels(name) else with_details(posts) if name == "moreformer" else posts
        return dict(processor_of(model)(posts, label2id=model.config.label2id))

    return encode
