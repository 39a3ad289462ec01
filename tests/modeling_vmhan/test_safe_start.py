"""A safe start: VM-HAN answers as the text-only model at step 0, with or without a picture, and can leave it."""

import pytest
import torch
from tiny import ALL_MODES, close, without_labels

from modeling_vmhan import VMHANForRelationClassification


def text_side_of(model, preset, make_model):
    """The baseline `preset` with the same text encoder, text projection and classifier of the means."""
    config, base = model.config, model.vmhan
    fields = {"text_config": config.text_config, "hidden_size": config.hidden_size}
    fields |= {"entity_representation": config.entity_representation, "order_blind": config.order_blind}
    other = make_model(preset, seed=1, safe_start=True, **fields)
    other.vmhan.text_encoder.load_state_dict(base.text_encoder.state_dict())
    other.vmhan.text_projection.load_state_dict(base.text_projection.state_dict())
    kinds = 2 if config.variational else 1
    columns = model.classifier.weight.detach().unflatten(1, (-1, kinds, config.hidden_size))  # (R, n, kinds, D)
    with torch.no_grad():
        other.classifier.weight.copy_(columns[:, :2, 0].flatten(1))
        other.classifier.bias.copy_(model.classifier.bias.normal_())
    return other


@ALL_MODES
@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("full", {"num_image_phrases": 0}),
        ("full", {"num_layers": 3, "image_text_visibility": "isolated"}),
        ("full", {"hidden_size": 16, "image_text_visibility": "isolated"}),
        ("full", {"num_image_phrases": 0, "hypergraph_scope": "post"}),
        ("no_variational", {"num_image_phrases": 0}),
        ("no_hypergraph", {"num_image_phrases": 0}),
        ("no_vhan", {"num_image_phrases": 0}),
    ],
)
def test_the_first_logits_are_the_text_only_model_s(preset, fields, mode, make_model, make_processor, posts):
    """Posts with image and without."""
    model = make_model(preset, entity_representation=mode, safe_start=True, **fields)
    check_equal(model, text_side_of(model, "text_only", make_model), make_processor, posts)


@ALL_MODES
@pytest.mark.parametrize(
    ("preset", "scope"), [("full", "pair"), ("full", "post"), ("no_variational", "post"), ("no_vhan", "pair")]
)
def test_with_image_text_that_the_sentence_sees_they_are_the_appended_caption_s(
    preset, scope, mode, make_model, make_processor, posts
):
    model = make_model(preset, entity_representation=mode, safe_start=True, hypergraph_scope=scope)
    check_equal(model, text_side_of(model, "caption_appended", make_model), make_processor, posts)


def check_equal(model, other, make_processor, posts):
    with torch.no_grad():
        logits = model(**make_processor(model.config)(posts())).logits
        expected = other(**make_processor(other.config)(posts())).logits
    close(logits, expected)
    assert logits.std() > 0.1


@ALL_MODES
def test_they_are_linear_in_the_states_of_the_encoder(mode, make_model, encode, posts):
    model = make_model(entity_representation=mode, safe_start=True)
    inputs = without_labels(encode(model, posts()))
    with torch.no_grad():
        logits = model(**inputs).logits
        states = model.vmhan.encode_text(
            **{name: inputs.get(name) for name in ("input_ids", "attention_mask", "token_type_ids", "position_ids")},
            marker_pair=inputs.get("marker_pair"),
        )
        columns = model.classifier.weight.unflatten(1, (2, 2, -1))[:, :, 0]  # of the means of head and tail
        for i, tokens in enumerate(inputs["entity_tokens"]):
            row = states[inputs["pair_to_sequence"][i]]
            entities = torch.stack([row[of[of >= 0]].mean(dim=0) for of in tokens])  # (2, D)
            close(logits[i], torch.einsum("rnd,nd->r", columns, entities) + model.classifier.bias)


@pytest.mark.parametrize("scope", ["pair", "post"])
def test_every_parameter_can_leave_the_start(scope, make_model, encode, posts):
    """No weight stays where it began for want of a gradient, as ReLU would keep zeros."""
    model = make_model(safe_start=True, classifier_dropout=0.0, hypergraph_scope=scope).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(**encode(model, posts())).loss.backward()
        optimizer.step()
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n]) and not n.endswith("key.bias")]
    assert still == []


def test_a_trained_model_is_loaded_as_it_was(make_model, encode, posts, tmp_path):
    """A safe start is of new models only."""
    model = make_model(safe_start=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    loaded = VMHANForRelationClassification.from_pretrained(tmp_path)
    assert loaded.config.safe_start is True
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_it_is_a_start_around_a_pretrained_encoder_too(make_model, make_config):
    encoder = make_model().vmhan.text_encoder
    model = VMHANForRelationClassification.from_text_encoder(encoder, make_config(safe_start=True))
    assert torch.equal(model.vmhan.gaussian_nodes.mean_projection.weight, torch.eye(32))
    assert not model.vmhan.gaussian_nodes.variance_projection.weight.any()
    assert not any(layer.node_mean_value.weight.any() for layer in model.vmhan.layers)
