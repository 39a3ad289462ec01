"""`vmhan`: a user's mistake is one line and exit code 2 in every command; the wheel has all that it needs."""

import json
import os
import runpy
import subprocess
import sys
import zipfile

import pytest
from paths import ROOT

from datasets_scripts.commands import LONGEST, MANY, nearest, run_command
from datasets_scripts.configs import CONFIGS
from vmhan import cli
from vmhan.configs import current_settings


# (command, what its error says); {run} is the folder of a run, {file} a file of questions, {none} is not there.
MISTAKES = [
    ("trian demo", "'train'"),
    ("train demoo --output_dir {none}", "'demo'"),
    ("evaluate {run} demoo", "'demo'"),
    ("search demo --output_dir {none} --space serch_space", "'search_space'"),
    ("sweep tabel2", "'table2'"),
    ("train demo --output_dir {none} --learning_rat 1", "'--learning_rate'"),
    ("train demo --output_dir {none} --preset nokl", "'no_kl'"),
    ("train demo --output_dir {none} --model pcn", "'pcnn'"),
    ("evaluate", "RUN_FOLDER"),
    ("evaluate {run} --evel_strategy no", "'--eval_strategy'"),
    ("search demo --output_dir {none} --n_trial 3", "'--n_trials'"),
    ("predict {run} {file} --output {none}.jsonl --formatt triples", "'--format'"),
    ("predict {run} {none}.jsonl --output {none}.jsonl", "{none}"),
    ("predict {run}x {file} --output {none}.jsonl", "did you mean 'run'"),
    ("predict {run} {file}x --output {none}.jsonl", "did you mean"),
    ("prepare --source postcards --output_dir {none} --max_sidee 3", "'--max_side'"),
    ("prepare --source postcrds --output_dir {none}", "postcrds"),
    ("audit {run} --confg x", "'--config'"),
    ("audit {none}", "{none}"),
    ("score {run} --otherr x", "'--other'"),
    ("score {none}", "{none}"),
    ("sweep table2 --rowz full", "'--rows'"),
    ("sweep {none}.yaml", "{none}"),
    ("report {run} --output_dir {none} --referense x", "'--reference'"),
    ("report {none} --output_dir {none}", "{none}"),
    ("figures {run} --output_dir {none} --splitt x", "'--split'"),
    ("figures {none} --output_dir {none}", "{none}"),
    ("visual-share {run} --sharess 1", "'--shares'"),
    ("visual-share {none}", "{none}"),
    ("browse {run} --output {none} --worsst 3", "'--worst'"),
    ("browse {none} --output {none}", "{none}"),
    ("export {run} --output_dir {none} --opsett 3", "'--opset'"),
    ("export {none} --output_dir {none}", "{none}"),
    ("export {run}x --output_dir {none}", "did you mean 'run'"),
    ("train demo --dataset {run}x --output_dir {none}", "did you mean 'run'"),
    ("serve {run} --num_replicaz 2", "'--num_replicas'"),
    ("serve {run}x", "did you mean 'run'"),
    ("publish {run} ann/run --privte", "'--private'"),
    ("publish {none} ann/run --dry_run", "{none}"),
]


@pytest.fixture(scope="module")
def names(tmp_path_factory, write_run_files):
    folder = tmp_path_factory.mktemp("mistakes")
    write_run_files(folder / "run")
    (folder / "run" / "config.json").write_text("{}")
    (folder / "file.jsonl").write_text("{}\n")
    return {"run": folder / "run", "file": folder / "file.jsonl", "none": folder / "none"}


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=lambda value: value[:40])
def test_a_mistake_is_one_line_and_exit_code_2(command, said, names, capsys, monkeypatch):
    monkeypatch.chdir(names["run"])
    assert cli.main(command.format(**names).split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vmhan")]
    assert len(lines) == 1 and said.format(**names) in lines[0], lines
    assert not names["none"].exists() or command.startswith("search")


def test_every_command_is_tried():
    assert {command.split()[0] for command, _ in MISTAKES} >= set(cli.COMMANDS)


@pytest.mark.parametrize(
    "module", ["datasets_scripts.prepare", "datasets_scripts.audit", "run_mmre", "vmhan", "vmhan.cli"]
)
def test_the_other_ways_in_do_the_same(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module, "--no_such_flag", "1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1 and "Traceback" not in said


def test_help_has_a_line_each(capsys):
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(any(line.split()[:1] == [name] and len(line.split()) > 3 for line in said) for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyboardInterrupt(), 130), (OSError("a\nb"), 2), (SystemExit(3), None), (RuntimeError(), None)],
)
def test_what_is_not_the_user_s_mistake_is_not_hidden(error, code, capsys):
    def main():
        raise error

    if code is None:
        with pytest.raises(type(error)):
            run_command("vmhan x", main)
    else:
        assert run_command("vmhan x", main) == code
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert run_command("vmhan x", lambda: {"f1": 1.0}) == 0 and run_command("vmhan x", lambda: 1) == 1


def test_settings_of_older_runs_are_read_by_today_s_names():
    old = {"vision_in_model": True, "images": False, "word_vectors": "a.txt", "preset": "full"}
    assert current_settings(old) == {"visual": "pixels", "preset": "full", "model_kwargs": {"word_vectors": "a.txt"}}
    assert current_settings({"no_visual": "True", "vision_in_model": True}) == {"visual": "none"}
    assert current_settings({"no_visual": False, "visual": "features"}) == {"visual": "features"}


ELSEWHERE = """
import contextlib, io, json, sys
import vmhan
from vmhan import cli
from datasets_scripts.configs import find_config

configs = [str(find_config("demo")), str(find_config("table2", "sweeps"))]
said = {"file": vmhan.__file__, "configs": configs, "help": {}}
for name in cli.COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main([name, "--help"])
    said["help"][name] = "usage: " in out.getvalue()
print(json.dumps(said))
"""


def test_the_wheel_has_all_that_the_commands_need_and_they_run_elsewhere(tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = builders.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    inside = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*")}
    assert {f"vmhan/configs/{path.relative_to(CONFIGS).as_posix()}" for path in CONFIGS.rglob("*.yaml")} <= inside
    beside = [path for room in ("vmhan", "model_cards") for path in (ROOT / room).rglob("*") if path.is_file()]
    needed = {path.relative_to(ROOT).as_posix() for path in beside if "__pycache__" not in path.parts}
    assert needed <= inside and {"vmhan/evaluation/browser/browser.js", "model_cards/model_card.md"} <= needed
    assert "vmhan/scoring/mmre_f1/mmre_f1.py" in needed and "vmhan/evaluation/report/reported.csv" in needed
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", ELSEWHERE]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert all(path.startswith(str(tmp_path / "site")) for path in (said["file"], *said["configs"]))
    assert all(said["help"].values()), said["help"]


def test_a_name_that_is_guessed_is_compared_with_few_and_short_ones(monkeypatch):
    compared = []
    monkeypatch.setattr("difflib.SequenceMatcher.ratio", lambda self: compared.append(self.b) or 1.0)
    assert nearest("k" * (LONGEST + 1), ["k" * (LONGEST + 1)]) == "" == nearest("k", ["k" * 10**6])
    assert compared == [] and "photo9" in nearest("photo", (f"photo{i}" for i in range(10**5)))
    assert len(compared) <= 2 * MANY
