"""The report: numbers against hand-computed ones, its files, and the paper's numbers beside ours."""

import csv
import json
import re
import sys
from dataclasses import replace

import fake_runs
import pytest
import yaml
from paths import PAPER

from vmhan import cli
from vmhan.evaluation.report import command as report
from vmhan.evaluation.report.reported import ReportedRow, inconsistencies, read_reported, read_systems
from vmhan.evaluation.report.rows import METRICS, compare, holm, read_row, statement
from vmhan.scoring import score


LABELS = ["a", "None", "b"]
GOLD = ["a", "a", "b", "None", "None"] * 8
# right on 16 of 24 positives, 20 claimed: P 0.8, R 2/3, F1 8/11; accuracy 28 of 40
GOOD = ["a", "a", "None", "None", "None"] * 4 + ["a", "a", "None", "None", "b"] * 4
# right on 8 of 24, 16 claimed: P 0.5, R 1/3, F1 0.4; accuracy 24 of 40
BAD = ["a", "b", "None", "None", "None"] * 8


def write_run(folder, predicted, *, leaky=False, config=None, training=None, data=None, **metrics):
    """A finished run's folder, its scores counted here by hand."""
    pairs = list(zip(GOLD, predicted, strict=True))
    right, claimed = sum(g == p != "None" for g, p in pairs), sum(p != "None" for p in predicted)
    scores = {"accuracy": sum(g == p for g, p in pairs) / 40, "precision": right / claimed, "recall": right / 24}
    scores["f1"] = 2 * right / (claimed + 24)
    places = [{"split": "test", "id": str(i // 2), "pair": i % 2} for i in range(len(pairs))]
    rows = [place | {"relation": g, "predicted": p} for place, (g, p) in zip(places, pairs)]
    files = {"environment": {"git_revision": "0123456789abcdef", "git_dirty": True}, "config": config or {}}
    files["metrics"] = {f"test_{name}": value for name, value in scores.items()} | {"leaky": leaky, **metrics}
    if data is not None:
        files["run"] = {"data": data, "training": training or {}}
    fake_runs.write_run(folder, rows, LABELS, **files)


@pytest.fixture
def results(tmp_path):
    """Two seeds of `full`, one of `worse`, which leaks, two of `twin`, whose predictions are full's."""
    folder = tmp_path / "results" / "cards"
    visual, training = {"visual_feature_size": 8, "num_objects": 3}, {"load_best_model_at_end": True}
    write_run(folder / "full" / "seed-1", GOOD, config=visual, training=training, data={}, protocol="official")
    write_run(folder / "full" / "seed-2", BAD)
    write_run(folder / "twin" / "seed-1", GOOD, data={})
    write_run(folder / "twin" / "seed-2", BAD)
    write_run(folder / "worse" / "seed-1", BAD, leaky=True, leak_reasons=["reads mre_*_dict.pth"])
    rows = {"full": {"title": "VM-HAN"}, "twin": {"preset": "no_image_llm"}, "worse": {"title": "50 % & _less_ {}"}}
    rows["absent"] = {"preset": "gcn"}
    (tmp_path / "base.yaml").write_text("seed: 1\n")
    data = {"config": "base.yaml", "notes": {"twin": "Cards have no such phrases."}}
    content = {"datasets": {"cards": data}, "rows": rows, "seeds": [1, 2]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@pytest.fixture
def made(results, tmp_path, capsys):
    """The report's files by name."""
    flags = ["--rows", str(tmp_path / "sweep.yaml"), "--resamples", "200", "--output_dir", str(tmp_path / "out")]
    report.main([str(results), *flags, "--reported", "table1", "table2"])
    assert capsys.readouterr().out.startswith("# cards, test split")
    return {path.name: path for path in (tmp_path / "out").iterdir()}


def test_means_and_deviations_are_those_by_hand(made):
    full, twin, worse, *_ = json.loads(made["table.json"].read_text())["rows"]
    assert full["f1"] == pytest.approx((8 / 11 + 0.4) / 2)
    assert full["f1_deviation"] == pytest.approx((8 / 11 - 0.4) / 2**0.5)  # of two values
    assert full["accuracy"] == pytest.approx(0.65) and full["precision"] == pytest.approx(0.65)
    assert full["recall"] == pytest.approx(0.5) and full["difference"] is None
    assert worse["f1_deviation"] is None and worse["missing"] == [2]
    assert worse["difference"] == pytest.approx(0.4 - (8 / 11 + 0.4) / 2)
    assert worse["difference_low"] <= worse["difference"] <= worse["difference_high"]
    assert full["f1_low"] <= full["f1"] <= full["f1_high"]
    assert twin["identical"] and twin["p_holm"] == 1.0 and not worse["identical"]


def test_the_files_have_the_same_numbers_and_reported_ones_stand_apart(made):
    text = made["table.md"].read_text()
    measured, beside = text.split("## Beside the paper")
    for value in ("56.36 (23.14)", "-16.36", "+0.00", "40 pairs of 20 sentences", "reads mre_*_dict.pth"):
        assert value in measured
    assert "Protocol: official." in measured and "The epoch of VM-HAN alone was selected on validation." in measured
    assert "-0.00" not in text and "†" not in measured and "PCNN" not in measured
    assert (
        "| PCNN | not run | *72.67*†" in beside
        and "| HVFormer | not run | –" in beside
        and "| DGF-PT | not built |" in beside
    )
    rows = list(csv.DictReader(made["table.csv"].open()))
    own, others = rows[:3], rows[3:]
    assert [row["row"] for row in own] == ["full", "twin", "worse"] and own[2]["f1"] == "0.400000"
    assert {row["kind"] for row in own} == {"measured"} and own[2]["difference"] == "-0.163636"
    assert {row["kind"] for row in others} == {"reported"} and len(others) == len(read_reported())
    assert not any(row["p"] or row["difference"] or row["n"] for row in others)
    assert made["figure.png"].read_bytes().startswith(b"\x89PNG")


def test_the_latex_is_well_formed(made):
    """Every row has the columns of its tabular, braces are balanced, and nothing special is left as it is."""
    text = made["table.tex"].read_text()
    assert r"50 \% \& \_less\_ \{\}" in text and r"\textit{85.80$^\dagger$}" in text
    tabulars = re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, flags=re.S)
    for tabular in tabulars:
        columns = len(re.search(r"tabular\}\{(\w+)\}", tabular).group(1))
        lines = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 for line in lines) and len(lines) > 3
        bare = re.sub(r"\\[\\{}&%$#_]", "", tabular)
        assert bare.count("{") == bare.count("}") and not re.search("[%#_~–†]", bare) and bare.count("$") % 2 == 0
    assert len(tabulars) == 2


def test_only_the_pairs_of_a_group_count(tmp_path, capsys):
    """Sentence 0 has three pairs, of which `good` finds two; the other sentences have one, and it finds none."""
    for name, predicted in {"good": "aa" + "None " * 2, "none": "None " * 4}.items():
        predicted = predicted.replace("aa", "a a ").split()
        places = [("0", 0), ("0", 1), ("0", 2), ("1", 0)]
        rows = [
            {"split": "test", "id": post, "pair": pair, "relation": "a", "predicted": label}
            for (post, pair), label in zip(places, predicted, strict=True)
        ]
        f1 = 2 * 2 / (2 + 4) if name == "good" else 0.0
        fake_runs.write_run(tmp_path / "cards" / name / "seed-1", rows, ["None", "a"], metrics={"test_f1": f1})
    asked = [str(tmp_path / "cards"), "--reference", "none", "--resamples", "9", "--output_dir", str(tmp_path / "out")]
    report.main([*asked, "--only", "pairs of the sentence", "3+"])
    told = capsys.readouterr().out
    assert "3 pairs of 1 sentences. Only pairs of one group: pairs of the sentence: 3+." in told
    (good, none) = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert good["f1"] == pytest.approx(2 * 2 / (2 + 3)) and none["f1"] == 0
    assert good["difference"] == pytest.approx(0.8)
    for wrong, match in (("pairs", "pairs of the sentence"), ("pairs of the sentence", r"\['1', '3\+'\]")):
        with pytest.raises(ValueError, match=f"--only.*{match}.*received '(2|pairs)'"):
            report.main([*asked, "--only", wrong, "2"])


def test_what_cannot_be_reported_is_an_error(results, tmp_path, capsys, monkeypatch):
    options = {"title": "x", "split": "test", "resamples": 9}
    rows = [read_row(results / "full", **options)]
    with pytest.raises(ValueError, match=r"--reference: .*\['full'\], not 'gcn'"):
        compare(rows, "gcn", resamples=9)
    with pytest.raises(ValueError, match="'validation'"):
        read_row(results / "full", **{**options, "split": "validation"})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # the tables are written all the same
    report.main([str(results), "--resamples", "9", "--output_dir", str(tmp_path / "bare")])
    assert {path.suffix for path in (tmp_path / "bare").iterdir()} == {".md", ".csv", ".tex", ".json"}
    assert cli.main(["report", str(results), "--rows", "full", "gcn", "--output_dir", str(tmp_path / "out")]) == 2
    assert "none of ['gcn']" in capsys.readouterr().err and not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: .* received none"):
        report.main([str(tmp_path / "empty"), "--output_dir", str(tmp_path / "out")])
    metrics = results / "full" / "seed-1" / "metrics.json"
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "test_f1": 0.9}))
    with pytest.raises(ValueError, match="test_f1 .* 0.727273, received 0.9"):
        read_row(results / "full", **options)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"max_steps": 40, "seed": 1}, {"max_steps": "41", "seed": 2}, "max_steps: 40 and 41"),
        ({"preset": "gcn"}, {}, "preset: gcn and nothing"),
        ({"learning_rate": 0.0001, "seed": 1}, {"learning_rate": "1e-4", "seed": 2}, None),
    ],
)
def test_seeds_of_other_settings_are_told(results, tmp_path, capsys, caplog, first, second, said):
    for seed, settings in enumerate((first, second), start=1):
        write_run(results / "mixed" / f"seed-{seed}", GOOD, data={})
        (results / "mixed" / f"seed-{seed}" / "settings.json").write_text(json.dumps({"settings": settings}))
    output = ["--resamples", "20", "--output_dir", str(tmp_path / "out")]
    seeds = [str(results / "mixed" / f"seed-{seed}") for seed in (1, 2)]
    report.main([str(results), "--rows", "full", "mixed", *output])
    score.main(seeds)
    told = [record.getMessage() for record in caplog.records if "different settings" in record.getMessage()]
    assert all(said in message for message in told) and len(told) == (2 if said else 0)
    assert capsys.readouterr().out.count(f"differ in more: {said}") == bool(said)


