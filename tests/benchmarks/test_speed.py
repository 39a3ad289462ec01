"""benchmarks/speed.py: that its report says what was measured. No test asserts a time."""

import functools
import json
import random
import re
import statistics
import sys

import pytest

from benchmarks import sentences, speed, training_memory
from benchmarks.competitors import Bench, bare_competitor, baseline_competitor, load_encoder, preset_competitor
from benchmarks.sentences import spread_over_lengths, with_features, with_pairs
from benchmarks.speed_figures import draw_report
from benchmarks.speed_report import make_table, markdown
from benchmarks.speed_targets import TARGETS, judge
from benchmarks.timing import CLOCKS, ratio, spread, take_turns
from datasets_scripts.builders.building import build


TINY = ["--encoder", "tiny", "--rounds", "1", "--batch_size", "2", "--batches", "1", "--feature_size", "8"]
RELATIONS = ["None", "peer"]


@pytest.fixture(scope="module")
def posts():
    """Two sentences, three pairs."""
    empty = {"tail_object": -1, "relation": 1, "text_phrases": [], "image_phrases": [], "objects": []}
    short = {"tokens": "Ann met Bob".split(), "pairs": [{**empty, "head": [0, 1], "tail": [2, 3]}]}
    pairs = [{**empty, "head": [0, 1], "tail": [4, 5]}, {**empty, "head": [2, 3], "tail": [0, 1]}]
    long = {"tokens": "Ann and Bob in Paris".split(), "pairs": pairs}
    return [{"id": str(i), "image_id": str(i), **post} for i, post in enumerate((short, long))]


@pytest.fixture(scope="module")
def bench(posts, tmp_path_factory):
    stored = with_features(posts, RELATIONS, tmp_path_factory.mktemp("posts"), feature_size=8)
    small = {"pyramid": "resnet18:random:0", "pyramid_size_px": 32}
    return Bench(*load_encoder("tiny"), posts=list(stored), relations=RELATIONS, batch_size=2, **small)


def test_a_run_says_in_markdown_what_its_json_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(sentences, "build", functools.partial(build, cache_dir=tmp_path / "cache"))
    flags = ["--parts", "step", "pairs", "--pairs", "2", "--pairs_per_batch", "4", "--output_dir", str(tmp_path)]
    speed.main([*TINY, *flags, "--phases", "train", "--bf16"])
    report, text = json.loads((tmp_path / "speed.json").read_text()), (tmp_path / "speed.md").read_text()
    assert f"`{report['facts']['command']}`" in text and "drawn postcards" in text
    assert str(report["facts"]["load_average_before"]) in text
    sections = text.split("\nTraining step")[1:]
    assert list(report["tables"]) == ["step/train", "pairs/train/2"] and len(sections) == 2
    for section, table in zip(sections, report["tables"].values(), strict=True):
        said = {cells[0]: cells[1:] for cells in map(cells_of, section.splitlines()) if len(cells) == 8}
        for name, row in table["rows"].items():
            ratios = row["ratio"]
            assert said[name][2] == f"{ratios['processor']['median']:.2f}"
            assert said[name][4] == f"{ratios['wall']['median']:.2f}"
            assert said[name][5:] == [str(row["work"]["tokens"]), str(row["work"]["places"])]
            assert row["per_second"]["wall"]["median"] == row["work"]["pairs"] / row["seconds"]["wall"][0]
    rows = report["tables"]["step/train"]["rows"]
    assert {"bare_padded", "packed_buckets", "packed_buckets, bf16"} <= rows.keys()
    for picture in re.findall(r"\]\((\w+\.png)\)", text):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "step.png" in text and "pairs.png" in text


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_all_do_the_same_pairs_and_share_one_encoder(bench):
    competitors = [preset_competitor(bench, mode) for mode in ("marker", "span", "packed")]
    competitors += [bare_competitor(bench), baseline_competitor(bench, "hvpnet"), baseline_competitor(bench, "cnn")]
    assert {competitor.work["pairs"] for competitor in competitors} == {3}
    marker, span, packed, bare, hvpnet, cnn = competitors
    assert marker.work == bare.work  # the same rows: what differs is the head
    assert packed.work["tokens"] == span.work["tokens"] + 4 * 3
    assert marker.model.vmhan.text_encoder is bench.encoder and bare.model.text_encoder is bench.encoder
    assert [len(competitor.optimizers) for competitor in competitors] == [2, 2, 2, 2, 2, 1]
    assert hvpnet.batches[0]["input_ids"].shape[1] == 80 and hvpnet.batches[0]["pixel_values"].shape[1:3] == (4, 3)
    assert bare_competitor(bench, pad_to=128).batches[0]["input_ids"].shape == (3, 128)


