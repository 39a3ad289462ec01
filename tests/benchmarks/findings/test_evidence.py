"""benchmarks.findings.evidence: what it trains, what it writes, and that later calls add to it."""

import json

import pytest
import torch

from benchmarks.findings import evidence
from datasets_scripts.builders.postcard_pictures import POSTCARDS_COLOURS, POSTCARDS_SHAPES


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few posts, and features without their encoder."""
    looks = [(colour, shape, False) for colour in POSTCARDS_COLOURS for shape in POSTCARDS_SHAPES]
    looks += [(colour, "", True) for colour in POSTCARDS_COLOURS]
    features = {look: torch.rand(2, 4096) for look in [None, *looks]}
    monkeypatch.setattr(evidence, "draw_features", lambda: features)
    for name, number in {"NUM_TRAIN": 6, "NUM_SCORED": 5, "BATCH": 3}.items():
        monkeypatch.setattr(evidence, name, number)


def test_rows_are_trained_compared_and_kept(tmp_path, capsys, monkeypatch):
    changed, train = [], evidence.Trial.train

    def watched(self, *args):
        before = {name: value.clone() for name, value in self.model.named_parameters()}
        train(self, *args)
        changed.append({name for name, value in self.model.named_parameters() if not torch.equal(value, before[name])})

    monkeypatch.setattr(evidence.Trial, "train", watched)
    asked = ["--datasets", "same_head", "--steps", "2", "--output_dir", str(tmp_path)]
    evidence.main([*asked, "--rows", "full", "--seeds", "1", "2"])
    evidence.main([*asked, "--rows", "post", "--seeds", "1"])
    assert len(changed) == 3 and all(names and not any("text_encoder." in n for n in names) for names in changed)
    written = json.loads((tmp_path / "evidence.json").read_text())["same_head"]
    assert {row: [*seeds] for row, seeds in written.items()} == {"full": ["1", "2"], "post": ["1"]}
    told = written["full"]["1"]
    assert len(told["predicted"].split()) == sum(told[kind]["pairs"] for kind in told if isinstance(told[kind], dict))
    assert "attention" in told and "attention" not in written["post"]["1"] and told["steps"] == 2
    *_, full, post = capsys.readouterr().out.strip().splitlines()
    assert full.startswith("| VM-HAN | 2 | 2 |") and post.startswith("| one hypergraph a post | 1 | 2 |")
    assert " to " in post and " to " not in full
    evidence.main([*asked, "--seeds"])
    assert capsys.readouterr().out.strip().splitlines()[-1] == post
