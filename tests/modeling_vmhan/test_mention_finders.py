"""Mentions by a token classification model: whole words, types, long texts, and what cannot be used."""

import pytest
import torch
from transformers import AutoConfig, BertForTokenClassification, pipeline

from modeling_vmhan import MultimodalRelationClassificationPipeline
from modeling_vmhan.mention_finders import mention_type, of_whole_words, token_classification_finder
from modeling_vmhan.mentions import Mention


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
OF_TOKEN = {
    "ann": "B-PER",
    "bob": "B-PER",
    "paris": "B-LOC",
    "big": "B-PER",
    "stage": "I-PER",
    "z": "B-PER",
    "##o": "B-LOC",
}


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A model whose tag of a token is that of OF_TOKEN (of the token alone: its states are its embeddings)."""
    fields = {"vocab_size": len(tokenizer), "hidden_size": len(tokenizer), "num_attention_heads": 1}
    fields |= {"num_hidden_layers": 0, "intermediate_size": 8, "max_position_embeddings": 16}
    config = AutoConfig.for_model("bert", **fields, id2label=dict(enumerate(TAGS)))
    model = BertForTokenClassification(config)
    with torch.no_grad():
        for parameter in model.bert.embeddings.parameters():
            parameter.zero_()
        model.bert.embeddings.word_embeddings.weight.copy_(torch.eye(len(tokenizer)))
        model.bert.embeddings.LayerNorm.weight.fill_(1.0)
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0, 0, 0, 0, 0]))
        for token, tag in OF_TOKEN.items():
            sureness = 0.4 if token == "##o" else 0.5
            model.classifier.weight[TAGS.index(tag), tokenizer.convert_tokens_to_ids(token)] = sureness
    folder = tmp_path_factory.mktemp("ner")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def words(found, text):
    return [(text[mention.start : mention.end], mention.type) for mention in found]


@pytest.mark.parametrize(
    "text,found",
    [
        ("Ann met bob in Paris", [("Ann", "per"), ("bob", "per"), ("Paris", "loc")]),
        ("they met big stage .", [("big stage", "per")]),
        ("zo met xy", [("zo", "per")]),  # two pieces of one word: the surer one has the type
        ("Ann's band", [("Ann", "per")]),
        ("they played", []),
        (" ", []),
        ("", []),
    ],
)
def test_mentions_are_whole_words(folder, text, found):
    mentions = token_classification_finder(folder)(text)
    assert words(mentions, text) == found
    assert all(0.5 < mention.score <= 1 for mention in mentions)


def test_a_pipeline_is_a_finder_too(folder):
    assert token_classification_finder(pipeline("ner", model=folder))("Ann") == token_classification_finder(folder)(
        "Ann"
    )


def test_texts_longer_than_the_model_are_read_in_windows(folder, tokenizer):
    """Also where the tokenizer was saved without a length, as this one: the model has 16 positions."""
    pipe = pipeline("ner", model=folder)
    assert pipe.tokenizer.model_max_length > 10**9
    text = " ".join(["they"] * 20 + ["Ann", "met"] + ["they"] * 9 + ["Paris"] + ["met"] * 20)
    assert words(token_classification_finder(pipe)(text), text) == [("Ann", "per"), ("Paris", "loc")]


def test_a_tokenizer_without_places_is_refused(folder):
    pipe = pipeline("ner", model=folder)
    pipe.tokenizer = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ValueError, match=f"mentions.*{folder}.*Slow"):
        token_classification_finder(pipe)


def test_the_relation_pipeline_takes_its_name(folder, make_model, make_processor):
    labels = {"id2label": {0: "None", 1: "/per/per/peer", 2: "/per/loc/born"}, "visual_feature_size": 0}
    model = make_model(entity_representation="packed", order_blind=True, **labels)
    pipe = MultimodalRelationClassificationPipeline(model, make_processor(model.config), device="cpu")
    facts = pipe({"text": "Ann met Paris"}, mentions=folder, all_pairs=True)
    assert [(of["head_span"], of["tail_span"], of["head_type"], of["tail_type"]) for of in facts] == [
        ((0, 3), (8, 13), "per", "loc")
    ]


@pytest.mark.parametrize(
    "name,of",
    [("PER", "per"), ("PERSON", "per"), ("GPE", "loc"), ("Organization", "org"), ("NORP", "misc"), ("Drug", "drug")],
)
def test_types_have_the_names_of_relations(name, of):
    assert mention_type(name) == of
    assert mention_type(None) is None


@pytest.mark.parametrize(
    "given,found",
    [
        ([Mention(0, 2, "PER", 0.9)], [Mention(0, 3, "per", 0.9)]),
        (
            [Mention(4, 6, "LOC", 0.5), Mention(0, 3, "PER", 0.9)],
            [Mention(0, 3, "per", 0.9), Mention(4, 7, "loc", 0.5)],
        ),
        ([Mention(4, 5, "LOC", 0.5), Mention(6, 7, "ORG", 0.7)], [Mention(4, 7, "org", 0.5)]),
        ([Mention(0, 7, "ORG", 0.6), Mention(4, 7, "PER", 0.9)], [Mention(0, 7, "per", 0.6)]),
        ([Mention(3, 4, "PER", 0.9)], []),
    ],
)
def test_mentions_that_share_a_word_are_one(given, found):
    assert of_whole_words(given, "Ann met Bob") == found
