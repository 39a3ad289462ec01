"""vmhan sweep: plans, locks, workers, a kill (with a training of milliseconds), and real runs of seconds."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from paths import ROOT

from modeling_vmhan.configuration_vmhan import PRESETS
from vmhan import cli
from vmhan.baselines import BASELINES
from vmhan.configs import CONFIGS
from vmhan.evaluation.report import command as report
from vmhan.evaluation.sweep.plan import plan_runs, read_sweep
from vmhan.evaluation.sweep.runs import BUSY, DONE, FAILED, check_settings, do_run, needs_work
from vmhan.scoring.predictions import read_predictions
from vmhan.training.arguments import parse_arguments
from vmhan.training.flags import flags_of, read_entries, same_value, to_entries


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
    return content


def start(place, *arguments, results="results"):
    command = [sys.executable, "-m", "vmhan", "sweep", "sweep.yaml", "--results", results, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}
    return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)


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


def small_run(place, **flags):
    runs = plan_runs(read_sweep(place / "sweep.yaml"), place / "results", rows=["small"], seeds=[1], flags=flags)
    return runs[0]


def finish(run, **metrics):
    """What a finished run of these settings has."""
    run.folder.mkdir(parents=True)
    (run.folder / "settings.json").write_text(json.dumps({"settings": run.settings()}))
    (run.folder / "metrics.json").write_text(json.dumps(metrics))


def test_flags_and_entries_are_inverse(tmp_path):
    entries = {"seed": "1", "streaming": True, "label_names": ["a", "b"], "preset": "gcn"}
    assert to_entries(["--streaming", "--seed", "2", *flags_of(entries)]) == entries | {"streaming": "True"}
    assert to_entries(["--preset=gcn", "--streaming"]) == {"preset": "gcn", "streaming": True}
    assert same_value("1e-4", 0.0001) and same_value(True, "True") and not same_value("1", "2")
    with pytest.raises(ValueError, match="expected flags of .* received 'gcn' before any --name"):
        to_entries(["gcn", "--seed", "1"])


def test_the_plan_has_seeds_outside_and_rows_inside(place):
    runs = plan_runs(read_sweep(place / "sweep.yaml"), "R", flags={"num_train": "9"})
    assert [run.name[6:] for run in runs[:4]] == ["full/seed-1", "small/seed-1", "plain/seed-1", "full/seed-2"]
    assert runs[1].folder == Path("R/cards/small/seed-1")
    settings = runs[1].settings()
    assert settings == {"hidden_size": 8, "learning_rate": 0.001, "num_train": "9", "seed": 1}  # no cache_dir
    assert runs[1].argv()[1:5] == ["--num_train", "9", "--hidden_size", "8"]
    (run,) = plan_runs(read_sweep(place / "sweep.yaml"), "R", rows=["plain"], seeds=[7])
    assert run.name == "cards/plain/seed-7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "reference .* 'full'"),
        ({"rwos": {}}, "'rwos'"),
        ({"rows": {"full": "gcn"}}, "rows .* 'gcn'"),
        ({"rows": {"full": {}, "small": {"num_heads": None}}}, r"small: .*\['num_heads'\]"),
        ({"seeds": 3}, "seeds .* 3"),
        ({"datasets": {"cards": {"config": "nowhere.yaml"}}}, "datasets.cards: .*'nowhere.yaml'"),
        ({"reference": "fool"}, "reference .* 'fool'"),
    ],
)
def test_a_wrong_sweep_file_is_an_error(place, change, message):
    change_sweep(place, **change)
    with pytest.raises(ValueError, match=message):
        read_sweep(place / "sweep.yaml")


def test_wrong_names_are_errors(place, capsys):
    with pytest.raises(ValueError, match="'table9'.*'table2'"):
        read_sweep("table9")
    with pytest.raises(ValueError, match=r"--rows: expected some of \['full', 'small', 'plain'\].* \['fool'\]"):
        plan_runs(read_sweep(place / "sweep.yaml"), "R", rows=["fool"])
    assert cli.main(["sweep", str(place / "sweep.yaml"), "--keep_weights", "fool"]) == 2
    assert "--keep_weights: expected some of ['full', 'small', 'plain'], received ['fool']" in capsys.readouterr().err


def test_the_shipped_sweeps_have_all_rows_and_parse():
    assert list(read_sweep("table2").rows) == list(PRESETS)
    models = {row.get("model") or row["preset"] for row in read_sweep("table1").rows.values()}
    assert set(BASELINES) <= models and "full" in models
    for path in sorted((CONFIGS / "sweeps").glob("*.yaml")):
        for run in plan_runs(read_sweep(path), "results", seeds=[1]):
            if run.flags.get("model", "vmhan") in ("vmhan", *BASELINES):
                parse_arguments(run.argv())


def test_a_killed_sweep_goes_on_to_the_same_table(place):
    """kill -9 of the command in the middle of the runs; its workers end with it."""
    assert run_sweep(place, results="at_once")[0] == 0
    expected, at_once = make_table(place, "at_once"), calls(place)
    assert len(at_once) == 6
    (place / "calls.txt").unlink()
    process = start(place, "--", "--sleep", "0.5")
    while len(list(place.glob("results/cards/*/*/metrics.json"))) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.parent: path.read_bytes() for path in place.glob("results/cards/*/*/metrics.json")}
    assert len(done) < 6 and process.stderr.close() is None
    assert run_sweep(place, "--", "--sleep", "0.5")[0] == 0
    assert all((folder / "metrics.json").read_bytes() == content for folder, content in done.items())
    assert sum(1 for row, seed, *_ in calls(place) if place / f"results/cards/{row}/seed-{seed}" in done) == len(done)
    assert {tuple(call[:2]) for call in calls(place)} == {tuple(call[:2]) for call in at_once}
    assert {name: text.replace(b"results", b"at_once") for name, text in make_table(place).items()} == expected
    assert not list(place.glob("results/cards/*/*/model.safetensors"))


def test_failed_and_dying_runs_are_recorded_and_the_others_go_on(place):
    content = change_sweep(
        place, seeds=[1], rows={"full": {}, "plain": {}, "failing": {"fail": True}, "dying": {"die": True}}
    )
    code, errors = run_sweep(place, "--keep_weights", "full")
    folders = {name: place / "results" / "cards" / name / "seed-1" for name in content["rows"]}
    assert code == 1 and "2 runs finished, 0 of them before; 2 failed" in errors
    assert "ValueError: this row is meant to fail" in (folders["failing"] / "failed.txt").read_text()
    assert "The process died" in (folders["dying"] / "failed.txt").read_text()
    assert (folders["plain"] / "metrics.json").is_file() and not (folders["plain"] / "failed.txt").exists()
    assert "a word of the run" in (folders["plain"] / "log.txt").read_text()
    assert (folders["full"] / "model.safetensors").is_file() and not (folders["full"] / "checkpoint-1").exists()
    assert not (folders["plain"] / "model.safetensors").exists()


def test_a_run_that_failed_behind_its_metrics_has_not_finished(place):
    change_sweep(place, rows={"full": {"fail_late": True}}, seeds=[1])
    for _ in range(2):
        code, errors = run_sweep(place)
        assert code == 1 and "0 runs finished, 0 of them before; 1 failed" in errors
    assert len(calls(place)) == 2 and (place / "results/cards/full/seed-1/metrics.json").is_file()


def test_weights_that_are_gone_are_said_to_be(place):
    assert run_sweep(place, "--rows", "full")[0] == 0
    code, errors = run_sweep(place, "--rows", "full", "--keep_weights", "full")
    assert code == 0 and "without --keep_weights: results/cards/full/seed-1" in errors
    assert run_sweep(place, "--rows", "full", "--keep_weights", "full", "--overwrite")[0] == 0
    assert len(list(place.glob("results/cards/full/*/model.safetensors"))) == 2


def test_two_sweeps_of_one_folder_share_the_runs(place):
    both = [start(place, "--num_proc", "1", "--", "--sleep", "0.2") for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    every = [[row, seed] for row in ("full", "small", "plain") for seed in "12"]
    assert sorted(call[:2] for call in calls(place)) == sorted(every)
    for process in both:
        process.stderr.close()


def test_a_run_that_another_process_does_is_left_alone(place):
    run = small_run(place)
    run.folder.mkdir(parents=True)
    with FileLock(run.folder / ".lock"):
        assert do_run(run, keep_weights=False) == BUSY
    assert not (run.folder / "settings.json").exists()


def test_other_settings_of_a_finished_run_are_an_error(place, capsys):
    finish(small_run(place))
    check_settings(small_run(place, learning_rate="1e-3"))  # the same in other letters
    with pytest.raises(ValueError, match=r"hidden_size: .* 8, .* '16'; num_test: .*'nothing', .* 4\).*--overwrite"):
        check_settings(small_run(place, hidden_size="16", num_test=4))
    (small_run(place).folder / "settings.json").unlink()
    with pytest.raises(ValueError, match="finished run that no sweep made .*--overwrite"):
        check_settings(small_run(place))
    arguments = [str(place / "sweep.yaml"), "--results", str(place / "results"), "--rows", "small", "--seeds", "1"]
    assert cli.main(["sweep", *arguments]) == 2 and "no sweep made" in capsys.readouterr().err


def test_overwrite_does_it_again(place):
    finish(small_run(place, hidden_size=16), old=True)
    chosen = ["--rows", "small", "--seeds", "1"]
    assert run_sweep(place, *chosen)[0] == 2
    assert run_sweep(place, *chosen, "--overwrite")[0] == 0
    assert "old" not in (small_run(place).folder / "metrics.json").read_text()


def test_weights_that_a_kill_at_the_end_left_are_deleted(place):
    run = small_run(place)
    finish(run)
    for keep in (True, False):
        record = {"settings": run.settings(), "keep_weights": keep}
        (run.folder / "settings.json").write_text(json.dumps(record))
        (run.folder / "model.safetensors").write_text("weights")
        assert needs_work(run) is not keep
    assert do_run(run, keep_weights=False) == DONE and not needs_work(run)
    assert not (run.folder / "model.safetensors").exists() and not (place / "calls.txt").exists()


def test_an_interrupted_run_goes_on_from_a_whole_checkpoint_of_its_settings(place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setitem(sys.modules, "vmhan.training.command", importlib.import_module("stand_in"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = small_run(place)
    for whole, recorded, expected in ((1, run, True), (0, run, False), (1, small_run(place, num_test=3), False)):
        run.folder.mkdir(parents=True)
        (run.folder / "leftover").write_text("")
        (run.folder / "settings.json").write_text(json.dumps({"settings": recorded.settings()}))
        (run.folder / "checkpoint-7").mkdir()
        (run.folder / "checkpoint-7" / "trainer_state.json").write_text("{}" if whole else "{")
        assert do_run(run, keep_weights=False) == DONE
        assert (calls(place)[-1][-1] == "resumed") is expected
        assert (run.folder / "leftover").exists() is expected
        shutil.rmtree(run.folder)
    monkeypatch.delitem(sys.modules, "stand_in")


@pytest.fixture(scope="module")
def real_sweep(workplace):  # noqa: F811
    """A sweep over two rows of the tiny postcards, done in this process."""
    rows = {"full": {"title": "VM-HAN"}, "no_kl": {"title": "w/o KL loss", "preset": "no_kl"}}
    flags = {"config": "tiny.yaml", "num_train_epochs": 1, "visual": "none"}  # without images: no VGG16 to build
    content = {"datasets": {"postcards": flags}, "rows": rows}
    (workplace / "sweep.yaml").write_text(yaml.safe_dump(content))
    runs = plan_runs(read_sweep(workplace / "sweep.yaml"), workplace / "results")
    assert [do_run(run, keep_weights=run.row == "full") for run in runs] == [DONE, DONE]
    return workplace, runs


def test_real_runs_leave_what_a_report_needs(real_sweep, capsys):
    folder, runs = real_sweep
    kept = {path.name for path in runs[0].folder.iterdir()}
    assert {"metrics.json", "predictions.jsonl", "environment.json", "settings.json", "config.json"} <= kept
    assert "model.safetensors" in kept and not (runs[1].folder / "model.safetensors").exists()
    arguments = [str(folder / "results" / "postcards"), "--rows", str(folder / "sweep.yaml"), "--resamples", "50"]
    assert report.main([*arguments, "--output_dir", str(folder / "report")]) == 0
    assert "| w/o KL loss | 1 |" in capsys.readouterr().out
    assert (folder / "report" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_in_one_process_is_like_a_first(real_sweep):
    folder, runs = real_sweep
    again = plan_runs(read_sweep(folder / "sweep.yaml"), folder / "again", rows=["full"])[0]
    assert do_run(again, keep_weights=False) == DONE
    one, other = (read_predictions(run.folder).probabilities for run in (runs[0], again))
    assert (one == other).all()


def test_a_real_failure_is_recorded(real_sweep):
    folder, _ = real_sweep
    wrong = plan_runs(read_sweep(folder / "sweep.yaml"), folder / "wrong", rows=["full"], flags={"preset": "fool"})[0]
    assert do_run(wrong, keep_weights=False) == FAILED
    assert "--preset: expected one of" in (wrong.folder / "failed.txt").read_text()
    assert read_entries(folder / "tiny.yaml")["num_train"] == 10
