"""The baselines of Table 1: each learns, ignores padding, saves and loads; formulas by hand; words and vectors."""

import math

import pytest
import torch
from tiny import LABELS, VISUAL_SIZE
from transformers import AutoModel, ModernBertConfig, RobertaConfig

from modeling_vmhan import VMHANProcessor
from vmhan.baselines import BASELINES, BaselineConfig, WordConvolutionConfig, build_baseline, load_baseline
from vmhan.baselines.convolution import masked_max, segments
from vmhan.baselines.words import read_word_vectors, word_tokenizer


OWN = sorted(name for name, baseline in BASELINES.items() if baseline.model is not None)
ENCODERS = [name for name in OWN if not BASELINES[name].reads_words]
VISION = {"visual_feature_size": VISUAL_SIZE}
VISUAL = [name for name in OWN if {"image", "objects"} & set(BASELINES[name].inputs)]


def logits(model, inputs):
    with torch.no_grad():
        return model(**{name: value for name, value in inputs.items() if name != "labels"}).logits


@pytest.mark.parametrize("name", OWN)
def test_it_learns_four_posts_by_heart_and_every_weight_learns(name, make_baseline, posts, inputs_of):
    model = make_baseline(name, initializer_range=0.05).train()
    inputs = inputs_of(model, posts())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer, moved = torch.optim.AdamW(trained.values(), lr=0.005), set()
    for _ in range(60):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
        moved |= {n for n, p in trained.items() if p.grad is not None and p.grad.any()}
    assert logits(model.eval(), inputs).argmax(dim=-1).tolist() == inputs["labels"].tolist()
    assert moved == set(trained)


@pytest.mark.parametrize("name", OWN)
def test_padding_changes_nothing_and_the_loss_is_the_mean_cross_entropy(name, make_baseline, posts, inputs_of):
    """Each post alone and beside others with more tokens, objects and pairs, or without an image."""
    model = make_baseline(name)
    inputs = inputs_of(model, posts())
    together, gold = model(**inputs), inputs["labels"]
    alone = torch.cat([logits(model, inputs_of(model, [post])) for post in posts()])
    torch.testing.assert_close(together.logits, alone, atol=1e-5, rtol=1e-4)
    assert (alone[0] - alone[1]).abs().max() > 1e-4
    expected = -together.logits.log_softmax(dim=-1)[torch.arange(len(gold)), gold].mean()
    torch.testing.assert_close(together.loss, expected)


@pytest.mark.parametrize("name", OWN)
def test_it_is_saved_and_loaded_exactly(name, make_baseline, posts, inputs_of, processor_of, tmp_path):
    model = make_baseline(name)
    model.resize_token_embeddings(410)
    model.config.calibration_temperature = 2.0
    model.save_pretrained(tmp_path)
    processor_of(model).save_pretrained(tmp_path)
    loaded, inputs = load_baseline(tmp_path).eval(), inputs_of(model, posts())
    assert type(loaded) is type(model) and loaded.config.calibration_temperature == 2.0
    assert (loaded.config.labels, loaded.config.none_label) == (LABELS, "None")
    assert torch.equal(logits(loaded, inputs), logits(model, inputs))
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    if "pixels" not in BASELINES[name].inputs and name != "moreformer":
        again = VMHANProcessor.from_pretrained(tmp_path)(posts())
        assert torch.equal(again["input_ids"], inputs["input_ids"])


@pytest.mark.parametrize("name", ENCODERS)
def test_it_starts_from_the_pretrained_text_encoder(name, make_baseline, make_text_config):
    torch.manual_seed(1)
    encoder = AutoModel.from_config(make_text_config())
    expected = {key: value for key, value in encoder.state_dict().items() if not key.startswith("pooler.")}
    model = make_baseline(name)
    model.use_text_encoder(encoder)
    own = model.text_encoder.state_dict()
    assert expected and all(torch.equal(own[key], value) for key, value in expected.items())


def test_segments_of_a_sentence_and_their_maximum():
    """Mentions that end at words 1 and 3 of 6, in either order; overlapping ones; one that ends the sentence."""
    ends = torch.tensor([[1, 3], [3, 1], [2, 2], [0, 5]])
    expected = [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [0, 0, 0, 2, 2, 2], [0, 1, 1, 1, 1, 1]]
    assert segments(ends, 6).tolist() == expected
    states, mask = torch.tensor([[[-3.0], [-1.0], [5.0]]] * 2), torch.tensor([[True, True, False], [False] * 3])
    assert masked_max(states, mask).tolist() == [[-1.0], [0.0]]


@pytest.mark.parametrize("name", ["cnn", "pcnn"])
def test_the_convolution_equals_its_formula_word_by_word(name, make_baseline, processor_of):
    """Ann(head) met Bob and(tail) the band, an explicit loop over the windows."""
    model = make_baseline(name)
    post = {"tokens": "Ann met Bob and the band".split(), "pairs": [{"head": (0, 1), "tail": (2, 4)}]}
    inputs = processor_of(model)(post)
    limit = model.config.text_config.max_relative_distance
    layers = (model.word_embeddings, model.head_distance, model.tail_distance)
    embeddings, heads, tails = (layer.weight for layer in layers)
    ids = inputs["input_ids"][0]
    x = [torch.cat([embeddings[i], heads[t + limit], tails[t - 2 + limit]]) for t, i in enumerate(ids)]
    x = [torch.zeros_like(x[0]), *x, torch.zeros_like(x[0])]
    weight, bias = model.convolution.weight, model.convolution.bias
    z = [sum(weight[:, :, k] @ x[t + k] for k in range(3)) + bias for t in range(len(ids))]
    if name == "cnn":
        g = torch.tanh(model.second(torch.stack(z).amax(dim=0)))
    else:
        pieces = (z[:1], z[1:4], z[4:])
        g = torch.tanh(torch.cat([torch.stack(piece).amax(dim=0) for piece in pieces]))
    torch.testing.assert_close(logits(model, inputs)[0], model.classifier(g), atol=1e-5, rtol=1e-5)


