"""Tiny baselines, and the inputs that each of them reads."""

import pytest
import torch
from PIL import Image
from tiny import LABELS, VISUAL_SIZE, WORDS

from vmhan.baselines import BASELINES, BaselineConfig, WordConvolutionConfig, build_baseline
from vmhan.baselines.words import count_words, word_tokenizer


SIDE = 32  # pixels of the crops of those that read pixels
DEPTH_SIZE = 6


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
            fields = {"depth_size": DEPTH_SIZE, "num_image_phrases": 1, **fields}
        config = BaselineConfig(
            baseline=name,
            entity_representation=baseline.entity_representation,
            text_config=fields.pop("text_config", make_text_config(initializer_range=fields["initializer_range"])),
            num_text_phrases=2 if name == "mega" else 0,
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
        posts = with_pixels(posts) if reads_pixels(name) else with_details(posts) if name == "moreformer" else posts
        return dict(processor_of(model)(posts, label2id=model.config.label2id))

    return encode


def with_pictures(posts):
    """The same posts with seeded pictures, and boxes for their objects."""
    for post in posts:
        if "image_features" in post:
            generator = torch.Generator().manual_seed(len(post["tokens"]))
            post["image"] = Image.fromarray(torch.randint(256, (40, 48, 3), generator=generator).byte().numpy())
            post["boxes"] = [(4 * i, 3 * i, 4 * i + 12, 3 * i + 16) for i in range(len(post["object_features"]))]
    return posts


def with_pixels(posts):
    """The same posts with pictures and boxes in the place of features."""
    dropped = ("image_features", "object_features")
    return [{key: value for key, value in post.items() if key not in dropped} for post in with_pictures(posts)]


def with_details(posts):
    """The same posts with what moreformer reads of objects beside their features."""
    for post in with_pictures(posts):
        count = len(post.get("boxes", []))
        post["object_labels"] = [f"the {WORDS[3 * i]}" for i in range(count)]
        generator = torch.Generator().manual_seed(count)
        post["object_depths"] = torch.rand(count, DEPTH_SIZE, generator=generator).tolist()
    return posts
