"""benchmarks/model/gpu.py, rehearsed on the CPU with a thin VGG16."""

import json

import pytest
import torch

from benchmarks.harness.competitors import Competitor
from benchmarks.model import gpu


ROWS = {"bare text", "text only", "features", "pixels", "bare vision"}


@pytest.fixture
def rehearse(tmp_path, monkeypatch, make_thin_vgg16):
    monkeypatch.setattr("modeling_vmhan.vgg16.vgg16", make_thin_vgg16)

    def run(*flags):
        fixed = ["--device", "cpu", "--encoder", "tiny", "--image_size", "32", "--rounds", "1", "--no_compile"]
        gpu.main([*fixed, *flags, "--output_dir", str(tmp_path)])
        return json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rounds"]

    return run


def test_every_row_is_measured_at_each_batch_size(rehearse):
    rounds = rehearse("--batch_sizes", "1", "2")
    assert rounds.keys() == {f"{phase}/{size} posts" for phase in gpu.PHASES for size in (1, 2)}
    for table in rounds.values():
        assert table.keys() == ROWS
        assert all(row["values"]["wall"][0] > 0 for row in table.values())


@pytest.mark.parametrize(
    ("is_full", "left_out"),
    [
        (lambda config: config.model_type == "vmhan" and config.hypergraph_encoder == "vhan", {"features", "pixels"}),
        (lambda config: config.model_type != "vmhan", {"bare text"}),  # which the others are compared with
    ],
)
def test_a_row_that_does_not_fit_is_left_out_from_then_on(rehearse, monkeypatch, is_full, left_out):
    train, pairs = Competitor._train, set()

    def fill(competitor, batch, bf16):
        pairs.add(len(batch["labels"]))
        if is_full(competitor.model.config) and len(batch["labels"]) > min(pairs):  # of the second size
            raise torch.cuda.OutOfMemoryError("no room")
        train(competitor, batch, bf16)

    monkeypatch.setattr(Competitor, "_train", fill)
    rounds = rehearse("--batch_sizes", "1", "2")
    assert rounds["train/1 posts"].keys() == rounds["inference/1 posts"].keys() == ROWS
    for phase in gpu.PHASES:
        of_phase = rounds[f"{phase}/2 posts"]
        assert of_phase.keys() == ROWS - left_out and all(row["against"] in of_phase for row in of_phase.values())


def test_no_batch_size_is_begun_when_the_minutes_are_over(rehearse):
    assert rehearse("--batch_sizes", "1", "--minutes", "-1") == {}
