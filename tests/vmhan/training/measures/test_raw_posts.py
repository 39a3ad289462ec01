"""Posts of a data set as raw questions, and the tables of precision that a run leaves in its config."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel as Label
from datasets import Dataset, Features, List, Value

from modeling_vmhan import MultimodalRelationClassificationPipeline
from modeling_vmhan.decision import DecisionRule
from vmhan.scoring import precision
from vmhan.scoring.precision import pairs_table, precision_table
from vmhan.training.measures import raw_posts
from vmhan.training.measures.raw_posts import named_pairs, precision_tables, raw_question


LABELS = ["None", "home", "home (inverse)", "peer"]
POST = {"id": "a", "tokens": ["a"], "text": None, "pairs": [], "image": "x.jpg", "boxes": [], "length": 3}


@pytest.mark.parametrize(
    "encoder,features,kept",
    [
        (None, None, set()),
        (None, [1.0], {"image_features"}),
        ("vgg16", None, {"image"}),
        ("vgg16", [1.0], {"image_features"}),
    ],
)
def test_a_raw_post_has_what_the_model_reads_of_the_picture(encoder, features, kept):
    question = raw_question({**POST, "image_features": features}, SimpleNamespace(vision_encoder=encoder))
    assert set(question) == {"id", "tokens", "boxes", *kept}


@pytest.fixture
def posts():
    span = List(Value("int64"))
    pair = {"head": span, "tail": span, "relation": Label(names=LABELS)}
    texts = ["ann met bob in paris", "they played in paris at night", "bob and the band in paris"]
    pairs = [[(0, 2, "peer"), (0, 4, "home")], [(0, 3, "None")], [(0, 3, "peer"), (3, 5, "home (inverse)")]]
    named = [[{"head": [h, h + 1], "tail": [t, t + 1], "relation": name} for h, t, name in of] for of in pairs]
    rows = [{"id": text, "tokens": text.split(), "pairs": of} for text, of in zip(texts, named, strict=True)]
    return Dataset.from_list(rows, features=Features(id=Value("string"), tokens=List(Value("string")), pairs=[pair]))


@pytest.fixture
def finding(make_model, make_processor):
    """A model that finds mentions, and its processor."""
    fields = {"order_blind": True, "mentions": True, "mention_types": [], "visual_feature_size": 0}
    model = make_model(entity_representation="packed", id2label=dict(enumerate(LABELS)), **fields)
    return model, make_processor(model.config)


@pytest.fixture
def validation(posts):
    """What a Trainer predicts of the posts, by chance."""
    ids = np.full((3, 2), -100)
    for i, pairs in enumerate(posts["pairs"]):
        ids[i, : len(pairs)] = [pair["relation"] for pair in pairs]
    logits = np.random.default_rng(0).normal(size=(3, 2, len(LABELS)))
    return SimpleNamespace(predictions=logits, label_ids=ids)


@pytest.fixture
def of_few(monkeypatch):
    monkeypatch.setattr(precision, "LEAST_ANSWERS", 1)
    monkeypatch.setattr(precision, "LEAST_POSITIVES", 1)


def test_tables_are_of_given_pairs_and_of_what_is_found_in_raw_posts(finding, posts, validation, of_few):
    model, processor = finding
    tables = precision_tables(model, processor, validation, posts)
    kept = validation.label_ids != -100
    of_pairs = (validation.predictions[kept], validation.label_ids[kept], DecisionRule.of(model.config))
    assert tables["pairs"] == pairs_table(*of_pairs)
    pipe = MultimodalRelationClassificationPipeline(model, processor, device="cpu")
    facts = [(post["id"], fact) for post in posts for fact in pipe({"tokens": post["tokens"]})]
    assert facts  # which a model with random weights finds
    gold = {
        (post["id"], *sorted([tuple(pair["head"]), tuple(pair["tail"])]), pair["relation"])
        for post, pairs in zip(posts, named_pairs(posts), strict=True)
        for pair in pairs
        if pair["relation"] == "peer"
    }
    gold |= {(posts[0]["id"], (0, 1), (4, 5), "home"), (posts[2]["id"], (5, 6), (3, 4), "home")}
    correct = []
    for post, fact in facts:
        spans = [tuple(fact["head_span"]), tuple(fact["tail_span"])]
        spans = sorted(spans) if fact["relation"] == "peer" else spans
        correct.append((post, *spans, fact["relation"]) in gold)
    expected = precision_table([fact["score"] for _, fact in facts], correct, 4)
    assert tables["posts"] == [pytest.approx(row, abs=1e-5) for row in expected]
    model.config.precision_table = {"posts": [[0.0, 0.1, 0.5], [facts[0][1]["score"] - 1e-4, 0.9, 0.1]]}
    asked = pipe({"tokens": posts[0]["tokens"]}, min_precision=0.5)
    assert [fact["score"] for fact in asked] == [fact["score"] for _, fact in facts[:1]]


def test_there_are_none_of_too_few_pairs(finding, posts, validation):
    assert precision_tables(*finding, validation, posts) is None


def test_a_post_that_cannot_be_answered_costs_the_table_of_raw_posts_alone(
    finding, posts, validation, of_few, caplog, monkeypatch
):
    def fail(pipe, posts):
        raise ValueError("post 'x': the picture cannot be read")

    monkeypatch.setattr(raw_posts, "posts_table", fail)
    assert set(precision_tables(*finding, validation, posts)) == {"pairs"}
    assert "post 'x'" in caplog.text


def test_sharded_weights_and_models_without_mentions_have_the_table_of_pairs(finding, validation, of_few):
    assert set(precision_tables(*finding, validation, None)) == {"pairs"}