def test_what_a_row_reads_is_told_by_its_config(tmp_path):
    visual, phrases = {"visual_feature_size": 8, "num_objects": 3}, {"num_image_phrases": 2}
    for i, (config, data, inputs) in enumerate(
        [
            (phrases, {"dataset": "mnre", "captions": "llava_next"}, "text, image phrases"),
            (phrases, {"dataset": "mnre"}, "text"),
            (visual | phrases, {"dataset": "my_posts"}, "text, image, objects, image phrases"),
            (visual | {"num_objects": 0}, {"dataset": "postcards"}, "text, image"),
            (visual, {"shuffled_images": 0}, "text, image, objects; the pictures are of other posts"),
        ]
    ):
        write_run(tmp_path / str(i) / "seed-1", GOOD, config=config, data=data)
        assert read_row(tmp_path / str(i), title="", split="test", resamples=10).inputs == inputs


def test_a_title_says_what_the_data_did_not_have(tmp_path):
    write_run(tmp_path / "moreformer" / "seed-1", GOOD, without="depth", data={})
    row = read_row(tmp_path / "moreformer", title="MOREformer", split="test", resamples=10)
    assert row.title == "MOREformer without depth"


def test_holm_by_hand_and_what_is_said_of_it(results):
    """4 tests: the smallest p times 4, the next times 3 and so on, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
    full = read_row(results / "full", title="VM-HAN", split="test", resamples=9)
    for difference, p, words in [
        (-0.05, 0.01, "VM-HAN beats other .*5.00 .*-7.00 .*-2.00.*0.01"),
        (0.05, 0.01, "other beats VM-HAN .*5.00 .*2.00 .*7.00.*0.01"),
        (-0.05, 0.2, "not significantly different.* VM-HAN .*5.00"),
    ]:
        ends = {"difference": difference, "difference_low": 0.02, "difference_high": 0.07, "p_holm": p}
        assert re.search(words, statement(replace(full, title="other", **ends), full))


def test_every_reported_value_stands_at_its_line_of_the_paper():
    if not PAPER.is_file():
        pytest.skip(f"the paper is not at {PAPER}")
    lines = PAPER.read_text(encoding="utf-8").split("\n")
    rows = read_reported()
    for row in rows:
        cells = lines[row.line - 1].split("\t")
        name = 1 if row.table == "table1" else 0
        first = name + 1 + {"table1": 4, "table2": 5}[row.table] * (row.dataset == "more")
        assert re.sub(r"\s*\[.*", "", cells[name]) == row.row
        for metric, value in row.values.items():
            measure, _, kind = metric.partition("_")
            column = first + (4 if measure == "average" else METRICS.index(measure))
            printed = re.findall(r"\d+\.\d\d", cells[column])
            assert printed[kind == "increase"] == f"{value:.2f}", (row, metric)
    printed = sum(len(re.findall(r"\d+\.\d\d", lines[number - 1])) for number in {row.line for row in rows})
    assert printed == sum(len(row.values) for row in rows)  # none is left out
    assert len({(row.table, row.row) for row in rows}) == 18 + 14
    for table, systems in read_systems().items():
        assert list(systems) == list(dict.fromkeys(row.row for row in rows if row.table == table))


def test_inconsistencies_are_computed():
    def row(name="x", **values):
        return ReportedRow("table1", name, "mnre", values, 1)

    assert inconsistencies(row(precision=80.0, recall=60.0, f1=68.57), []) == []  # 68.571
    assert inconsistencies(row(precision=80.0, recall=60.0, f1=69.0), []) == [
        "F1 69.00, but precision and recall give 68.57"
    ]
    table = [row("worst", f1=10.0), row("best", f1=20.0), row("ours", f1=25.0, f1_increase=15.0)]
    assert inconsistencies(table[2], table) == ["f1 increase 15.00, but 5.00 over best"]
    full = row("VM-HAN (Ours)", **dict.fromkeys(METRICS, 50.0))
    less = row("less", **dict.fromkeys(METRICS, 48.0), average_decrease=3.0)
    assert "average decrease 3.00, but the four metrics give 2.00" in inconsistencies(less, [full, less])
