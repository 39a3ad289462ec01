"""Losses that read a pair's relation: by hand, in each mode, in training, saved and exported."""

import math

import pytest
import torch
from tiny import ALL_MODES, LABELS, close, without_labels

from modeling_vmhan import VMHANForRelationClassification
from modeling_vmhan.losses import relation_loss, type_loss, type_table
from modeling_vmhan.mentions import IGNORED


NAMES = {"peer": "/per/per/peer", "member_of": "/org/per/member_of (inverse)", "located_in": "/misc/loc/located_in"}
TYPED = {"id2label": {i: NAMES.get(label, label) for i, label in enumerate(LABELS)}, "type_loss_weight": 0.5}


@pytest.fixture(scope="module")
def typed_posts(posts):
    """The posts, with relations that have types."""

    def make():
        made = posts()
        for pair in (pair for post in made for pair in post["pairs"]):
            pair["relation"] = NAMES.get(pair["relation"], pair["relation"])
        return made

    return make


@pytest.mark.parametrize("none_smoothing", [0.0, 0.2])
def test_the_none_label_s_target_alone_is_smoothed(none_smoothing):
    """The cross-entropy of each pair to its target, by hand."""
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 1, 3, 1])
    targets = torch.eye(4)[labels]
    targets[labels == 1] = (1 - none_smoothing) * targets[labels == 1] + none_smoothing / 4
    expected = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    close(relation_loss(logits, labels, none_id=1, none_smoothing=none_smoothing), expected)


@pytest.mark.parametrize("label", ["peer", "None"])
def test_none_smoothing_changes_the_loss_of_none_and_no_logit(label, make_model, encode, posts):
    made = posts()
    for pair in (pair for post in made for pair in post["pairs"]):
        pair["relation"] = label
    plain, smoothed = make_model(), make_model(none_smoothing=0.2)
    with torch.no_grad():
        one, other = (model(**encode(model, made)) for model in (plain, smoothed))
    close(one.logits, other.logits)
    changed = (other.relation_loss - one.relation_loss).abs().item()
    assert changed > 1e-2 if label == "None" else changed < 1e-6


def test_the_types_of_labels():
    """Of an inverse label in the order of its mentions; of a type that is not asked for, none."""
    labels = ["None", "/per/loc/born", "/per/loc/born (inverse)", "peer", "/per/org/works_for"]
    expected = [[IGNORED, IGNORED], [1, 0], [0, 1], [IGNORED, IGNORED], [1, IGNORED]]
    assert type_table(labels, ["loc", "per"]) == expected


def test_the_type_loss_by_hand():
    """A pair of /per/loc, one of None, whose logits do not matter, one of which the head's type alone is known."""
    table = [[IGNORED, IGNORED], [1, 0], [0, IGNORED]]
    logits = torch.tensor([[[0.0, 2.0], [3.0, 0.0]], [[9.0, -9.0], [9.0, -9.0]], [[1.0, 0.0], [-9.0, 9.0]]])
    expected = sum(math.log(1 + math.exp(-margin)) for margin in (2.0, 3.0, 1.0)) / 3
    close(type_loss(logits, torch.tensor([1, 0, 2]), table), torch.tensor(expected))
    assert type_loss(logits, torch.tensor([0, 0, 0]), table) == 0


@ALL_MODES
@pytest.mark.parametrize(("preset", "scope"), [("full", "pair"), ("full", "post"), ("text_only", "pair")])
def test_the_types_are_a_weighted_term_of_the_loss_of_what_the_classifier_reads(
    preset, scope, mode, make_model, encode, typed_posts
):
    model = make_model(preset, entity_representation=mode, hypergraph_scope=scope, **TYPED)
    inputs = encode(model, typed_posts())
    with torch.no_grad():
        output = model(**inputs, output_gaussians=True)
        logits = model.type_head(output.read_mean[:, :2])
        close(
            output.type_loss,
            type_loss(logits, inputs["labels"], type_table(model.config.labels, ["loc", "misc", "org", "per"])),
        )
        model.config.type_loss_weight = 0.0
        plain = model(**inputs)
    assert output.type_loss > 0.1
    close(output.loss, plain.loss + 0.5 * output.type_loss)
    close(output.logits, plain.logits)


@ALL_MODES
def test_the_types_reach_the_text_encoder(mode, make_model, encode, typed_posts):
    """Also without the other terms."""
    others = dict.fromkeys(("relation_loss_weight", "reconstruction_loss_weight", "kl_loss_weight"), 0.0)
    model = make_model(entity_representation=mode, **TYPED, **others).train()
    model(**encode(model, typed_posts())).loss.backward()
    assert model.vmhan.text_encoder.get_input_embeddings().weight.grad.abs().max() > 1e-4
    assert model.type_head.weight.grad.abs().max() > 1e-4


def test_without_a_weight_there_is_no_head(make_model):
    assert not [name for name in make_model(**{**TYPED, "type_loss_weight": 0.0}).state_dict() if "type_head" in name]


def test_the_head_is_saved_with_the_model(make_model, encode, typed_posts, tmp_path):
    model = make_model(**TYPED)
    model.save_pretrained(tmp_path)
    loaded = VMHANForRelationClassification.from_pretrained(tmp_path)
    inputs = encode(model, typed_posts())
    with torch.no_grad():
        saved, again = model(**inputs), loaded(**inputs)
    assert again.type_loss == saved.type_loss and again.loss == saved.loss
    assert model(**without_labels(inputs)).type_loss is None
