"""vmhan predict --dry_run: a sample is answered and timed by part, and what all rows would take follows from it."""

import json
import re

import pytest
import torch
from PIL import Image

from modeling_vmhan.frozen import FrozenEncoder
from vmhan import cli
from vmhan.inference import estimate as estimating
from vmhan.inference.answering import rows_of_a_job
from vmhan.inference.estimate import Parts, Sample, estimate, run_seconds


@pytest.mark.parametrize(
    ("total", "batch_size", "workers", "expected"),
    [
        (1000, 16, 1, 256),
        (1000, 16, 2, 128),  # four jobs a worker
        (1000, 16, 64, 16),  # a whole batch
        (100, 16, 512, 16),
        (1_000_000, 16, 8, 1008),  # a thousand jobs
        (300, 512, 1, 512),
    ],
)
def test_every_worker_gets_jobs_of_whole_batches(total, batch_size, workers, expected):
    assert rows_of_a_job(total, batch_size, workers) == expected


@pytest.mark.parametrize(
    "jobs, job, record, workers, start, expected",
    [
        (4, 10.0, 0.0, 1, 5.0, 45.0),  # one after the other
        (4, 10.0, 0.0, 2, 5.0, 25.0),
        (5, 10.0, 0.0, 2, 5.0, 35.0),  # the fifth job has a round of its own
        (4, 10.0, 0.0, 512, 5.0, 15.0),  # no job is shared between workers
        (4, 10.0, 1.0, 1, 0.0, 41.0),  # only the last record is waited for
        (4, 10.0, 20.0, 4, 0.0, 90.0),  # the records are what takes long
        (0, 10.0, 1.0, 2, 5.0, 5.0),
    ],
)
def test_workers_answer_jobs_and_one_process_records_them_in_order(jobs, job, record, workers, start, expected):
    assert run_seconds(jobs, job=job, record=record, workers=workers, start=start) == expected


def test_a_part_is_charged_without_those_within_it(monkeypatch):
    clock = iter([0.0, 1.0, 4.0, 9.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(estimating.time, "perf_counter", lambda: next(clock))
    parts = Parts(torch.device("cpu"))
    with parts.timed("head"), parts.timed("text"):
        pass
    assert parts.seconds == {"head": 6.0, "text": 3.0}


def test_the_tables_say_what_the_parts_add_up_to():
    sample = Sample(rows=100, seconds={"text": 0.9, "write": 0.1}, bytes_a_row=1000, memory=10**9, gpu_memory=0)
    said = estimate(sample, total=1_000_000, batch_size=16, start=60.0, workers=2)
    lines = {line.split()[0]: line.split() for line in said.splitlines()}
    assert lines["text"][1:3] == ["9.00", "111"] and lines["all"][1:3] == ["10.00", "100"]
    assert lines["1"][1:] == ["167.7", "99", "1.0"]  # a minute and 1,000,000 times 10 ms
    assert lines["2"][1:] == ["76.2", "219", "3.0"]  # one of them answers 497 of the 993 jobs of 1,008 rows
    assert float(lines["512"][1]) == pytest.approx(1000 / 60 + 1 + 9 / 60, abs=0.1)  # the records, behind a first job
    assert "keeps up with 9 of them" in said and "1.000 GB" in said


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_processor, make_vision_config):
    folder = tmp_path_factory.mktemp("estimate")
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    model.save_pretrained(folder / "model")
    make_processor(model.config).save_pretrained(folder / "model")
    Image.effect_noise((48, 40), 90).convert("RGB").save(folder / "0.png")
    rows = [{"text": "Ann met Bob in Paris", "head": "Bob", "tail": "Paris", "image": "0.png"}] * 40
    rows[20] = {"text": "no such head", "head": "Zoe", "tail": "head"}
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "none.jsonl").write_text("", encoding="utf-8")
    return folder


@pytest.mark.parametrize("output, flags", [("out.jsonl", []), ("out.graphml", ["--format", "graph"])])
def test_a_dry_run_answers_a_sample_and_writes_nothing(folder, tmp_path, capsys, output, flags):
    command = [folder / "model", folder / "posts.jsonl", "--output", tmp_path / output, "--batch_size", 2, *flags]
    assert cli.main(["predict", *map(str, command), "--dry_run", "--num_workers", "3"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^40 rows", said) and "of 32 rows" in said  # 16 batches of the 20
    cells = {line.split()[0]: line.split()[1] for line in said.splitlines()}
    parts = {part: float(cells[part]) for part in estimating.PARTS if part != "detect"}  # all of which are there
    assert float(cells["all"]) == pytest.approx(sum(parts.values()), abs=0.05)
    assert {"1", "3", "8", "64", "512"} <= cells.keys()
    assert not any(file.name.startswith("out") for file in tmp_path.iterdir())


def test_pictures_of_the_batch_that_is_answered_before_are_encoded_again(folder, tmp_path, monkeypatch):
    calls, encode = [], FrozenEncoder.encode
    monkeypatch.setattr(FrozenEncoder, "encode", lambda self, *args: calls.append(args) or encode(self, *args))
    (tmp_path / "one.jsonl").write_text((folder / "posts.jsonl").read_text().splitlines(keepends=True)[0])
    command = [folder / "model", tmp_path / "one.jsonl", "--image_root", folder, "--output", tmp_path / "out.jsonl"]
    assert cli.main(["predict", *map(str, command), "--dry_run"]) == 0
    assert len(calls) == 2


def test_a_file_without_rows_has_nothing_to_estimate(folder, tmp_path, capsys):
    command = ["predict", str(folder / "model"), str(folder / "none.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert cli.main([*command, "--dry_run"]) == 0
    assert "none.jsonl has no row" in capsys.readouterr().out
