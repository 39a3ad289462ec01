"""Ray Data on this machine, with two workers: the same bytes as one process, also when a worker is killed."""

import functools
import json
import os
import sys
from types import SimpleNamespace

import datasets
import pytest
from PIL import Image
from prepare_fakes import make_fakes, write_posts
from ray_jobs import Squares, make_dying

from datasets_scripts import ray_engine
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from datasets_scripts.ray_engine import run_in_order
from vmhan import cli
from vmhan.inference import command as predict_command


pytest.importorskip("ray", reason="needs the extra ray")

WORKERS = {"num_workers": 2, "address": None}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster of two CPUs for the whole file."""
    with ray_engine.connected(**WORKERS):
        yield


# ---------------------------------------------------------------- the engine


def test_results_come_in_order_from_workers_that_are_made_once(tmp_path):
    make_worker = functools.partial(Squares, tmp_path / "died")
    results = list(run_in_order(range(12), make_worker, **WORKERS))
    assert [square for square, _, _ in results] == [i * i for i in range(12)]
    assert (tmp_path / "died").exists()
    pids = {pid for _, pid, _ in results}
    assert os.getpid() not in pids and 2 <= len(pids) <= 3  # two, and the one in the place of the dead
    assert max(done for _, _, done in results) > 1
    assert list(run_in_order([], make_worker, **WORKERS)) == []


@pytest.mark.parametrize(
    ("error", "given"), [(FileNotFoundError, OSError), (UnicodeError, ValueError), (ValueError, ValueError)]
)
def test_a_worker_s_error_about_its_input_is_the_caller_s(error, given):
    def work(job):
        raise error(f"no {job}")

    result = ray_engine._Worker(lambda: work)({"job": ['"file"']})["result"][0]
    with pytest.raises(given, match="no file"):
        ray_engine._unpacked(result)


def test_a_bug_in_a_worker_is_not_mistaken_for_a_bad_input():
    with pytest.raises(ZeroDivisionError):
        ray_engine._Worker(lambda: lambda job: 1 // job)({"job": ["0"]})


def test_more_workers_than_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_workers: .*2.*CPUs.*3"):
        list(run_in_order([1], functools.partial(Squares, tmp_path), num_workers=3, address=None))
    gpus = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    assert ray_engine._device(gpus, 2) == {"num_gpus": 1, "num_cpus": 0}
    with pytest.raises(ValueError, match="num_workers: .*2.*GPUs.*3"):
        ray_engine._device(gpus, 3)


def test_without_an_address_no_other_cluster_is_joined(monkeypatch):
    """Ray's own default is RAY_ADDRESS, or the cluster that was last started on this machine."""
    asked = []
    cluster = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **options: asked.append(options["address"]),
        cluster_resources=lambda: {"CPU": 8.0},
        shutdown=lambda: asked.append("shut down"),
    )
    monkeypatch.setattr(ray_engine, "_ray", lambda: cluster)
    for address in (None, "auto"):
        with ray_engine.connected(num_workers=2, address=address):
            pass
    assert asked == ["local", "shut down", "auto", "shut down"]


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'vmhan\[ray\]'"):
        next(run_in_order([1], dict, **WORKERS))


# ---------------------------------------------------------------- preparation


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """`prepared(name, make_tools=..., **fields)` -> {file: bytes} of the folder that was made."""
    monkeypatch.setattr("datasets_scripts.prepare.plan.IMAGES_A_SHARD", 5)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    datasets.disable_progress_bars()
    write_posts(tmp_path / "mine", images=14, train=[*range(13), 3, 4], validation=[13, 0, None])
    tools = {"detector": "blobs", "selector": "first", "features": "colours", "shard_size": 4, "figures": False}

    def run(name, *, make_tools=make_fakes, **fields):
        folders = {"data_dir": str(tmp_path / "mine"), "output_dir": str(tmp_path / name)}
        arguments = PrepareArguments(source="jsonl", **folders, **(tools | fields))
        output = prepare(arguments, make_tools=make_tools)
        files = sorted(path for path in output.rglob("*") if path.is_file())
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}

    return run


def test_preparation_on_ray_gives_the_same_bytes_though_a_worker_dies(prepared, tmp_path):
    whole = prepared("whole")
    dying = functools.partial(make_dying, tmp_path / "died", os.getpid())
    assert prepared("shared", make_tools=dying, engine="ray", num_proc=2) == whole
    assert (tmp_path / "died").exists() and len(whole) > 6


# ---------------------------------------------------------------- prediction


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, make_model, make_processor, make_vision_config):
    folder = tmp_path_factory.mktemp("model")
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    model.save_pretrained(folder)
    make_processor(model.config).save_pretrained(folder)
    Image.effect_noise((48, 40), 90).convert("RGB").save(folder / "0.png")
    return folder


def questions(count):
    """Every third has an image, and every seventh names nobody."""
    for i in range(count):
        question = {"text": "Ann met Bob in Paris", "head": "Eve" if i % 7 == 0 else "Bob", "tail": "Paris"}
        yield json.dumps(question | ({"image": "0.png"} if i % 3 == 0 else {})) + "\n"


def test_prediction_on_ray_gives_the_same_bytes(model_folder, tmp_path, monkeypatch, capsys):
    """The whole command, with jobs of eight rows; the second time it goes on after the first 20."""
    monkeypatch.setattr("vmhan.inference.answering.ROWS_A_JOB", 8)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(questions(50)))

    def run(output, *flags):
        flags = ["--batch_size", "4", "--image_root", model_folder, "--device", "cpu", *flags]
        return cli.main([str(word) for word in ("predict", model_folder, source, "--output", output, *flags)])

    def results(output):
        return output.read_bytes(), output.with_suffix(".errors.jsonl").read_bytes()

    assert run(tmp_path / "whole.jsonl") == 1
    whole, on_ray = results(tmp_path / "whole.jsonl"), ["--engine", "ray", "--num_workers", "2"]
    assert whole[0].count(b"\n") == 42 and whole[1].count(b"\n") == 8

    real, done = predict_command.answer_here, []

    def broken_off(*arguments, **options):
        for answered in real(*arguments, **options):
            done.append(answered)
            yield answered
            if len(done) == 5:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict_command, "answer_here", broken_off)
        assert run(tmp_path / "out.jsonl") == 130
    assert run(tmp_path / "out.jsonl", *on_ray) == 1
    assert results(tmp_path / "out.jsonl") == whole
    assert run(tmp_path / "other.jsonl", *on_ray[:-1], "3") == 2  # two CPUs
    assert "num_workers" in capsys.readouterr().err and not (tmp_path / "other.jsonl").exists()
