"""Figures from hand-made runs whose F1 in each group is known, and the command from folders to pictures."""

import hashlib
import json
import sys
from xml.etree import ElementTree

import fake_runs
import pytest
from PIL import Image

from vmhan.evaluation.figures.command import folders_of_results, folders_of_runs, main
from vmhan.evaluation.figures.data import (
    Scorer,
    calibration,
    detection,
    grouped,
    grouped_panel,
    time_against_f1,
    visual_shares,
)
from vmhan.evaluation.figures.drawing import draw_figure
from vmhan.evaluation.figures.error_detection import error_detection
from vmhan.scoring.systems import read_systems


PEER, HOME, LIVES = "/per/per/peer", "/per/loc/place_of_birth", "/per/loc/place_of_residence"
LABELS = ["None", PEER, HOME, LIVES]
SCORER = Scorer(resamples=50)
# (post, head, tail, spans, gold): one post of three pairs, one of two, two of one
PAIRS = [
    ("a", "Ann", "Bob", ([0, 1], [2, 3]), PEER),
    ("a", "Ann", "Oslo", ([0, 1], [4, 5]), HOME),
    ("a", "Bob", "Oslo", ([2, 3], [4, 5]), "None"),
    ("b", "Bob", "Bob Haas", ([3, 4], [3, 5]), PEER),
    ("b", "Cy", "Rome", ([5, 6], [0, 1]), LIVES),
    ("c", "Dan", "Paris", ([0, 1], [4, 5]), HOME),
    ("d", "Eve", "Fay", ([0, 1], [4, 5]), "None"),
]
RIGHT = [gold for *_, gold in PAIRS]


def write_run(folder, predicted, *, pairs=PAIRS, labels=LABELS, model=None, data=None, shares=None, **metrics):
    """A finished run's folder; `shares`: {share: predicted} of visual_share.json."""
    rows, numbers = [], {}
    for (post, head, tail, spans, gold), name in zip(pairs, predicted, strict=True):
        number = numbers[post] = numbers.get(post, -1) + 1
        row = {"split": "test", "id": post, "pair": number, "head": head, "tail": tail, "tail_object": -1}
        row |= {"head_span": spans[0], "tail_span": spans[1], "relation": gold, "predicted": name, "score": 0.7}
        row["probabilities"] = [0.7 if label == name else 0.3 / (len(labels) - 1) for label in labels]
        rows.append(row)
    run = {"model": {"preset": "full"} | (model or {}), "data": data or {}, "training": {}}
    fake_runs.write_run(folder, rows, labels, metrics=metrics, run=run)
    if shares is not None:
        digest = hashlib.sha256((folder / "predictions.jsonl").read_bytes()).hexdigest()
        entries = [{"split": "test", "seed": 0, "share": s, "predicted": names} for s, names in shares.items()]
        (folder / "visual_share.json").write_text(json.dumps({"of_predictions": digest, "entries": entries}))
    return folder


def rows_of_results(results, names):
    return read_systems(folders_of_results(results, names), "test")


def rows_of_folders(folders):
    return read_systems(folders_of_runs(folders), "test")


def rows_with(tmp_path, **predicted):
    """Rows by name; each is a list of predictions, one a seed."""
    for name, seeds in predicted.items():
        for seed, names in enumerate(seeds, start=1):
            write_run(tmp_path / name / f"seed-{seed}", names)
    return rows_of_results(tmp_path, list(predicted))


def wrong(*indices):
    """Every pair right but these, which are called none, or peer where none is right."""
    return [("None" if g != "None" else PEER) if i in indices else g for i, g in enumerate(RIGHT)]


def test_each_group_has_its_own_f1(tmp_path):
    """Pairs 0 and 1 of the post with three are wrong; none of the others is."""
    rows = rows_with(tmp_path, good=[RIGHT], bad=[wrong(0)])
    one, two, three = grouped_panel("pairs of the sentence", rows, SCORER)["groups"]
    assert [tuple(g.values())[:4] for g in (one, two, three)] == [("1", 2, 1, 2), ("2", 2, 2, 1), ("3+", 3, 2, 1)]
    assert all(group["rows"]["good"]["f1"] == 1 for group in (one, two, three))
    assert three["rows"]["bad"]["f1"] == pytest.approx(2 / 3)  # one of two found, nothing else claimed
    assert one["rows"]["bad"]["f1"] == two["rows"]["bad"]["f1"] == 1
    seeds = rows_with(tmp_path, full=[RIGHT, wrong(3), RIGHT])
    found = grouped_panel("overlap", seeds, SCORER)["groups"][1]["rows"]["full"]
    assert found["seeds"] == [1, 0, 1] and found["f1"] == pytest.approx(2 / 3)
    assert found["low"] <= found["f1"] <= found["high"]


