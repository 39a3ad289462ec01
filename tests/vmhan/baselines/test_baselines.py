"""The baselines of Table 1: each learns, ignores padding, saves and loads; their formulas by hand; words and vectors."""

import math
from collections import Counter

import pytest
import torch
from tiny import LABELS, VISUAL_SIZE
from transformers import AutoConfig, AutoModel

from modeling_vmhan import PRESETS, VMHANConfig, VMHANProcessor
from vmhan.baselines import (
    BASELINES,
    BaselineConfig,
    WordConvolutionConfig,
    build_baseline,
    get_baseline,
    load_baseline,
)
from vmhan.baselines.base import EncoderBaseline
from vmhan.baselines.convolution import masked_max, segments
from vmhan.baselines.words import count_words, read_word_vectors, word_tokenizer


OWN = sorted(
    name for name, baseline in BASELINES.items() if baseline.model is not None and "pixels" not in baseline.inputs
)
ENCODERS = [name for name in OWN if not BASELINES[name].reads_words]
VISUAL = [name for name in OWN if {"image", "objects"} & set(BASELINES[name].inputs)]
TEXT = [name for name in OWN if name not in VISUAL]


@pytest.fixture(scope="module")
def make_baseline(make_text_config, posts, tokenizer):
    """`make_baseline(name)` -> tiny model and its processor, seeded, in evaluation mode."""

    def make(name, *, tokenizer=tokenizer, **fields):
        baseline = BASELINES[name]
        fields = {"classifier_dropout": 0.0, "id2label": dict(enumerate(LABELS)), **fields}
        fields |= {"visual_feature_size": VISUAL_SIZE, "num_objects": 3} if name in VISUAL else {}
        if baseline.reads_words:
            tokenizer = word_tokenizer(sorted(count_words(post["tokens"] for post in posts())))
            fields.setdefault("text_config", WordConvolutionConfig(vocab_size=len(tokenizer), word_embedding_size=8))
        fields.setdefault("text_config", None if baseline.reads_words else make_text_config())
        config = BaselineConfig(baseline=name, entity_representation=baseline.entity_representation, **fields)
        processor = VMHANProcessor.for_config(config, tokenizer)
        torch.manual_seed(0)
        return build_baseline(config, vocab_size=len(processor.tokenizer)), processor

    return make


def test_the_table_names_what_each_reads_and_where_it_was_published():
    assert {"cnn", "pcnn", "bert", "mtb", "gcn", "gat", "hgnn", "bert_sg", "bert_sg_att"} <= set(BASELINES)
    for baseline in BASELINES.values():
        assert "https://" in baseline.source and "text" in baseline.inputs
        assert set(baseline.inputs) <= {"text", "text_phrases", "image", "objects", "image_phrases", "pixels"}
        assert (baseline.model is None) == (baseline.preset in PRESETS)


# ---------------------------------------------------------------- every baseline


@pytest.mark.parametrize("name", OWN)
def test_it_learns_four_posts_by_heart(name, make_baseline, posts):
    model, processor = make_baseline(name)
    inputs = processor(posts(), label2id=model.config.label2id)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.eval()(**inputs).logits.argmax(dim=-1).tolist() == inputs["labels"].tolist()


@pytest.mark.parametrize("name", OWN)
def test_the_gradient_reaches_every_parameter(name, make_baseline, posts):
    model, processor = make_baseline(name, initializer_range=0.2)
    model.train()(**processor(posts(), label2id=model.config.label2id)).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("name", OWN)
def test_padding_changes_nothing(name, make_baseline, posts):
    """The short post alone and beside longer ones with more objects."""
    model, processor = make_baseline(name, initializer_range=0.2)
    with torch.no_grad():
        together = model(**processor(posts())).logits
        alone = torch.cat([model(**processor(post)).logits for post in posts()])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", OWN)
def test_it_is_saved_and_loaded_exactly(name, make_baseline, posts, tmp_path):
    model, processor = make_baseline(name, initializer_range=0.2)
    model.config.calibration_temperature = 2.0
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, inputs = load_baseline(tmp_path).eval(), VMHANProcessor.from_pretrained(tmp_path)(posts())
    assert type(loaded) is type(model) and loaded.config.calibration_temperature == 2.0
    assert (loaded.config.labels, loaded.config.none_label) == (LABELS, "None")
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**processor(posts())).logits)


@pytest.mark.parametrize("name", OWN)
def test_the_loss_is_the_mean_cross_entropy(name, make_baseline, posts):
    model, processor = make_baseline(name)
    output = model(**processor(posts(), label2id=model.config.label2id))
    gold = processor(posts(), label2id=model.config.label2id)["labels"]
    expected = -output.logits.log_softmax(dim=-1)[torch.arange(len(gold)), gold].mean()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.relation_loss, expected)
    assert model(**processor(posts())).loss is None