def test_distances_are_cut_off(make_baseline, processor_of):
    model = make_baseline("cnn", text_config=WordConvolutionConfig(vocab_size=30, max_relative_distance=2))
    post = {"tokens": "Ann met Bob and the band in Paris".split(), "pairs": [{"head": (0, 1), "tail": (1, 2)}]}
    assert model.head_distance.num_embeddings == 5
    model(**processor_of(model)(post), labels=torch.tensor([0])).loss.backward()
    assert model.head_distance.weight.grad.abs().sum(dim=1).gt(0).tolist() == [False, False, True, True, True]


def test_word_vectors_are_read(tmp_path):
    """word2vec's header, a word with a space and words that nobody needs are passed over; the first of two wins."""
    lines = ["5 3", "met 1 2 3", ". . 9 9 9", "ann -0.5 0 1e-2", "zebra x y z", "met 7 7 7"]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n")
    vectors = read_word_vectors(tmp_path / "vectors.txt", {"ann", "met", "."})
    found = {word: vector.tolist() for word, vector in vectors.items()}
    assert found == {"met": [1, 2, 3], "ann": pytest.approx([-0.5, 0, 0.01])}
    tokenizer = word_tokenizer(sorted(vectors))
    assert tokenizer.tokenize("ANN meet") == ["ann", "[UNK]"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ann 1 2", "met 1"], "line 2: .*2 numbers, received 1 after 'met'"),
        (["ann", "met 1"], "line 1: "),
        (["zebra 1 2", "ann 1 two"], "line 2: .*'two'"),
        (["ann 1 nan"], "line 1: .*'nan'"),
        (["zebra 1 2"], "2 words"),
    ],
)
def test_files_that_are_no_word_vectors(lines, message, tmp_path):
    (tmp_path / "vectors.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"vectors.txt.*{message}"):
        read_word_vectors(tmp_path / "vectors.txt", {"ann", "met"})


def test_mtb_classifies_the_opening_markers_states(make_baseline, posts, processor_of):
    model = make_baseline("mtb")
    processor = processor_of(model)
    inputs = processor(posts()[0])
    e1, e2 = (processor.tokenizer.convert_tokens_to_ids(marker) for marker in ("[E1]", "[E2]"))
    with torch.no_grad():
        states = model.encode_text(inputs)
        pairs = torch.cat([states[inputs["input_ids"] == e1], states[inputs["input_ids"] == e2]], dim=-1)
        torch.testing.assert_close(model(**inputs).logits, model.classifier(pairs))


@pytest.mark.parametrize(("name", "spread"), [("bert_sg", False), ("bert_sg_att", True)])
def test_scene_graph_weights(name, spread, make_baseline):
    """They sum to 1 over the objects there are, alike without attention; none where there is no object."""
    model = make_baseline(name, initializer_range=0.5)
    size = model.config.text_config.hidden_size
    text, objects = torch.randn(2, 2 * size), torch.randn(2, 3, size)
    present = torch.tensor([[True, True, False], [False, False, False]])
    weights = model.object_weights(text, objects, present)
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 0.0]))
    assert weights[0, 2] == 0 and bool((weights[0, 0] - weights[0, 1]).abs() > 1e-3) is spread
    if spread:
        scores = objects[0] @ model.query(text[0]) / math.sqrt(size)
        torch.testing.assert_close(weights[0, :2], scores[:2].softmax(dim=0))


@pytest.mark.parametrize("name", VISUAL)
def test_a_tail_in_the_image_is_its_region(name, make_baseline, object_post, inputs_of):
    model = make_baseline(name)
    inputs = inputs_of(model, [object_post()])
    before, after = logits(model, inputs), logits(model, {**inputs, "tail_object": torch.tensor([1, 0])})
    assert not torch.allclose(before[0], after[0], atol=1e-4)
    torch.testing.assert_close(before[1], after[1])


@pytest.mark.parametrize(
    ("config_class", "fields", "message"),
    [
        (BaselineConfig, {"entity_representation": "cls"}, "entity_representation .*'cls'"),
        (BaselineConfig, {"num_objects": -1}, "num_objects .*-1"),
        (BaselineConfig, {"id2label": {0: "a", 1: "b"}}, "none label"),
        (BaselineConfig, {"baseline": "pcn"}, "'pcn'.*'pcnn'"),
        (BaselineConfig, {"baseline": "gcn"}, "'gcn' is the preset"),
        (BaselineConfig, {"baseline": "bert_sg"}, "'bert_sg' .*visual_feature_size=0"),
        (BaselineConfig, {"baseline": "visualbert", "text_config": RobertaConfig(), **VISION}, "visualbert.*'roberta"),
        (BaselineConfig, {"baseline": "hvpnet", "text_config": ModernBertConfig(), **VISION}, "hvpnet.*'modernbert'"),
        (WordConvolutionConfig, {"window_size": 4}, "window_size .*4"),
        (WordConvolutionConfig, {"filters": 2}, "WordConvolutionConfig .*'filters'.*'num_filters'"),
    ],
)
def test_wrong_fields_of_the_configurations(config_class, fields, message):
    with pytest.raises(ValueError, match=message):
        build_baseline(config_class(**fields))