def test_figure_3_by_hand(tmp_path):
    """Bob is in three pairs, Ann in two, Cy, Dan and Eve in one."""
    rows = rows_with(tmp_path, full=[wrong(0, 1)])
    figure = grouped("Figure 3", "entities", ("repetition", "entity types"), rows, SCORER)
    repetition, types = figure["panels"]
    found = {g["group"]: (g["pairs"], g["rows"]["full"]["f1"]) for g in repetition["groups"]}
    assert found == {"1": (3, 1.0), "2": (2, 0.0), "3-5": (2, 1.0)}
    assert "left out: 6+, 0 pairs and none with a relation" in repetition["notes"]
    assert [g["pairs"] for g in types["groups"]] == [6] and "1 of 7 pairs are in no group" in types["notes"]


def test_figure_5_has_the_shares_that_every_seed_was_evaluated_at(tmp_path):
    write_run(tmp_path / "full" / "seed-1", RIGHT, shares={0.0: wrong(0, 1), 0.5: wrong(0), 1.0: RIGHT})
    write_run(tmp_path / "full" / "seed-2", RIGHT, shares={1.0: RIGHT, 0.0: wrong(0, 1, 3, 4, 5)})
    write_run(tmp_path / "bert" / "seed-1", RIGHT)
    figure = visual_shares(rows_of_results(tmp_path, ["full", "bert"]), "test", SCORER)
    (panel,) = figure["panels"]
    assert panel["name"] == "evaluated" and [p["share"] for p in panel["lines"]["full"]] == [0.0, 1.0]
    assert panel["lines"]["full"][0]["seeds"] == [pytest.approx(2 * 3 / (3 + 5)), 0]
    assert panel["lines"]["full"][1]["f1"] == 1
    assert figure["notes"] == ["bert is not in 'evaluated': run vmhan visual-share on all its seeds"]


def test_figure_5_has_lines_of_models_that_were_trained_on_a_share(tmp_path):
    """One line a model, preset and size; none of gcn, which was not trained on a share."""
    small, gcn = {"num_layers": 1}, {"preset": "gcn"}
    half, none = {"visual_share": 0.5}, {"no_visual": True}
    runs = {"full": ({}, {}), "half": ({}, half), "blind": ({}, none), "gcn": (gcn, {}), "gcn_blind": (gcn, none)}
    runs |= {"small": (small, {}), "small_half": (small, half), "twin": ({}, {})}
    for name, (model, data) in runs.items():
        write_run(tmp_path / name, wrong(0), model=model, data=data)
    figure = visual_shares(rows_of_folders(sorted(tmp_path.iterdir())), "test", SCORER)
    (panel,) = figure["panels"]
    points = {name: [(p["share"], p["row"]) for p in line] for name, line in panel["lines"].items()}
    expected = {"full": [(0, "blind"), (0.5, "half"), (1, "full")]}
    expected["full (small)"] = [(0.5, "small_half"), (1, "small")]
    assert panel["name"] == "trained" and points == expected
    assert "twin is not in 'trained': it has the settings of full" in figure["notes"]


def test_figure_6_is_relative_to_bare_bert(tmp_path):
    for name, seconds in {"full": 30.0, "bert": 20.0}.items():
        for seed in (1, 2):
            write_run(tmp_path / name / f"seed-{seed}", RIGHT, train_seconds_per_epoch=seconds + seed)
    write_run(tmp_path / "old" / "seed-1", RIGHT)
    figure = time_against_f1(rows_of_results(tmp_path, ["full", "bert", "old"]), SCORER)
    (panel,), points = figure["panels"], figure["panels"][0]["points"]
    assert panel["reference"] == "bert" and points["full"]["seconds"] == 31.5
    assert points["full"]["relative"] == pytest.approx(31.5 / 21.5) and points["bert"]["relative"] == 1
    assert list(points) == ["full", "bert"] and "old" in figure["notes"][0]
    (full, bert) = rows_of_results(tmp_path, ["full", "bert"])
    (panel,) = time_against_f1([full], SCORER, bert)["panels"]
    assert panel["points"]["full"]["relative"] == pytest.approx(31.5 / 21.5)
    (panel,) = time_against_f1([full], SCORER)["panels"]  # without a reference in seconds
    assert panel["reference"] is panel["points"]["full"]["relative"] is None


