"""The benchmarks: that their reports say what was measured. No test asserts a time."""

import functools
import json
import random
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from benchmarks.harness import posts
from benchmarks.harness.competitors import STEP_PARTS as PARTS
from benchmarks.harness.competitors import Bench, bare_competitor, load_encoder, preset_competitor, step_in_parts
from benchmarks.harness.posts import spread_over_lengths, with_features
from benchmarks.harness.report import Row, Table, markdown
from benchmarks.harness.timing import CLOCKS, take_turns
from benchmarks.model import head, memory, speed
from datasets_scripts.builders.building import build


TINY = "--encoder tiny --rounds 1 --batch_size 2 --batches 1 --feature_size 8 --pairs 3 --pairs_per_batch 4".split()
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


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_run_says_in_markdown_what_its_json_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(posts, "build", functools.partial(build, cache_dir=tmp_path / "cache"))
    monkeypatch.setattr(memory, "ProcessPoolExecutor", lambda *_, **options: ThreadPoolExecutor(1))
    speed.main([*TINY, "--growth", "2", "4", "--bf16", "--output_dir", str(tmp_path)])
    report, text = json.loads((tmp_path / "speed.json").read_text()), (tmp_path / "speed.md").read_text()
    assert report["about"]["command"] in text and report["about"]["pairs"] >= 2
    assert {name.split("/")[0] for name in report["rounds"]} == {*speed.PARTS}
    for rows in report["rounds"].values():
        for name, row in rows.items():
            measure, values = next(iter(row["values"].items()))
            ratio = values[0] / rows[row["against"]]["values"][measure][0]
            assert re.search(rf"^\| {name} \| [^|]+ \| {ratio:.2f} \(.*\| {row['against']} \|", text, re.MULTILINE)
    assert {"bare_padded", "packed_buckets, bf16"} <= report["rounds"]["step/train"].keys()
    for part in speed.PARTS:
        assert f"({part}.png)" in text and (tmp_path / f"{part}.png").read_bytes().startswith(b"\x89PNG")


def test_the_heads_report(tmp_path):
    head.main(f"--pairs 4 --hidden_size 16 --rounds 1 --output_dir {tmp_path}".split())
    assert (tmp_path / "head.md").read_text().count("| head_products |\n") == 2


def test_a_cell_has_the_median_and_the_quartiles_and_ratios_are_taken_within_a_round():
    own, other = {"wall": [2.0, 30.0, 8.0]}, {"wall": [1.0, 10.0, 2.0]}
    rows = {"a": Row(own, "b", {"pairs": 2}), "b": Row(other, "b", {"pairs": 2})}
    line = markdown(Table(rows, per="pairs")).splitlines()[2]
    assert cells_of(line) == ["a", "4000 (2500 to 9500)", "3.00 (2.50 to 3.50)", "b", "2"]


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


def test_posts_are_drawn_in_batches_of_like_length_over_all_lengths():
    assert spread_over_lengths([80, 10, 20, 70, 60, 50, 30, 40], 2, 2) == [2, 6, 4, 3]
    lengths = [random.Random(1).randrange(5, 60) for _ in range(1000)]
    chosen = spread_over_lengths(lengths, 16, 4)
    drawn = [[lengths[row] for row in chosen[start : start + 16]] for start in range(0, 64, 16)]
    assert len(set(chosen)) == 64 and all(max(of) - min(of) <= 2 for of in drawn)
    assert abs(statistics.mean(sum(drawn, [])) - statistics.mean(lengths)) < 2
    assert sorted(spread_over_lengths([3, 1, 2], 2, 2)) == [0, 1, 2]  # there are no more


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


def test_turns_are_taken_in_rounds_and_counted():
    taken = []
    turns = {name: [functools.partial(taken.append, (name, turn)) for turn in (0, 1)] for name in "ab"}
    times = take_turns(turns, 3)
    assert taken[:2] == [("a", 0), ("b", 0)]  # warm-up
    for i in range(2, len(taken), 2):
        assert {name for name, _ in taken[i : i + 2]} == {"a", "b"}
        assert {turn for _, turn in taken[i : i + 2]} == {(i // 2 - 1) % 2}
    assert len(taken) == 2 + 3 * 2 * 2
    assert all(len(times[name][clock]) == 3 for name in "ab" for clock in CLOCKS)
