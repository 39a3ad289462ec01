"""The packed encoding, proved on the encoder's states, and the families of text encoders."""

import pytest
import torch
from tiny import ALL_MODES, close
from torch import nn

from modeling_vmhan import VMHANModel


@pytest.fixture(params=["bert", "roberta", "xlm-roberta"])
def packed(request, make_model, make_text_config, make_processor, tokenizer, roberta_tokenizer):
    """(model, processor) of a packed model over each family that can take it."""
    chosen = tokenizer if request.param == "bert" else roberta_tokenizer
    model = make_model(entity_representation="packed", text_config=make_text_config(request.param))
    return model, make_processor(model.config, tokenizer=chosen)


def encoder_inputs(inputs):
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")
    return {name: inputs[name] for name in names if name in inputs}


def test_markers_see_the_sentence_and_their_own_pair_only(packed, posts):
    """States of a row with three pairs: equal to three rows with one pair each."""
    model, processor = packed
    post = posts()[0]
    together = processor(post)
    with torch.no_grad():
        states = model.vmhan.encode_text(**encoder_inputs(together))[0]
        for index, pair in enumerate(post["pairs"]):
            alone = processor({**post, "pairs": [pair]})
            expected = model.vmhan.encode_text(**encoder_inputs(alone))[0]
            close(states[together["marker_pair"][0] == index + 1], expected[alone["marker_pair"][0] == 1])


def test_packed_states_equal_those_of_a_mask_written_by_hand(packed, posts):
    model, processor = packed
    inputs = processor(posts())
    rows, length = inputs["input_ids"].shape
    visible = torch.zeros(rows, 1, length, length, dtype=torch.bool)
    for row in range(rows):
        for query in range(length):
            for key in range(length):
                real = bool(inputs["attention_mask"][row, key])
                pair_of_key = int(inputs["marker_pair"][row, key])
                own = pair_of_key == int(inputs["marker_pair"][row, query])
                visible[row, 0, query, key] = real and (pair_of_key == 0 or own)
    encoder = model.vmhan.text_encoder
    padding = encoder.config.pad_token_id
    first_position = {"bert": 0}.get(encoder.config.model_type, padding + 1)
    by_hand = {
        "input_ids": inputs["input_ids"],
        "attention_mask": torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min),
        "position_ids": inputs["position_ids"] + first_position,
    }
    if "token_type_ids" in inputs:
        by_hand["token_type_ids"] = inputs["token_type_ids"]
    with torch.no_grad():
        states = model.vmhan.encode_text(**encoder_inputs(inputs))
        expected = encoder(**by_hand).last_hidden_state
    real = inputs["attention_mask"].bool()
    close(states[real], expected[real])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2"])
def test_padding_is_hidden_as_transformers_hides_it(
    model_type, attention, make_model, make_text_config, make_processor, tokenizer, roberta_tokenizer, posts
):
    """Whether the encoder is given the 4-D mask or, as DeBERTa, the 2-D one."""
    model = make_model(entity_representation="span", text_config=make_text_config(model_type))
    encoder = model.vmhan.text_encoder
    if model_type != "deberta-v2":
        encoder.set_attn_implementation(attention)
    inputs = make_processor(model.config, tokenizer if model_type == "bert" else roberta_tokenizer)(posts())
    inputs = encoder_inputs(inputs)
    with torch.no_grad():
        states, expected = model.vmhan.encode_text(**inputs), encoder(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    assert not real.all()
    close(states[real], expected[real])


@ALL_MODES
def test_a_text_node_is_the_mean_state_of_its_tokens(mode, make_model, encode, posts):
    model = make_model(entity_representation=mode)
    inputs = encode(model, posts())
    inputs.pop("labels")
    base = model.vmhan
    nodes = base(**inputs).initial_node_mean
    states = base.encode_text(**encoder_inputs(inputs))
    for pair, row in enumerate(inputs["pair_to_sequence"]):
        for first_node, name in ((0, "entity_tokens"), (2, "text_phrase_tokens"), (8, "image_phrase_tokens")):
            for index, positions in enumerate(inputs[name][pair]):
                positions = positions[positions >= 0]
                if len(positions):
                    expected = base.gaussian_nodes(states[row, positions].mean(dim=0))[0]
                    close(nodes[pair, first_node + index], expected)


@pytest.mark.parametrize("mode", ["marker", "span"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_any_text_encoder_works(
    model_type, mode, make_model, make_text_config, make_processor, tokenizer, roberta_tokenizer, posts
):
    without_token_types = model_type in ("roberta", "modernbert")
    model = make_model(entity_representation=mode, text_config=make_text_config(model_type)).train()
    processor = make_processor(model.config, tokenizer=roberta_tokenizer if without_token_types else tokenizer)
    inputs = processor(posts(), label2id=model.config.label2id)
    output = model(**inputs)
    output.loss.backward()
    assert output.loss.isfinite()
    embeddings = model.get_input_embeddings().weight
    assert embeddings.shape == (400, 32) and embeddings.grad.any()
    model.eval()
    with torch.no_grad():
        close(model(**inputs).logits[-1:], model(**processor(posts()[3])).logits)


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_packed_is_refused_where_it_cannot_work(model_type, make_config, make_text_config):
    config = make_config(entity_representation="packed", text_config=make_text_config(model_type))
    with pytest.raises(ValueError, match=f"received '{model_type}'. Use 'marker' or 'span'"):
        VMHANModel(config)


def test_a_hidden_size_of_its_own_is_projected(make_model, encode, posts):
    model = make_model(hidden_size=16).train()
    output = model(**encode(model, posts()), output_gaussians=True)
    assert output.node_mean.shape[-1] == 16
    assert model.vmhan.text_projection.weight.shape == (16, 32)
    output.loss.backward()
    assert model.vmhan.text_projection.weight.grad.any()
    assert isinstance(make_model().vmhan.text_projection, nn.Identity)


def test_the_sentence_sees_no_marker(packed, posts):
    """Sentence states are those of the plain encoder, which never saw a marker."""
    model, processor = packed
    inputs = processor(posts())
    with torch.no_grad():
        states = model.vmhan.encode_text(**encoder_inputs(inputs))
        for row in range(len(states)):
            length = int(((inputs["marker_pair"][row] == 0) & inputs["attention_mask"][row].bool()).sum())
            plain = {
                name: inputs[name][row : row + 1, :length]
                for name in ("input_ids", "attention_mask", "token_type_ids")
                if name in inputs
            }
            close(states[row : row + 1, :length], model.vmhan.text_encoder(**plain).last_hidden_state)
