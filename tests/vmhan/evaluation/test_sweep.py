"""vmhan sweep: plans, locks, workers, a kill (with a training of milliseconds), and real runs of seconds."""

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from other_processes import in_child, kill_family, wait_until
from paths import ROOT
from safetensors.numpy import save_file

from datasets_scripts.configs import CONFIGS, flags_of
from model_cards.locks import lock_inside, locked
from modeling_vmhan.configuration_vmhan import PRESETS
from vmhan.baselines import BASELINES
from vmhan.configs import normal
from vmhan.evaluation.report import command as report
from vmhan.evaluation.sweep import command
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import BUSY, DONE, FAILED, check_settings, do_run, needs_work, record_failure
from vmhan.scoring.predictions import read_predictions
from vmhan.scoring.systems import finished_runs
from vmhan.training.arguments import parse_arguments
from vmhan.training.flags import to_entries


# What run_mmre.main leaves, made of row and seed alone; `--sleep`, `--fail`, `--die` are what the tests want of it.
STAND_IN = """
import json, os, random, signal, sys, time
from pathlib import Path
from vmhan.training.flags import to_entries

LABELS = ["None", "a", "b"]

def main(argv):
    flags = to_entries(argv[1:])
    folder = Path(flags["output_dir"])
    with open("calls.txt", "a") as file:
        file.write(f"{folder.parent.name} {flags['seed']} {'resumed' if 'resume_from_checkpoint' in flags else ''}\\n")
    print("a word of the run")
    assert os.environ["OMP_NUM_THREADS"] == "1"
    if flags.get("fail"):
        raise ValueError("this row is meant to fail")
    if flags.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "model.safetensors").write_text("weights")
    (folder / "checkpoint-1").mkdir(exist_ok=True)
    time.sleep(float(flags.get("sleep", 0)))
    draw = random.Random(f"{folder.parent.name} {flags['seed']}")
    rows = [
        {"split": "test", "id": str(i), "pair": 0, "relation": LABELS[i % 3], "predicted": draw.choice(LABELS)}
        for i in range(30)
    ]
    pairs = [(row["relation"], row["predicted"]) for row in rows]
    right, claimed = sum(g == p != "None" for g, p in pairs), sum(p != "None" for _, p in pairs)
    true = sum(g != "None" for g, _ in pairs)
    scores = {"accuracy": sum(g == p for g, p in pairs) / len(pairs)}
    scores |= {"precision": right / claimed, "recall": right / true, "f1": 2 * right / (claimed + true)}
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS)), "none_label": "None"}))
    numbers = {f"test_{name}": value for name, value in scores.items()}
    (folder / "metrics.json").write_text(json.dumps({**numbers, "leaky": False, "train_runtime": time.time()}))
    if flags.get("fail_late"):
        raise OSError("the card could not be written")
    (folder / "run.json").write_text("{}")
"""
IN_FRONT = """
import sys
sys.modules["vmhan.training.command"] = __import__("stand_in")
"""


@pytest.fixture
def place(tmp_path):
    """A folder to sweep in: sweep.yaml with three rows and two seeds, and the stand-in in front of `vmhan train`."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "sitecustomize.py").write_text(IN_FRONT)
    (tmp_path / "base.yaml").write_text("learning_rate: 0.001\ncache_dir: cache\n")
    rows = {"full": {"title": "all of it"}, "small": {"hidden_size": 8}, "plain": {"preset": "gcn"}}
    content = {"datasets": {"cards": {"config": "base.yaml", "num_train": 5}}, "rows": rows, "seeds": [1, 2]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


def change_sweep(place, **change):
    content = yaml.safe_load((place / "sweep.yaml").read_text()) | change
    (place / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def start(place, *arguments, results="results", **options):
    words = [sys.executable, "-m", "vmhan", "sweep", "sweep.yaml", "--results", results, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}
    return subprocess.Popen(words, cwd=place, env=environment, stderr=subprocess.PIPE, text=True, **options)


def run_sweep(place, *arguments, **options):
    process = start(place, *arguments, **options)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def calls(place):
    return [line.split() for line in (place / "calls.txt").read_text().splitlines()]


def make_table(place, results="results"):
    """The report's files, as bytes by name."""
    output = place / "report"
    rows = ["full", "small", "plain"]
    assert report.main([str(place / results / "cards"), "--rows", *rows, "--output_dir", str(output)]) == 0
    return {path.name: path.read_bytes() for path in output.glob("table.*")}


