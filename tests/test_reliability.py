"""The trials of `make reliability`, a few of them, and that they notice what is wrong."""

import json

import pytest
from paths import ROOT


@pytest.fixture
def modules(monkeypatch):
    """The script and the trials of kills."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "reliability"))
    import kill_trials
    import run

    return run, kill_trials


def test_the_trials_put_their_counts_into_a_page(modules, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- what tests/reliability/run.py found -->\nold\n<!-- end -->\nafter\n")
    names = ["prepare", "fuzz", "rows"]
    options = ["--kills", "1", "--posts", "60", "--page", str(page), "--folder", str(tmp_path / "work")]
    (tmp_path / "work").mkdir()
    assert modules[0].main([*names, *options]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[1:3] for line in rows] == [["1", "1"], ["60", "60"], ["60", "60"]]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text and all(row in text for row in rows)


def test_what_was_not_handled_is_counted(modules, monkeypatch, capsys):
    outcomes = iter([(1, ""), (2, "answers.jsonl: missing"), (1, "")])
    monkeypatch.setattr(modules[0], "trials", lambda *_: {"predict": ("kills", 4, outcomes)})
    assert modules[0].main(["--folder", "unused"]) == 1
    said = capsys.readouterr()
    assert "| kills | 4 | 2 |" in said.out and "answers.jsonl: missing" in said.err


def test_a_trial_that_is_not_there_is_said(modules, tmp_path, capsys):
    with pytest.raises(SystemExit):
        modules[0].main(["predikt", "--folder", str(tmp_path)])
    assert "'predikt'" in capsys.readouterr().err


def test_a_lost_file_and_a_changed_score_are_differences(modules, tmp_path):
    kills = modules[1]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "answers.jsonl").write_text("{}\n" * (1 + (name == "whole")))
        (tmp_path / name / "metrics.json").write_text(json.dumps({"f1": 0.5, "train_runtime": len(name)}))
    expected, found = (kills.outcome(tmp_path / name) for name in ("whole", "killed"))
    assert kills.difference(expected, expected) == ""
    assert kills.difference(expected, found).startswith("answers.jsonl: ")
    assert "stray.part: there for nothing" in kills.difference(expected, expected | {"stray.part": "there"})