def test_detection_and_typing_by_hand(tmp_path):
    """Of five relations four are found, one of them as the wrong one; one pair too many is claimed."""
    predicted = [PEER, LIVES, PEER, "None", LIVES, HOME, "None"]
    rows = rows_with(tmp_path, full=[predicted])
    found, typed = (panel["rows"]["full"] for panel in detection(rows, SCORER)["panels"])
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((4 / 5, 4 / 5, 4 / 5))
    assert typed["accuracy"] == pytest.approx(3 / 4) and typed["pairs"] == 4
    assert typed["low"] <= typed["accuracy"] <= typed["high"]
    rows = rows_with(tmp_path, seeds=[[PEER, LIVES, *["None"] * 5], RIGHT])  # seeds that find different pairs
    typed = detection(rows, SCORER)["panels"][1]["rows"]["seeds"]
    assert typed["seeds"] == [1 / 2, 1] and typed["accuracy"] == 3 / 4 and typed["pairs"] == (2 + 5) / 2


def test_what_a_run_lacks_is_left_out_and_noted(tmp_path):
    """No relation found: no typing. Labels without types: no panel of them. No probabilities: no calibration."""
    (row,) = rows_with(tmp_path, full=[["None"] * 7])
    figure = detection([row], SCORER)
    assert [panel["name"] for panel in figure["panels"]] == ["detection"] and "full" in figure["notes"][0]
    for pair in row.predictions[0].rows:
        del pair["probabilities"]
        pair["relation"] = pair["relation"].rpartition("/")[2]
    row.predictions[0].labels[:] = [label.rpartition("/")[2] for label in LABELS]
    figure = grouped("Figure 3", "", ("repetition", "entity types"), [row], SCORER)
    assert [panel["name"] for panel in figure["panels"]] == ["repetition"] and "7 of 7" in figure["notes"][0]
    figure = calibration([row])
    assert figure["panels"] == [] and "full" in figure["notes"][0]


def test_a_run_without_run_json_is_in_no_line_of_trained_systems(tmp_path):
    folder = write_run(tmp_path / "cut_short", RIGHT)
    (folder / "run.json").unlink()
    figure = visual_shares(rows_of_folders([folder]), "test", SCORER)
    assert figure["panels"] == [] and "cut_short is not in 'trained'" in figure["notes"][-1]


def test_calibration_pools_the_seeds_and_averages_their_errors(tmp_path):
    """Every confidence is 0.7; all of seven right, and five of seven."""
    rows = rows_with(tmp_path, full=[RIGHT, wrong(0, 1)])
    (panel,) = calibration(rows)["panels"]
    (found,) = panel["rows"]["full"]["bins"]
    assert (found["pairs"], found["accuracy"]) == (14, pytest.approx(12 / 14)) and found["low"] <= 0.7 <= found["high"]
    assert panel["rows"]["full"]["seeds"] == pytest.approx([0.3, 5 / 7 - 0.7])
    assert panel["rows"]["full"]["ece"] == pytest.approx((0.3 + 5 / 7 - 0.7) / 2)


def test_runs_that_cannot_be_compared_are_errors(tmp_path):
    folders = [write_run(tmp_path / place / "full" / "seed-1", RIGHT) for place in ("x", "y")]
    second = write_run(tmp_path / "x" / "full" / "seed-2", RIGHT)
    assert [(row.name, len(row.folders)) for row in rows_of_folders([folders[0], second])] == [("full", 2)]
    with pytest.raises(ValueError, match="different names.*x/full"):
        rows_of_folders(folders)
    less = write_run(tmp_path / "x" / "less", RIGHT[1:], pairs=PAIRS[1:])
    with pytest.raises(ValueError, match=r"full/seed-1.* and .*less.*\('test', 'a', 0\)"):
        rows_of_folders([folders[0], less])
    with pytest.raises(ValueError, match=r"rows \['less'\]: .* Rows there: \['full'\]"):
        rows_of_results(tmp_path / "x", ["full", "less"])
    for flags in (
        [],
        ["--results", "x"],
        ["a", "--results", "x", "--rows", "full"],
        ["a", "--rows", "full"],
        ["a", "--results", "x"],
    ):
        with pytest.raises(ValueError, match="--results .* and --rows"):
            main([*flags, "--output_dir", str(tmp_path)])