def every(place, pattern):
    return list(place.glob(f"results/cards/*/*/{pattern}"))


def small_run(place, **flags):
    return plan_runs(read_sweep(place / "sweep.yaml"), place / "results", rows=["small"], seeds=[1], flags=flags)[0]


def finish(run, **record):
    """What a finished run of these settings has."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "settings.json").write_text(json.dumps({"settings": run.settings(), **record}))
    (run.folder / "metrics.json").write_text('{"old": true}')
    (run.folder / "run.json").write_text("{}")


def test_flags_and_entries_are_inverse():
    entries = {"seed": "1", "streaming": True, "label_names": ["a", "b"], "preset": "gcn"}
    assert to_entries(["--streaming", "--seed", "2", *flags_of(entries)]) == entries | {"streaming": "True"}
    assert to_entries(["--preset=gcn", "--streaming"]) == {"preset": "gcn", "streaming": True}
    assert normal("1e-4") == normal(0.0001) and normal(True) == normal("True") and normal("1") != normal("2")
    with pytest.raises(ValueError, match="'gcn'"):
        to_entries(["gcn", "--seed", "1"])


def test_the_plan_has_seeds_outside_and_rows_inside(place):
    runs = plan_runs(read_sweep(place / "sweep.yaml"), "R", flags={"num_train": "9"})
    expected = ["full/seed-1", "small/seed-1", "plain/seed-1", "full/seed-2"]
    assert [run.folder for run in runs[:4]] == [Path("R/cards", name) for name in expected]
    settings = runs[1].settings()
    assert settings == {"hidden_size": 8, "learning_rate": 0.001, "num_train": "9", "seed": 1}  # no cache_dir
    assert runs[1].argv()[1:5] == ["--num_train", "9", "--hidden_size", "8"]
    (run,) = plan_runs(read_sweep(place / "sweep.yaml"), "R", rows=["plain"], seeds=[7])
    assert (run.dataset, run.row, run.seed) == ("cards", "plain", 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "rows .* None"),
        ({"rwos": {}}, "'rwos'"),
        ({"rows": {"full": "gcn"}}, "rows .* 'gcn'"),
        ({"rows": {"full": {}, "small": {"num_heads": None}}}, "small: .*'num_heads'"),
        ({"seeds": 3}, "seeds .* 3"),
        ({"datasets": {"cards": {"config": "nowhere.yaml"}}}, "datasets.cards: .*'nowhere.yaml'"),
        ({"reference": "fool"}, "reference .* 'fool'"),
    ],
)
def test_a_wrong_sweep_file_is_an_error(place, change, message):
    change_sweep(place, **change)
    with pytest.raises(ValueError, match=message):
        read_sweep(place / "sweep.yaml")


@pytest.mark.parametrize("name", ["own_data_small", "demo.yaml"])
def test_a_config_may_be_one_that_comes_with_the_package(place, name):
    change_sweep(place, datasets={"cards": {"config": name}})
    (run,) = plan_runs(read_sweep(place / "sweep.yaml"), "R", rows=["full"], seeds=[1])
    assert run.settings()["text_encoder"].endswith("all-MiniLM-L6-v2") and Path(run.argv()[0]).is_file()


@pytest.mark.parametrize("flag", ["--rows", "--datasets", "--keep_weights"])
def test_unknown_names_are_errors(place, flag):
    with pytest.raises(ValueError, match=rf"{flag}: .*\['fool'\]"):
        command.main([str(place / "sweep.yaml"), flag, "fool"])


def test_the_shipped_sweeps_have_all_rows_and_parse():
    assert list(read_sweep("table2").rows) == [name for name in PRESETS if name != "caption_appended"]
    models = {row.get("model") or row["preset"] for row in read_sweep("table1").rows.values()}
    assert set(BASELINES) - {"tmr"} <= models and "full" in models  # tmr needs images that are generated
    for path in sorted((CONFIGS / "sweeps").glob("*.yaml")):
        for run in plan_runs(read_sweep(path), "results", seeds=[1]):
            if run.flags.get("model", "vmhan") in ("vmhan", *BASELINES):
                model_args, data_args, _ = parse_arguments(run.argv())
                asked = model_args.config_fields() | PRESETS[model_args.preset]
                sees_phrases = data_args.visual != "none" or model_args.baseline is not None
                assert sees_phrases or not asked.get("num_image_phrases"), run.folder  # it would be 0, unsaid


def test_a_killed_sweep_goes_on_to_the_same_table(place):
    assert run_sweep(place, results="at_once")[0] == 0
    expected, at_once = make_table(place, "at_once"), calls(place)
    assert len(at_once) == 6
    (place / "calls.txt").unlink()
    process = start(place, "--", "--sleep", "0.5")
    while len(every(place, "run.json")) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    process.kill()
    process.communicate()
    done = {path.parent: (path.parent / "metrics.json").read_bytes() for path in every(place, "run.json")}
    assert len(done) < 6
    assert run_sweep(place, "--", "--sleep", "0.5")[0] == 0
    assert all((folder / "metrics.json").read_bytes() == content for folder, content in done.items())
    assert sum(1 for row, seed, *_ in calls(place) if place / f"results/cards/{row}/seed-{seed}" in done) == len(done)
    assert {tuple(call[:2]) for call in calls(place)} == {tuple(call[:2]) for call in at_once}
    assert {name: text.replace(b"results", b"at_once") for name, text in make_table(place).items()} == expected
    assert not every(place, "model.safetensors")


def test_ctrl_c_begins_no_further_run(place):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    process = start(place, "--", "--sleep", "1", start_new_session=True)
    while not (place / "calls.txt").exists():
        time.sleep(0.05)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130 and len(calls(place)) <= 2 and not every(place, "metrics.json")


def test_failed_and_dying_runs_are_recorded_and_the_others_go_on(place):
    rows = {"full": {}, "plain": {}, "failing": {"fail": True}, "late": {"fail_late": True}}
    rows |= {f"dying_{i}": {"die": True} for i in range(4)}
    change_sweep(place, seeds=[1], rows=rows)
    code, errors = run_sweep(place, "--keep_weights", "full", "--num_proc", "3")
    folders = {name: place / "results" / "cards" / name / "seed-1" for name in rows}
    assert code == 1 and "2 runs finished, 0 of them before; 6 failed" in errors
    assert "ValueError: this row is meant to fail" in (folders["failing"] / "failed.txt").read_text()
    assert all("process died" in (folders[f"dying_{i}"] / "failed.txt").read_text() for i in range(4))
    assert (folders["plain"] / "metrics.json").is_file() and not (folders["plain"] / "failed.txt").exists()
    assert "a word of the run" in (folders["plain"] / "log.txt").read_text()
    assert (folders["full"] / "model.safetensors").is_file() and not (folders["full"] / "checkpoint-1").exists()
    assert not (folders["plain"] / "model.safetensors").exists()
    before = len(calls(place))  # what failed is done again, also where it has its metrics
    code, errors = run_sweep(place, "--rows", "plain", "late")
    assert code == 1 and "1 runs finished, 1 of them before; 1 failed" in errors and len(calls(place)) == before + 1


def test_two_sweeps_of_one_folder_share_the_runs(place):
    both = [start(place, "--num_proc", "1", "--", "--sleep", "0.1") for _ in range(2)]
    for process in both:
        process.communicate(timeout=120)
    assert [process.returncode for process in both] == [0, 0]
    expected = [[row, seed] for row in ("full", "small", "plain") for seed in "12"]
    assert sorted(call[:2] for call in calls(place)) == sorted(expected)


def test_a_run_that_another_process_does_is_waited_for(place, in_process):
    run = small_run(place)
    with locked(lock_inside(run.folder), "as vmhan train"):
        (child := in_child(lambda: os._exit(do_run(run, keep_weights=False) == BUSY))).join()
        assert child.exitcode == 1 and not (place / "calls.txt").exists()
        process = start(place, "--rows", "small", "--seeds", "1")
        while "waited for" not in (line := process.stderr.readline()):
            assert process.poll() is None
        assert str(Path("results/cards/small/seed-1")) in line
        assert record_failure(run, "by a thread of this process") == FAILED
        (child := in_child(lambda: os._exit(record_failure(run, "no") == BUSY))).join()
        assert child.exitcode == 1
        finish(run)
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(calls(place)) == 1 and not every(place, ".lock")  # failed.txt was there


@pytest.mark.parametrize("seed", range(3))
def test_what_a_killed_sweep_started_ends_with_it(place, seed):
    process = start(place, "--num_proc", "2", "--", "--sleep", "30")
    wait_until(lambda: process.poll() is None and psutil.Process(process.pid).children())
    time.sleep(random.Random(seed).uniform(0, 2))
    assert kill_family(process)[1] == []


@pytest.fixture
def in_process(place, monkeypatch):
    """The stand-in in front of `vmhan train` in this process, too."""
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "stand_in", raising=False)
    monkeypatch.setitem(sys.modules, "vmhan.training.command", importlib.import_module("stand_in"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_other_settings_of_a_finished_run_are_an_error_but_for_overwrite(place, in_process):
    run = small_run(place)
    finish(run)
    check_settings(small_run(place, learning_rate="1e-3"))  # the same in other letters
    with pytest.raises(ValueError, match=r"hidden_size: .* 8, .* '16'; num_test: .*'nothing', .* 4\).*--overwrite"):
        check_settings(small_run(place, hidden_size="16", num_test=4))
    (run.folder / "settings.json").unlink()
    with pytest.raises(ValueError, match="seed: .*'nothing'.*--overwrite"):
        command.main([str(place / "sweep.yaml"), "--results", str(place / "results"), "--rows", "small"])
    with pytest.raises(ValueError, match="seed: .*'nothing'.*--overwrite"):  # another process may have finished it
        do_run(run, keep_weights=False)
    assert not (place / "calls.txt").exists()
    assert do_run(run, keep_weights=False, overwrite=True) == DONE and len(calls(place)) == 1
    assert "old" not in (run.folder / "metrics.json").read_text()


def test_weights_that_a_kill_at_the_end_left_are_deleted(place):
    run = small_run(place)
    for keep in (True, False):
        finish(run, keep_weights=keep)
        (run.folder / "model.safetensors").write_text("weights")
        assert needs_work(run) is not keep
    assert do_run(run, keep_weights=False) == DONE and not needs_work(run)
    assert not (run.folder / "model.safetensors").exists() and not (place / "calls.txt").exists()


@pytest.mark.parametrize(
    ("whole", "other", "failed"),
    [(True, {}, False), (False, {}, False), (False, {"num_test": 3}, False), (True, {"num_test": 3}, True)],
)
def test_an_interrupted_run_goes_on_from_a_whole_checkpoint_of_its_settings(place, in_process, whole, other, failed):
    """Whole by the rule of training itself, which test_resuming.py tries. With metrics.json alone it is unfinished.
    Where none is, or the run failed, it starts anew, with other settings as well.
    """
    run = small_run(place)
    write_checkpoint(run.folder / "checkpoint-7", state='{"global_step": 7}' if whole else "{")
    (run.folder / "leftover").write_text("")
    (run.folder / "metrics.json").write_text("{}")  # killed before run.json: not finished
    (run.folder / "model.safetensors").write_text("weights")
    recorded = {"settings": small_run(place, **other).settings()}
    (run.folder / "settings.json").write_text(json.dumps(recorded))
    if failed:
        (run.folder / "failed.txt").write_text("diverged")
    assert needs_work(run)
    assert do_run(run, keep_weights=False) == DONE
    goes_on = whole and not other
    assert (calls(place)[-1][-1] == "resumed") is (run.folder / "leftover").exists() is goes_on


def test_checkpoints_of_other_settings_are_kept(place, in_process):
    run = small_run(place)
    write_checkpoint(run.folder / "checkpoint-7", state='{"global_step": 7}')
    (run.folder / "settings.json").write_text(json.dumps({"settings": small_run(place, num_test=3).settings()}))
    with pytest.raises(
        ValueError, match=r"checkpoints of a run of other settings \(num_test: recorded 3.*--overwrite"
    ):
        do_run(run, keep_weights=False)
    assert (run.folder / "checkpoint-7" / "model.safetensors").is_file() and not (place / "calls.txt").exists()
    assert do_run(run, keep_weights=False, overwrite=True) == DONE
    assert not (run.folder / "checkpoint-7").exists()


def write_checkpoint(folder, state):
    """The files that a training goes on from, without a model."""
    folder.mkdir(parents=True)
    save_file({"a": np.zeros(2)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("a", "a")
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(state)


@pytest.mark.parametrize("name", ["hub_token", "hub-token", "api_key", "my_password"])
def test_tokens_are_no_settings_and_in_no_file_of_a_run(place, in_process, name):
    """Nor in the reason of a failure; a run recorded with one by an older version is the same run with another."""
    run = small_run(place, **{name: "hf_secret", "tokens_per_batch": "64"})
    assert name not in run.settings() and run.settings()["tokens_per_batch"] == "64"
    finish(run)
    recorded = {**run.settings(), name: "hf_old"}
    (run.folder / "settings.json").write_text(json.dumps({"settings": recorded}))
    check_settings(run)
    with pytest.raises(ValueError) as raised:
        check_settings(small_run(place, **{name: "hf_secret"}))
    assert "tokens_per_batch" in str(raised.value) and "hf_" not in str(raised.value)
    record_failure(run, "ValueError: unrecognized arguments: --x hf_secret")
    assert do_run(small_run(place, **{name: "hf_secret", "fail": "1"}), keep_weights=False, overwrite=True) == FAILED
    assert not [path for path in run.folder.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


def test_a_kill_while_a_finished_run_is_removed_to_be_done_again_leaves_it_unfinished(place, in_process, monkeypatch):
    run = small_run(place)
    finish(run)

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("vmhan.evaluation.sweep.runs._remove", killed)
    assert not needs_work(run)
    with pytest.raises(KeyboardInterrupt):
        do_run(run, keep_weights=False, overwrite=True)
    assert needs_work(run) and (run.folder / "metrics.json").exists()


def test_a_run_cut_short_is_left_out_of_tables_with_a_warning(place, caplog):
    runs = plan_runs(read_sweep(place / "sweep.yaml"), place / "results", rows=["small"], seeds=[1, 2, 3, 4])
    for run in runs:
        finish(run)
    (runs[1].folder / "run.json").unlink()
    (runs[2].folder / "failed.txt").write_text("no memory")
    (runs[3].folder / "metrics.json").unlink()  # it failed, or was killed, before there was a number
    assert finished_runs(place / "results" / "cards") == {"small": [runs[0].folder]}
    assert all(str(run.folder) in caplog.text for run in runs[1:])


def test_real_runs_leave_what_a_report_needs_and_one_after_another_is_like_a_first(workplace, tmp_path, capsys):
    rows = {"full": {"title": "VM-HAN"}, "no_kl": {"title": "w/o KL loss", "preset": "no_kl"}}
    flags = {"config": str(workplace / "tiny.yaml"), "num_train_epochs": 1, "visual": "none"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"datasets": {"postcards": flags}, "rows": rows}))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    runs = [*plan_runs(sweep, tmp_path / "results"), *plan_runs(sweep, tmp_path / "again", rows=["full"])]
    assert [do_run(run, keep_weights=run.row == "full") for run in runs] == [DONE] * 3
    one, other = (read_predictions(run.folder).probabilities for run in (runs[0], runs[2]))
    assert (one == other).all()
    kept = {path.name for path in runs[0].folder.iterdir()}
    assert {"metrics.json", "predictions.jsonl", "environment.json", "settings.json", "config.json"} <= kept
    assert "model.safetensors" in kept and not (runs[1].folder / "model.safetensors").exists()
    arguments = [str(tmp_path / "results" / "postcards"), "--rows", str(tmp_path / "sweep.yaml"), "--resamples", "50"]
    assert report.main([*arguments, "--output_dir", str(tmp_path / "report")]) == 0
    assert "| w/o KL loss | 1 |" in capsys.readouterr().out
    assert (tmp_path / "report" / "figure.png").read_bytes().startswith(b"\x89PNG")
    (wrong,) = plan_runs(sweep, tmp_path / "wrong", rows=["full"], flags={"preset": "fool"})
    assert do_run(wrong, keep_weights=False) == FAILED
    assert "--preset" in (wrong.folder / "failed.txt").read_text()