def test_posts_are_drawn_in_batches_of_like_length_over_all_lengths():
    assert spread_over_lengths([80, 10, 20, 70, 60, 50, 30, 40], 2, 2, seed=0) == [2, 6, 4, 3]
    lengths = [random.Random(1).randrange(5, 60) for _ in range(1000)]
    chosen = spread_over_lengths(lengths, 16, 4, seed=0)
    drawn = [[lengths[row] for row in chosen[start : start + 16]] for start in range(0, 64, 16)]
    assert len(set(chosen)) == 64 and all(max(of) - min(of) <= 2 for of in drawn)
    assert abs(statistics.mean(sum(drawn, [])) - statistics.mean(lengths)) < 2
    assert sorted(spread_over_lengths([3, 1, 2], 2, 2, seed=0)) == [0, 1, 2]  # there are no more


def test_batches_by_length_hold_rows_of_like_length_for_each_representation(bench):
    for mode in ("marker", "packed"):
        bench.batch_size, before = 1, bench.batch_size
        ordered = preset_competitor(bench, mode, by_length=True)
        bench.batch_size = before
        lengths = [batch["input_ids"].shape[1] for batch in ordered.batches]
        assert lengths == sorted(lengths) and len(set(lengths)) > 1
        assert ordered.work["pairs"] == preset_competitor(bench, mode).work["pairs"]


@pytest.mark.parametrize("training", [True, False])
def test_a_training_step_changes_the_weights_and_inference_does_not(bench, training):
    competitor = preset_competitor(bench)
    competitor.model.train(training)
    weights = [competitor.model.classifier.weight, bench.encoder.get_input_embeddings().weight]
    before = [weight.detach().clone() for weight in weights]
    for turn in competitor.turns(training=training, bf16=False):
        turn()
    assert [not weight.equal(old) for weight, old in zip(weights, before)] == [training] * 2
    assert all(weight.grad is None for weight in weights)


def test_a_post_gets_as_many_pairs_as_asked(posts):
    assert [pair["head"] for pair in with_pairs(posts[1], 3)["pairs"]] == [[0, 1], [2, 3], [0, 1]]
    assert len(with_pairs(posts[1], 1)["pairs"]) == 1 and len(posts[1]["pairs"]) == 2


def test_generated_rows_are_the_posts_again_with_features_of_their_own(posts, tmp_path):
    made = with_features(posts, RELATIONS, tmp_path, feature_size=8, count=5)
    assert made["tokens"][:] == [posts[i % 2]["tokens"] for i in range(5)]
    assert len({tuple(row["image_features"]) for row in made}) == 5


def test_turns_are_taken_in_rounds_and_counted():
    taken = []
    turns = {name: [functools.partial(taken.append, (name, turn)) for turn in (0, 1)] for name in "ab"}
    times = take_turns(turns, 3)
    assert taken[:2] == [("a", 0), ("b", 0)]  # warm-up
    for i in range(2, len(taken), 2):
        assert {name for name, _ in taken[i : i + 2]} == {"a", "b"}
        assert {turn for _, turn in taken[i : i + 2]} == {(i // 2 - 1) % 2}
    assert len(taken) == 2 + 3 * 2 * 2
    assert set(times) == set(CLOCKS) and {len(of[name]) for of in times.values() for name in "ab"} == {3}


def test_ratios_are_taken_within_a_round():
    assert ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0])["median"] == 3.0
    assert spread([7.0]) == {"median": 7.0, "lower_quartile": 7.0, "upper_quartile": 7.0}