def test_a_panel_of_risk_and_coverage_has_every_uncertainty_of_all_seeds(tmp_path):
    """One wrong answer, of which the variance knows; all confidences are 0.7."""
    rows = rows_with(tmp_path, full=[wrong(0), wrong(0)], bert=[RIGHT])
    for run in rows[0].predictions:
        for number, pair in enumerate(run.rows):
            pair["summed_variance"] = 9.0 - number
    rows[0].predictions[0].rows[3]["mutual_information"] = 0.1  # of one pair of one seed
    full, bert = error_detection(rows, resamples=20)["panels"]
    assert (full["name"], full["seeds"]) == ("full", 2) and list(bert["lines"]) == ["least_confidence", "entropy"]
    assert list(full["lines"]) == ["least_confidence", "entropy", "summed_variance"]
    assert full["scores"]["summed_variance"]["auroc"]["value"] == 1 and bert["scores"]["entropy"]["auroc"] is None
    assert full["scores"]["least_confidence"]["auroc"]["value"] == 0.5
    assert full["scores"]["summed_variance"]["aurc"]["value"] == pytest.approx(1 / 7 / 7)
    assert full["lines"]["summed_variance"][-1]["risk"] == pytest.approx(1 / 7)
    for run in rows[1].predictions:
        del run.rows[0]["probabilities"]
    figure = error_detection(rows[1:], resamples=20)
    assert figure["panels"] == [] and "bert" in figure["notes"][0]


NAMES = ["calibration", "detection", "error_detection", "fig3_entities", "fig4_sentences", "fig5_visual_share"]
NAMES += ["fig6_time", "spans"]


def test_the_command_writes_every_figure_as_data_and_pictures(tmp_path, monkeypatch, caplog):
    """The same data give the same bytes; without matplotlib the data are written all the same."""
    shares = {0.0: wrong(0, 1), 1.0: RIGHT}
    write_run(tmp_path / "r" / "full" / "seed-1", RIGHT, shares=shares, train_seconds_per_epoch=3.0)
    write_run(tmp_path / "r" / "bert" / "seed-1", wrong(0, 5), shares=shares, train_seconds_per_epoch=2.0)
    flags = ["--results", str(tmp_path / "r"), "--rows", "full", "--reference", "bert", "--resamples", "20"]
    main([*flags, "--output_dir", str(tmp_path / "out")])
    folder = tmp_path / "out" / "figures"
    files = {f"{name}.{kind}" for name in NAMES for kind in ("json", "png", "svg")}
    assert {path.name for path in folder.iterdir()} == files
    for name in NAMES:
        data = json.loads((folder / f"{name}.json").read_text())
        assert data["split"] == "test" and list(data["runs"]) == ["full"] and data["panels"]
        assert data["interval"]["resamples"] == 20
        assert len(Image.open(folder / f"{name}.png").convert("RGB").getcolors(1 << 24)) > 5
        assert "full" in "".join(ElementTree.parse(folder / f"{name}.svg").getroot().itertext())
    (panel,) = json.loads((folder / "fig6_time.json").read_text())["panels"]
    assert panel["reference"] == "bert" and panel["points"]["full"]["relative"] == 1.5
    again = draw_figure(json.loads((folder / "detection.json").read_text()), tmp_path / "again", "test split")
    once = draw_figure(json.loads((folder / "detection.json").read_text()), tmp_path / "once", "test split")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in once]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    main([*flags, "--output_dir", str(tmp_path / "bare")])
    assert {path.name for path in (tmp_path / "bare" / "figures").iterdir()} == {f"{name}.json" for name in NAMES}
    assert "vmhan[report]" in caplog.text
