"""Isolated image text: in the text encoder neither it nor the sentence sees the other."""

import pytest
import torch
from tiny import ALL_MODES, close, without_labels

from modeling_vmhan import VMHANModel


POST = {
    "text": "ann met bob in paris",
    "pairs": [{"head": (0, 3), "tail": (8, 11)}, {"head": (8, 11), "tail": (15, 20)}],
    "image_phrases": ["red car", "big stage"],
}
OTHER_PHRASES = {**POST, "image_phrases": ["blue sky", "big stage at night"]}
OTHER_WORDS = {**POST, "text": "ann and bob at night in paris"} | {
    "pairs": [{"head": (0, 3), "tail": (8, 11)}, {"head": (8, 11), "tail": (24, 29)}]
}
ENCODERS = pytest.mark.parametrize("encoder", ["bert", "roberta", "xlm-roberta"])


@pytest.fixture
def build(make_model, make_text_config, make_processor, tokenizer, roberta_tokenizer):
    """`build(mode, encoder, preset, visibility)` -> model and processor."""

    def built(mode, encoder="bert", preset="full", visibility="isolated", **fields):
        fields |= {"entity_representation": mode, "image_text_visibility": visibility}
        model = make_model(preset, text_config=make_text_config(encoder), **fields)
        return model, make_processor(model.config, tokenizer if encoder == "bert" else roberta_tokenizer)

    return built


def states_of(model, inputs):
    """States of the entities' and of the image phrases' tokens, pooled by node: (P, 2, D), (P, Q, D)."""
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "marker_pair")
    with torch.no_grad():
        states = model.vmhan.encode_text(**{name: inputs[name] for name in names if name in inputs})

    def pooled(tokens):
        return torch.stack(
            [
                torch.stack([states[row, of[of >= 0]].mean(dim=0) for of in of_pair])
                for row, of_pair in zip(inputs["pair_to_sequence"], tokens, strict=True)
            ]
        )

    return pooled(inputs["entity_tokens"]), pooled(inputs["image_phrase_tokens"])


@ENCODERS
@ALL_MODES
@pytest.mark.parametrize("visibility", ["joint", "isolated"])
def test_a_change_of_one_segment_reaches_the_other_only_if_joint(visibility, mode, encoder, build):
    """The other sentence is longer, too: no position tells it."""
    model, processor = build(mode, encoder, visibility=visibility)
    entities, phrases = states_of(model, processor(POST))
    with_other_phrases, _ = states_of(model, processor(OTHER_PHRASES))
    _, with_other_words = states_of(model, processor(OTHER_WORDS))
    changes = ((with_other_phrases - entities).abs().max(), (with_other_words - phrases).abs().max())
    assert all(change < 1e-5 if visibility == "isolated" else change > 1e-3 for change in changes)


@ENCODERS
@ALL_MODES
def test_the_sentence_is_read_as_without_image_text(mode, encoder, build):
    model, processor = build(mode, encoder)
    joint, plain_processor = build(mode, encoder, visibility="joint")
    joint.load_state_dict(model.state_dict())
    alone = {**POST, "image_phrases": []}
    inputs = plain_processor(alone)
    expected = joint(**inputs, output_gaussians=True).node_mean  # its nodes, without image phrases
    entities, _ = states_of(model, processor(POST))
    others, _ = states_of(model, processor(alone) | {"image_phrase_tokens": processor(alone)["entity_tokens"]})
    close(entities, others)
    close(joint.vmhan(**inputs).initial_node_mean[:, :2], joint.vmhan.gaussian_nodes(entities)[0])
    assert expected.isfinite().all()


@ALL_MODES
def test_phrases_meet_the_pair_in_the_hypergraph_only(mode, build):
    """Logits change with a phrase where V-HAN carries it, and stay where only the text side is read."""
    for preset, stays in (("full", False), ("caption_appended", True)):
        model, processor = build(mode, preset=preset)
        with torch.no_grad():
            first, second = (model(**processor(post)).logits for post in (POST, OTHER_PHRASES))
        assert ((first - second).abs().max() < 1e-5) == stays


@ALL_MODES
def test_a_batch_changes_no_answer(mode, build, posts):
    model, processor = build(mode)
    with torch.no_grad():
        together = model(**without_labels(processor(posts()))).logits
        alone = [model(**without_labels(processor(post))).logits for post in posts()]
    close(together, torch.cat(alone))


def test_positions_begin_anew_behind_the_prefix(build):
    _, processor = build("packed")
    inputs = processor(POST)
    is_image = inputs["marker_pair"][0] == -1
    tokens = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0][is_image])
    assert tokens == ["red", "car", ";", "big", "stage", "[SEP]"]
    assert inputs["position_ids"][0][is_image].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_it_is_refused_where_it_cannot_work(model_type, make_config, make_text_config):
    config = make_config(image_text_visibility="isolated", text_config=make_text_config(model_type))
    with pytest.raises(ValueError, match=f"image_text_visibility='isolated'.*received '{model_type}'.*'joint'"):
        VMHANModel(config)


def test_a_processor_of_the_other_kind_is_refused(build, make_pipe):
    (model, _), (_, processor) = build("packed"), build("packed", visibility="joint")
    with pytest.raises(ValueError, match="image_text_visibility 'isolated' against 'joint'"):
        make_pipe(model=model, processor=processor)
