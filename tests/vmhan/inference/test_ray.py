"""Ray Data on this machine, with two workers: the same bytes as one process, also when a worker is killed."""

import functools
import itertools
import json
import os
import sys
from types import SimpleNamespace

import pytest
from prepare_fakes import make_fakes, write_posts
from prepare_runs import ALL
from ray_jobs import Squares, make_dying

from datasets_scripts import ray_engine
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from datasets_scripts.ray_engine import run_in_order
from vmhan import cli
from vmhan.inference import command as predict_command
from vmhan.inference.answering import answer_here


pytest.importorskip("ray", reason="needs the extra ray")

WORKERS = {"num_workers": 2, "address": None}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One cluster of two CPUs for the whole file."""
    with ray_engine.connected(**WORKERS):
        yield


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
    ("error", "given"), [(FileNotFoundError, OSError), (UnicodeError, ValueError), (ZeroDivisionError, None)]
)
def test_a_worker_s_error_about_its_input_is_the_caller_s_and_a_bug_is_not(error, given):
    def work(job):
        raise error(f"no {job}")

    with pytest.raises(given or error, match="no file") as raised:
        ray_engine._unpacked(ray_engine._Worker(lambda: work)({"job": ['"file"']})["result"][0])
    assert raised.type is (given or error)


def test_more_workers_than_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_workers: .*2.*CPUs.*3"):
        list(run_in_order([1], functools.partial(Squares, tmp_path), num_workers=3, address=None))
    gpus = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    assert ray_engine.device_of_a_worker(gpus, 2) == {"num_gpus": 1, "num_cpus": 0}
    with pytest.raises(ValueError, match="num_workers: .*2.*GPUs.*3"):
        ray_engine.device_of_a_worker(gpus, 3)


def test_without_an_address_no_other_cluster_is_joined(monkeypatch):
    """Ray's own default is RAY_ADDRESS, or the cluster that was last started on this machine."""
    asked = []
    cluster = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **options: asked.append(options["address"]),
        cluster_resources=lambda: {"CPU": 8.0},
        shutdown=lambda: asked.append("shut down"),
    )
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setitem(sys.modules, "ray.data", cluster)
    for address in (None, "auto"):
        with ray_engine.connected(num_workers=2, address=address):
            pass
    assert asked == ["local", "shut down", "auto", "shut down"]


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'vmhan\[ray\]'"):
        next(run_in_order([1], dict, **WORKERS))


def test_preparation_on_ray_gives_the_same_bytes_though_a_worker_dies(tmp_path, monkeypatch):
    """One worker: that results keep their order is shown above, and each start of a worker takes seconds."""
    monkeypatch.setattr("datasets_scripts.prepare.plan.IMAGES_A_SHARD", 5)
    write_posts(tmp_path / "mine", images=7, train=[*range(6), 3, None], validation=[6, 0])

    def prepared(name, make_tools=make_fakes, **fields):
        fields |= {"source": "jsonl", "data_dir": str(tmp_path / "mine"), "output_dir": str(tmp_path / name)}
        output = prepare(PrepareArguments(**ALL, shard_size=4, figures=False, **fields), make_tools=make_tools)
        files = sorted(path for path in output.rglob("*") if path.is_file())
        return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}

    dying = functools.partial(make_dying, tmp_path / "died", os.getpid())
    whole = prepared("whole")
    assert prepared("shared", dying, engine="ray", num_proc=1) == whole
    assert (tmp_path / "died").exists() and len(whole) > 6


def test_prediction_on_ray_gives_the_same_bytes(make_model, make_processor, tmp_path, monkeypatch, capsys):
    """The whole command, with jobs of eight rows; the second time it goes on after the first 20."""
    monkeypatch.setattr("vmhan.inference.answering.ROWS_A_JOB", 8)
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    make_processor(model.config).save_pretrained(tmp_path / "model")
    pair = {"text": "Ann met Bob in Paris", "tail": "Paris"}
    rows = [json.dumps({**pair, "head": "Eve" if i % 7 == 0 else "Bob"}) + "\n" for i in range(50)]
    (tmp_path / "in.jsonl").write_text("".join(rows))

    def run(output, *flags):
        files = map(str, (tmp_path / "model", tmp_path / "in.jsonl", "--output", tmp_path / output))
        return cli.main(["predict", *files, "--batch_size", "4", "--device", "cpu", *flags])

    def results(name):
        return [(tmp_path / f"{name}{suffix}.jsonl").read_bytes() for suffix in ("", ".errors")]

    assert run("whole.jsonl") == 1
    assert [lines.count(b"\n") for lines in results("whole")] == [42, 8]

    def broken_off(*arguments, **options):
        yield from itertools.islice(answer_here(*arguments, **options), 5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict_command, "answer_here", broken_off)
        assert run("out.jsonl") == 130
    assert run("out.jsonl", "--engine", "ray", "--num_workers", "2") == 1
    assert results("out") == results("whole")
    assert run("other.jsonl", "--engine", "ray", "--num_workers", "3") == 2  # two CPUs
    assert "num_workers" in capsys.readouterr().err and not (tmp_path / "other.jsonl").exists()
