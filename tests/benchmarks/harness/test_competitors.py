"""What is compared does the same work, and a step in parts is a step. No test asserts a time."""

import time

import pytest
import torch

from benchmarks.harness.competitors import STEP_PARTS as PARTS
from benchmarks.harness.competitors import (
    Bench,
    bare_competitor,
    load_encoder,
    preset_competitor,
    step_in_parts,
    with_so_many_pairs,
)
from benchmarks.harness.posts import with_features


RELATIONS = ["None", "peer"]


@pytest.fixture(scope="module")
def two_posts():
    """Two sentences, three pairs."""
    empty = {"tail_object": -1, "relation": 1, "text_phrases": [], "image_phrases": [], "objects": []}
    short = {"tokens": "Ann met Bob".split(), "pairs": [{**empty, "head": [0, 1], "tail": [2, 3]}]}
    pairs = [{**empty, "head": [0, 1], "tail": [4, 5]}, {**empty, "head": [2, 3], "tail": [0, 1]}]
    long = {"tokens": "Ann and Bob in Paris".split(), "pairs": pairs}
    return [{"id": str(i), "image_id": str(i), **post} for i, post in enumerate((short, long))]


@pytest.fixture(scope="module")
def bench(two_posts, tmp_path_factory):
    stored = with_features(two_posts, RELATIONS, tmp_path_factory.mktemp("posts"), feature_size=8)
    return Bench(*load_encoder("tiny"), posts=list(stored), relations=RELATIONS, batch_size=2)


def test_all_do_the_same_pairs_and_share_one_encoder(bench, monkeypatch):
    marker, span, packed = (preset_competitor(bench, mode) for mode in ("marker", "span", "packed"))
    bare = bare_competitor(bench)
    assert {competitor.work["pairs"] for competitor in (marker, span, packed, bare)} == {3}
    assert marker.work == bare.work  # the same rows: what differs is the head
    assert packed.work["tokens"] == span.work["tokens"] + 4 * 3
    assert marker.model.vmhan.text_encoder is bench.encoder and bare.model.text_encoder is bench.encoder
    assert len(marker.optimizers) == len(bare.optimizers) == 2
    assert bare_competitor(bench, pad_to=128).batches[0]["input_ids"].shape == (3, 128)
    monkeypatch.setattr(bench, "batch_size", 1)
    batches = preset_competitor(bench, "marker", by_length=True).batches
    lengths = [batch["input_ids"].shape[1] for batch in batches]
    assert lengths == sorted(lengths) and len(set(lengths)) > 1


@pytest.mark.parametrize("training", [True, False])
def test_a_training_step_changes_the_weights_and_inference_does_not(bench, training):
    competitor = preset_competitor(bench)
    competitor.model.train(training)
    weights = [competitor.model.classifier.weight, bench.encoder.get_input_embeddings().weight]
    before = [weight.detach().clone() for weight in weights]
    for turn in competitor.turns(training=training):
        turn()
    assert [not weight.equal(old) for weight, old in zip(weights, before)] == [training] * 2
    assert all(weight.grad is None for weight in weights)


@pytest.mark.parametrize("make", [bare_competitor, preset_competitor])
def test_a_step_in_parts_has_the_gradients_of_a_step(bench, make, monkeypatch):
    competitor = make(bench)
    competitor.model.eval()  # no dropout: the two passes must agree
    batch = competitor.batches[0]
    competitor.model(**batch).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in trained(competitor)}
    competitor.model.zero_grad()
    kept = {}
    monkeypatch.setattr(competitor, "update", lambda: kept.update(trained(competitor)), raising=False)
    seconds = step_in_parts(competitor, batch, bench.encoder, time.perf_counter)
    assert list(seconds) == list(PARTS) and all(value >= 0 for value in seconds.values())
    assert kept.keys() == expected.keys() and len(kept) > 20
    for name, parameter in kept.items():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name)
    competitor.model.zero_grad()
    assert not bench.encoder._forward_hooks and not bench.encoder._forward_pre_hooks


def trained(competitor):
    return [(name, parameter) for name, parameter in competitor.model.named_parameters() if parameter.grad is not None]


def test_batches_of_sentences_with_many_pairs_have_about_as_many_pairs(bench):
    for pairs_per_batch, sizes in ((4, [4, 4]), (9, [8])):
        made = with_so_many_pairs(bench, 4, ["packed"], pairs_per_batch=pairs_per_batch, batches=2)["packed"]
        assert [len(batch["labels"]) for batch in made.batches] == sizes
    assert bench.batch_size == 2
