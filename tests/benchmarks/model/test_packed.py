"""The floor of a packed step: that it is made of what the models do. No test asserts a time."""

import functools
import json

from benchmarks.harness import posts
from benchmarks.model import packed
from datasets_scripts.builders.building import build


def test_a_larger_batch_brings_the_floor_nearer_to_the_ratio_of_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(posts, "build", functools.partial(build, cache_dir=tmp_path / "cache"))
    # a product costs by its size and an update the same in each batch, whatever this machine is doing
    monkeypatch.setattr(packed, "peak", lambda: 1e9)
    monkeypatch.setattr(packed, "best", lambda work: work() or 0.05)
    sizes = "--encoder tiny --rounds 1 --pairs 8 --pairs_per_batch 8 64".split()
    packed.main([*sizes, "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "packed.json").read_text())
    shares = [float(report["about"][f"{size} pairs a batch"].split()[-3]) for size in (8, 64)]
    assert 0 < shares[0] < shares[1]
    assert report["rounds"]["attention"].keys() == {*packed.ATTENTIONS}
    assert "packed 0 + 50 ms" not in report["about"]["8 pairs a batch"]
