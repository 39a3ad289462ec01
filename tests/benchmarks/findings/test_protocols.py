"""The scores of docs/leaks.md: what the table says of hand-made runs, and that the page has the saved numbers."""

import json

import fake_runs
from paths import ROOT

from benchmarks.findings import protocols
from vmhan.evaluation.figures.data import Scorer


PEER, HOME = "/per/per/peer", "/per/loc/place_of_birth"
GOLD = [PEER, HOME, "None", HOME]


def write_run(folder, predicted):
    rows = [
        {"split": "validation", "id": f"p{i}", "pair": 0, "head": "Ann", "tail": "Bob", "head_span": [0, 1],
         "tail_span": [2, 3], "tail_object": -1, "relation": gold, "predicted": name}
        for i, (gold, name) in enumerate(zip(GOLD, predicted, strict=True))
    ]  # fmt: skip
    fake_runs.write_run(folder, rows, ["None", PEER, HOME], metrics={}, run={}, environment={"git_revision": "abc"})


def test_detection_and_typing_stand_apart_for_each_row_and_protocol(tmp_path):
    write_run(tmp_path / "mnre" / "text" / "seed-1", GOLD)
    write_run(tmp_path / "mnre" / "text" / "seed-2", [HOME, HOME, "None", HOME])  # finds all, calls one otherwise
    write_run(tmp_path / "mnre_order_blind" / "text" / "seed-1", [PEER, "None", "None", "None"])  # finds one of three
    write_run(tmp_path / "mnre_order_blind" / "pcnn" / "seed-1", ["None"] * 4)  # finds nothing to be typed
    found = protocols.measure(tmp_path, Scorer(resamples=50))
    assert found["text"]["mnre"]["environment"] == [{"git_revision": "abc"}] * 2
    rows = [[cell.strip() for cell in line.split("|")[1:-2]] for line in protocols.table(found).splitlines()[2:]]
    assert rows == [
        ["text only, markers", "official", "2", "83.3 (23.6)", "100.0 (0.0)", "83.3 (23.6)"],
        ["text only, markers", "order-blind", "1", "50.0", "50.0", "100.0"],
        ["PCNN", "order-blind", "1", "0.0", "0.0", "–"],
    ]


def test_rows_that_were_measured_before_stay(tmp_path):
    for row, results in (("text", "first"), ("pcnn", "second")):
        write_run(tmp_path / results / "mnre" / row / "seed-1", GOLD)
        protocols.main([str(tmp_path / results), "--output_dir", str(tmp_path)])
    assert list(json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["rows"]) == ["text", "pcnn"]


def test_the_table_of_the_page_is_that_of_the_saved_scores():
    path = ROOT / "docs/leaks/scores.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert protocols.table(found) in (ROOT / "docs/leaks.md").read_text(encoding="utf-8")