@pytest.fixture
def report():
    """A report of packed at 1.5 times marker's speed, with 2 times fewer tokens; hvpnet 10 times slower."""
    environment = {"packages": {}, "git_revision": "0", "git_dirty": False, "cpu_count": 1, "python": "3"}
    facts = {"encoder": "offline", "clock": "processor", "environment": environment, "command": "c", "device": "cpu"}
    facts |= {"processor": "p", "threads": 1, "sentences": "s", "posts": 1, "pairs": 4, "rounds": 1, "batches": 1}
    facts |= {"batch_size": 1, "load_average_before": [0.0], "load_average_after": [0.0]}
    seconds = {"bare_dynamic": 2.5, "marker": 3.0, "packed": 2.0}
    tables = {
        "step/train": table_of(seconds, tokens={"packed": 50}),
        "baselines/train": table_of({"vmhan": 1, "hvpnet": 10}),
    }
    peaks = {run: {"peak_resident_mib": [peak]} for run, peak in (("bare", 100), ("marker", 120), ("packed", 90))}
    for row in peaks.values():
        row |= {"peak_anonymous_mib": [1.0], "seconds_a_post": [1.0]}
    memory = {"reference": "bare", "rows": peaks}
    return {"facts": facts, "tables": tables, "skipped": {"mega": "no reason"}, "memory": memory}


def table_of(seconds, tokens=None):
    times = {clock: {name: [float(s)] for name, s in seconds.items()} for clock in CLOCKS}
    work = {name: {"pairs": 4, "tokens": (tokens or {}).get(name, 100), "places": 100} for name in seconds}
    return make_table(times, work, next(iter(seconds)))


def test_each_target_is_judged_by_what_was_measured(report):
    report["targets"] = judge(report)
    verdicts = {row["what"]: row["verdict"] for row in report["targets"]}
    assert verdicts["training step: marker / bare encoder + linear, same batches"] == "reached"  # 1.2 <= 1.25
    share = next(row for row in report["targets"] if "the data's sentences" in row["what"])
    assert share["verdict"] == "missed" and share["measured"]["processor"]["median"] == pytest.approx(0.75)
    assert verdicts["pairs per second in training: VM-HAN packed / hvpnet"] == "reached"
    assert verdicts["peak memory of training: marker / bare encoder"] == "missed"
    assert verdicts["peak memory of training: packed / bare encoder"] == "reached"
    assert verdicts["V-HAN layer / its matrix products"] == "not measured"
    text = markdown(report)
    for row in report["targets"]:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row['what']} | {row['rule']}"))
        assert line.endswith(f"| {row['verdict']} |")
    assert "Left out: mega: no reason" in text


def test_targets_of_another_encoder_are_not_judged(report):
    report["facts"]["encoder"] = "bert-base-random"
    base = {row["bound"] for row in judge(report) if row["what"].startswith("training step: marker")}
    assert base == {1.1}
    report["facts"]["encoder"] = "tiny"
    assert judge(report) == [] and len(TARGETS) > 10


def test_a_training_run_is_measured(posts, tmp_path):
    with_features(posts, RELATIONS, tmp_path, feature_size=8).save_to_disk(tmp_path / "posts")
    job = {"posts": str(tmp_path / "posts"), "encoder": "tiny", "batch_size": 2, "max_steps": -1, "run": "packed"}
    measured = training_memory.train({**job, "output": str(tmp_path / "out")})
    assert measured["peak_resident_mib"] >= measured["peak_anonymous_mib"] > 0 and measured["seconds_a_post"] > 0


def test_a_training_run_that_fails_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="failed with exit code 1"):
        training_memory.run_alone({"run": "packed"})


def test_pictures_without_matplotlib_name_the_extra(report, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'vmhan\[report\]'"):
        draw_report(tmp_path, report)
