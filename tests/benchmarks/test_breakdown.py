"""benchmarks/breakdown.py and the growth of benchmarks/head.py: what they cut up is the step that is trained."""

import time

import pytest
import torch

from benchmarks import breakdown, head
from benchmarks.breakdown import PARTS, breakdown_markdown, measure_breakdown, step_in_parts
from benchmarks.competitors import Bench, bare_competitor, load_encoder, preset_competitor
from benchmarks.sentences import with_features
from benchmarks.speed_figures import draw_report


RELATIONS = ["None", "peer"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    pair = {"head": [0, 1], "tail": [2, 3], "relation": 1, "tail_object": -1}
    pair |= {"text_phrases": [], "image_phrases": [], "objects": []}
    rows = [{"id": "0", "image_id": "0", "tokens": "Ann met Bob".split(), "pairs": [pair, pair]}]
    stored = with_features(rows, RELATIONS, tmp_path_factory.mktemp("posts"), feature_size=8)
    return Bench(*load_encoder("tiny"), posts=list(stored), relations=RELATIONS, batch_size=1)


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


def test_a_breakdown_counts_the_timed_rounds_alone_and_says_so(bench, monkeypatch, tmp_path):
    steps = iter(range(1, 100))
    monkeypatch.setattr(breakdown, "step_in_parts", lambda *_: dict.fromkeys(PARTS, float(next(steps))))
    competitors = {name: preset_competitor(bench, name) for name in ("marker", "packed")}
    part = measure_breakdown(competitors, bench.encoder, 3, clock="processor", device="cpu")
    of_marker, of_packed = (part["rows"][name]["seconds"]["optimizer"] for name in ("marker", "packed"))
    assert sorted(of_marker + of_packed) == [3, 4, 5, 6, 7, 8]  # 1 and 2 were the warm-up
    for name, row in part["rows"].items():
        assert row["work"] == competitors[name].work
        shares = [operator["share"] for operator in row["operators"]]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
        assert len(shares) == breakdown.OPERATORS and all(operator["calls"] > 0 for operator in row["operators"])
    part["rows"]["marker"]["seconds"] = dict.fromkeys(PARTS, [0.006] * 3)
    part["rows"]["packed"]["seconds"] = dict.fromkeys(PARTS, [0.002] * 3)
    text = "\n".join(breakdown_markdown("Two pairs", part))
    marker, packed = (part["rows"][name]["work"]["tokens"] for name in ("marker", "packed"))
    assert f"| marker | {' | '.join(['3.00'] * len(PARTS))} | 15.00 | {marker} |" in text  # ms of two pairs
    assert f"tokens {marker / packed:.2f}" in text and "time of the encoder 3.00, of the step 3.00" in text
    report = {"facts": {"clock": "processor"}, "tables": {}, "breakdown": {"Two pairs": part}}
    assert draw_report(tmp_path, report) == {"breakdown": "breakdown.png"}
    assert (tmp_path / "breakdown.png").read_bytes().startswith(b"\x89PNG")


def test_the_head_says_what_the_system_takes(tmp_path, monkeypatch):
    head.main(
        ["--pairs", "4", "--hidden_size", "16", "--growth", "2", "--rounds", "2", "--output", str(tmp_path / "h")]
    )
    text = (tmp_path / "h.md").read_text()
    assert "| incidence / head |" in text and "system's share" in text
    ticks = iter([(10.0, 5.0), (10.6, 5.2)])  # user, system
    monkeypatch.setattr(head.os, "times", lambda: type("Times", (), dict(zip(("user", "system"), next(ticks)))))
    runs = []
    assert head.system_share(lambda: runs.append(1)) == pytest.approx(0.25) and len(runs) == head.REPEATS
