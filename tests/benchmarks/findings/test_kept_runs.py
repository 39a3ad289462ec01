"""Runs of other times stand beside new ones as if all had run at once, though no text of the data was kept."""

import json
import shutil

import fake_runs
import pytest

from benchmarks.findings import kept_runs
from vmhan.evaluation.report import command as report


PEER, HOME = "/per/per/peer", "/per/loc/place_of_birth"
GOLD = [PEER, HOME, "None", HOME]
OTHERS = [PEER, "None", "None", HOME]


def write_run(results, row, seed, predicted, gold=GOLD):
    rows = [
        {"split": "validation", "id": f"post{i}", "pair": 0, "head": "Ann", "tail": "Bob", "head_span": [0, 1],
         "tail_span": [2, 3], "tail_object": -1, "relation": of_pair, "predicted": label}
        for i, (of_pair, label) in enumerate(zip(gold, predicted, strict=True))
    ]  # fmt: skip
    right = sum(a == b != "None" for a, b in zip(gold, predicted, strict=True))
    f1 = 2 * right / sum(label != "None" for label in [*gold, *predicted])
    about = {"metrics": {"validation_f1": f1}, "run": {"seed": seed}, "environment": {"git_revision": "abc"}}
    folder = results / "mnre" / row / f"seed-{seed}"
    fake_runs.write_run(folder, rows, ["None", PEER, HOME], settings={"row": row}, **about)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    """Of JSON files, whose lines are JSON as well in a .jsonl."""
    rows = lambda name, data: data.splitlines() if name.endswith("l") else [data]  # noqa: E731
    return {name: [json.loads(row) for row in rows(name, data)] for name, data in files_of(folder).items()}


def test_a_kept_run_is_restored_beside_one_of_its_data_set(tmp_path):
    whole, later, kept = tmp_path / "whole", tmp_path / "later", tmp_path / "kept"
    for row, seed, predicted in (("text", 1, GOLD), ("text", 2, OTHERS), ("pcnn", 1, OTHERS)):
        write_run(whole, row, seed, predicted)
    kept_runs.main(["keep", str(whole), str(kept)])
    assert sorted(files_of(kept)) == ["mnre/pcnn/seed-1.json", "mnre/text/seed-1.json", "mnre/text/seed-2.json"]
    for content in files_of(kept).values():
        assert not any(text in content for text in (b"Ann", b"Bob", b"post0"))
    shutil.copytree(whole / "mnre/text/seed-1", later / "mnre/text/seed-1")
    kept_runs.main(["restore", str(later), str(kept)])
    assert contents(later) == contents(whole)
    tables = []
    for results in (whole, later):
        report.main([str(results / "mnre"), "--split", "validation", "--output_dir", str(tmp_path / "report")])
        tables.append((tmp_path / "report" / "table.csv").read_bytes())
    assert tables[0] == tables[1] and b"pcnn" in tables[0]


def test_a_run_about_other_pairs_is_refused_and_one_of_another_data_set_waits(tmp_path, caplog):
    write_run(tmp_path / "first", "text", 1, GOLD)
    kept_runs.keep(tmp_path / "first", tmp_path / "kept")
    write_run(tmp_path / "other", "text", 2, GOLD[:3], gold=GOLD[:3])
    with pytest.raises(ValueError, match="seed-1.json.*pairs and labels"):
        kept_runs.restore(tmp_path / "other", tmp_path / "kept")
    (tmp_path / "empty" / "more").mkdir(parents=True)
    kept_runs.restore(tmp_path / "empty", tmp_path / "kept")
    assert "left out" in caplog.text and not files_of(tmp_path / "empty")
