"""Tiny baselines, and the inputs that each of them reads."""

import pytest
import torch
from PIL import Image
from tiny import LABELS, VISUAL_SIZE

from modeling_vmhan import VMHANProcessor
from vmhan.baselines import BASELINES, BaselineConfig, WordConvolutionConfig, build_baseline
from vmhan.baselines.words import count_words, word_tokenizer


SIDE = 32  # pixels of hvpnet's crops


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
            fields |= {"visual_feature_size": 960 if name == "hvpnet" else VISUAL_SIZE, "num_objects": 3}
        config = BaselineConfig(
            baseline=name,
            entity_representation=baseline.entity_representation,
            text_config=fields.pop("text_config", make_text_config(initializer_range=fields["initializer_range"])),
            num_text_phrases=2 if name == "mega" else 0,
            id2label=dict(enumerate(LABELS)),
            **fields,
        )
        torch.manual_seed(0)
        return build_baseline(config, pyramid_weights="random:0" if name == "hvpnet" else None)

    return make


@pytest.fixture(scope="session")
def processor_of(tokenizer, posts):
    """`processor_of(model)`: with words for those that read words, and pixels of 32 x 32 for hvpnet."""

    def make(model):
        name, words = model.config.baseline, sorted(count_words(post["tokens"] for post in posts()))
        own = word_tokenizer(words) if BASELINES[name].reads_words else tokenizer
        fields = {"image_transform": {"size": SIDE}} if name == "hvpnet" else {}
        return VMHANProcessor.for_config(model.config, own, **fields)

    return make


@pytest.fixture(scope="session")
def inputs_of(processor_of):
    """`inputs_of(model, posts)`: all that the model reads, for hvpnet pixels in the place of features, and labels."""

    def encode(model, posts):
        posts = with_pixels(posts) if model.config.baseline == "hvpnet" else posts
        return dict(processor_of(model)(posts, label2id=model.config.label2id))

    return encode


def with_pixels(posts):
    """The same posts with seeded pictures and boxes in the place of features."""
    for post in posts:
        if post.pop("image_features", None) is not None:
            generator = torch.Generator().manual_seed(len(post["tokens"]))
            post["image"] = Image.fromarray(torch.randint(256, (40, 48, 3), generator=generator).byte().numpy())
            count = len(post.pop("object_features"))
            post["boxes"] = [(4 * i, 3 * i, 4 * i + 12, 3 * i + 16) for i in range(count)]
    return posts
