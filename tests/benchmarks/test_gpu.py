"""benchmarks/gpu.py, rehearsed on the CPU with a thin VGG16."""

import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.competitors import Competitor


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


def test_a_row_that_does_not_fit_is_left_out_from_then_on(rehearse, monkeypatch):
    train = Competitor._train

    def fill(competitor, batch, bf16):
        config = competitor.model.config
        if config.model_type == "vmhan" and config.hypergraph_encoder == "vhan" and len(batch["input_ids"]) == 2:
            raise torch.cuda.OutOfMemoryError("no room")
        train(competitor, batch, bf16)

    monkeypatch.setattr(Competitor, "_train", fill)
    rounds = rehearse("--batch_sizes", "1", "2")
    assert rounds["train/1 posts"].keys() == rounds["inference/1 posts"].keys() == ROWS
    for phase in gpu.PHASES:
        assert rounds[f"{phase}/2 posts"].keys() == ROWS - {"features", "pixels"}


def test_no_batch_size_is_begun_when_the_minutes_are_over(rehearse):
    assert rehearse("--batch_sizes", "1", "--minutes", "-1") == {}