@pytest.mark.parametrize("name", ENCODERS)
def test_it_starts_from_the_pretrained_text_encoder(name, make_baseline, make_text_config):
    torch.manual_seed(1)
    encoder = AutoModel.from_config(make_text_config())
    baseline = BASELINES[name]
    visual = {"visual_feature_size": VISUAL_SIZE} if name in VISUAL else {}
    model = build_baseline(BaselineConfig(baseline=name, text_config=encoder.config, **visual), text_encoder=encoder)
    weights = dict(encoder.named_parameters())
    own = {k.removeprefix("text_encoder."): p for k, p in model.named_parameters() if k.startswith("text_encoder.")}
    taken = {k for k in weights if not k.startswith("pooler.")}
    assert baseline.model is type(model) and taken and all(torch.equal(own[k], weights[k]) for k in taken)


# ---------------------------------------------------------------- words


def test_the_three_segments_of_a_sentence():
    """Mentions that end at words 1 and 3 of 6, in either order; overlapping ones; one that ends the sentence."""
    ends = torch.tensor([[1, 3], [3, 1], [2, 2], [0, 5]])
    expected = [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], [0, 0, 0, 2, 2, 2], [0, 1, 1, 1, 1, 1]]
    assert segments(ends, 6).tolist() == expected


def test_the_maximum_over_no_word_is_zero():
    states = torch.tensor([[[-3.0], [-1.0], [5.0]], [[-3.0], [-1.0], [5.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_max(states, mask).tolist() == [[-1.0], [0.0]]


@pytest.mark.parametrize("name", ["cnn", "pcnn"])
def test_the_convolution_equals_its_formula_word_by_word(name, make_baseline):
    """Ann(head) met Bob Kay(tail) in Paris, an explicit loop over the windows."""
    model, processor = make_baseline(name, initializer_range=0.2)
    post = {"tokens": "Ann met Bob and the band".split(), "pairs": [{"head": (0, 1), "tail": (2, 4)}]}
    ids = processor(post)["input_ids"][0]
    limit = model.config.text_config.max_relative_distance
    x = [
        torch.cat([model.word_embeddings.weight[i], model.head_distance.weight[t + limit]]) for t, i in enumerate(ids)
    ]
    x = [torch.cat([v, model.tail_distance.weight[t - 2 + limit]]) for t, v in enumerate(x)]
    x = [torch.zeros_like(x[0]), *x, torch.zeros_like(x[0])]
    weight, bias = model.convolution.weight, model.convolution.bias
    z = [sum(weight[:, :, k] @ x[t + k] for k in range(3)) + bias for t in range(len(ids))]
    if name == "cnn":
        g = torch.tanh(model.second(torch.stack(z).amax(dim=0)))
    else:
        pieces = (z[:1], z[1:4], z[4:])
        g = torch.tanh(torch.cat([torch.stack(piece).amax(dim=0) for piece in pieces]))
    torch.testing.assert_close(model(**processor(post)).logits[0], model.classifier(g), atol=1e-5, rtol=1e-5)


def test_distances_are_cut_off(make_baseline):
    shape = WordConvolutionConfig(vocab_size=30, max_relative_distance=2)
    model, processor = make_baseline("cnn", text_config=shape)
    post = {"tokens": "Ann met Bob and the band in Paris".split(), "pairs": [{"head": (0, 1), "tail": (1, 2)}]}
    assert model.head_distance.num_embeddings == 5
    model(**processor(post), labels=torch.tensor([0])).loss.backward()
    assert model.head_distance.weight.grad.abs().sum(dim=1).gt(0).tolist() == [False, False, True, True, True]


def test_words_are_lower_case_and_the_rare_unknown():
    assert count_words([["Ann", "MET"], ["ann"]]) == Counter(ann=2, met=1)
    tokenizer = word_tokenizer(["ann"])
    assert tokenizer.tokenize("ANN met") == ["ann", "[UNK]"] and tokenizer("ann")["input_ids"] == [2]


def test_word_vectors_are_read_and_put_in_their_places(make_baseline, tmp_path):
    """word2vec's header, a word with a space and words that nobody needs are passed over; the first of two wins."""
    lines = ["5 3", "met 1 2 3", ". . 9 9 9", "ann -0.5 0 1e-2", "zebra x y z", "met 7 7 7"]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n")
    vectors = read_word_vectors(tmp_path / "vectors.txt", {"ann", "met", "."})
    assert {word: vector.tolist() for word, vector in vectors.items()} == {
        "met": [1, 2, 3],
        "ann": pytest.approx([-0.5, 0, 0.01]),
    }
    tokenizer = word_tokenizer(sorted(vectors))
    config = WordConvolutionConfig(vocab_size=len(tokenizer), word_embedding_size=3)
    ids = {tokenizer.convert_tokens_to_ids(word): vector for word, vector in vectors.items()}
    model = build_baseline(BaselineConfig(baseline="pcnn", text_config=config), word_vectors=ids)
    assert model.word_embeddings.weight[tokenizer.convert_tokens_to_ids("met")].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ann 1 2", "met 1"], r"vectors.txt, line 2: expected a word and 2 numbers.*received 1 fields behind 'met'"),
        (["ann 1 2", "met 1 2 3"], "line 2: expected a word and 2 numbers.*received 3 fields behind 'met'"),
        (["ann", "met 1"], "line 1: expected a word and at least 1 numbers"),
        (["zebra 1 2", "ann 1 two"], "line 2: 'two' is not a finite number"),
        (["ann 1 nan"], "line 1: 'nan' is not a finite number"),
        (["zebra 1 2"], "has a vector for none of the data's 2 words"),
    ],
)
def test_files_that_are_no_word_vectors(lines, message, tmp_path):
    (tmp_path / "vectors.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        read_word_vectors(tmp_path / "vectors.txt", {"ann", "met"})


# ---------------------------------------------------------------- encoders, with and without regions


def test_mtb_classifies_the_opening_markers_states(make_baseline, posts):
    model, processor = make_baseline("mtb")
    inputs = processor(posts()[0])
    e1, e2 = (processor.tokenizer.convert_tokens_to_ids(marker) for marker in ("[E1]", "[E2]"))
    with torch.no_grad():
        states = model.text_encoder(**{k: inputs[k] for k in ("input_ids", "attention_mask", "token_type_ids")})[0]
        pairs = torch.cat([states[inputs["input_ids"] == e1], states[inputs["input_ids"] == e2]], dim=-1)
        torch.testing.assert_close(model(**inputs).logits, model.classifier(pairs))


def test_bert_passes_a_sentence_once_for_all_its_pairs(make_baseline, posts):
    model, processor = make_baseline("bert")
    inputs = processor(posts()[0])
    assert len(inputs["input_ids"]) == 1 and len(model(**inputs).logits) == 3


@pytest.mark.parametrize(("name", "spread"), [("bert_sg", False), ("bert_sg_att", True)])
def test_scene_graph_weights(name, spread, make_baseline):
    """They sum to 1 over the objects there are, alike without attention; none where there is no object."""
    model, _ = make_baseline(name, initializer_range=0.5)
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
def test_a_tail_in_the_image_is_its_region(name, make_baseline, object_post):
    """Another object as the tail, another answer; a baseline of words alone says that it cannot."""
    model, processor = make_baseline(name, initializer_range=0.2)
    post = object_post()
    with torch.no_grad():
        before = model(**processor(post)).logits
        post["pairs"][0]["tail_object"] = 1
        after = model(**processor(post)).logits
    assert not torch.allclose(before[0], after[0], atol=1e-4)
    torch.testing.assert_close(before[1], after[1])


def test_a_baseline_of_words_alone_takes_no_tail_in_the_image(make_baseline, object_post):
    with pytest.raises(ValueError, match="the tail is an object, but visual_feature_size is 0"):
        make_baseline("mtb")[1](object_post())


def test_without_visual_features_a_visual_baseline_is_not_built():
    with pytest.raises(ValueError, match="'bert_sg' reads visual features, received visual_feature_size=0"):
        build_baseline(BaselineConfig(baseline="bert_sg"))


# ---------------------------------------------------------------- names and configurations


def test_a_baseline_without_features_says_what_it_lacks(make_text_config):
    model = EncoderBaseline(BaselineConfig(text_config=make_text_config()))
    with pytest.raises(NotImplementedError, match="EncoderBaseline must define pair_features"):
        model.pair_features({})


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="received 'pcn'. Did you mean 'pcnn'"):
        get_baseline("pcn")


@pytest.mark.parametrize("name", ["gcn", "gat", "hgnn"])
def test_the_graph_baselines_are_presets(name, tmp_path):
    """One model, not two: the same layers over the same nodes without variances."""
    config = VMHANConfig.from_preset(BASELINES[name].preset)
    assert config.hypergraph_encoder == name and not config.variational
    with pytest.raises(ValueError, match=f"'{name}' is a preset of VM-HAN: build it with"):
        build_baseline(BaselineConfig(baseline=name))
    BaselineConfig(baseline=name).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{name}' is a preset of VM-HAN: load"):
        load_baseline(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"entity_representation": "cls"}, "entity_representation must be one of"),
        ({"num_objects": -1}, "num_objects must be a whole number >= 0, received -1"),
        ({"classifier_dropout": 1.0}, "classifier_dropout must be a number >= 0 and < 1"),
        ({"calibration_temperature": 0}, "calibration_temperature must be a number > 0"),
        ({"id2label": {0: "a", 1: "b"}}, "as none label"),
        ({"num_layer": 3}, "BaselineConfig has no field 'num_layer'"),
    ],
)
def test_wrong_fields_of_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        BaselineConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window_size": 4}, "window_size must be odd.*received 4"),
        ({"num_filters": 0}, "num_filters must be a whole number >= 1, received 0"),
        ({"filters": 2}, "WordConvolutionConfig has no field 'filters'. *.*Did you mean 'num_filters'"),
    ],
)
def test_wrong_fields_of_the_word_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        WordConvolutionConfig(**fields)


def test_configurations_come_back_from_their_folder(tmp_path):
    text_config = WordConvolutionConfig(vocab_size=7, num_filters=3, window_size=5, max_relative_distance=9)
    BaselineConfig(baseline="cnn", text_config=text_config, entity_representation="span").save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, BaselineConfig) and isinstance(config.text_config, WordConvolutionConfig)
    assert config.text_config.to_dict() == text_config.to_dict() and config.entity_representation == "span"
