"""vmhan.evaluation.report.command: numbers against hand-computed ones, its files, and the paper's numbers beside ours."""

import csv
import json
import re
import sys
from dataclasses import replace

import pytest
import yaml
from paths import PAPER

from vmhan import cli
from vmhan.evaluation.report import command as report
from vmhan.evaluation.report.reported import METRICS, ReportedRow, inconsistencies, read_reported, read_systems
from vmhan.evaluation.report.rows import compare, holm, read_row, statement
from vmhan.scoring.bootstrap import PairedResult


LABELS = ["a", "None", "b"]
GOLD = ["a", "a", "b", "None", "None"] * 8
# right on 16 of 24 positives, 20 claimed: P 0.8, R 2/3, F1 8/11; accuracy 28 of 40
GOOD = ["a", "a", "None", "None", "None"] * 4 + ["a", "a", "None", "None", "b"] * 4
# right on 8 of 24, 16 claimed: P 0.5, R 1/3, F1 0.4; accuracy 24 of 40
BAD = ["a", "b", "None", "None", "None"] * 8


def write_run(folder, predicted, *, leaky=False, settings=None, **metrics):
    """A finished run's folder, its scores counted here by hand."""
    pairs = list(zip(GOLD, predicted, strict=True))
    right, claimed = sum(g == p != "None" for g, p in pairs), sum(p != "None" for p in predicted)
    scores = {"accuracy": sum(g == p for g, p in pairs) / 40, "precision": right / claimed, "recall": right / 24}
    scores["f1"] = 2 * right / (claimed + 24)
    rows = [
        {"split": "test", "id": str(i // 2), "pair": i % 2, "relation": g, "predicted": p}
        for i, (g, p) in enumerate(pairs)
    ]
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS)), "none_label": "None"}))
    (folder / "environment.json").write_text(json.dumps({"git_revision": "0123456789abcdef", "git_dirty": True}))
    numbers = {f"test_{name}": value for name, value in scores.items()} | {"leaky": leaky, **metrics}
    (folder / "metrics.json").write_text(json.dumps(numbers))
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps({"settings": settings}))


@pytest.fixture
def results(tmp_path):
    """Two seeds of `full`, one of `worse & worst`, which leaks, two of `twin`, whose predictions are full's."""
    folder = tmp_path / "results" / "cards"
    settings = {"features": "random:0", "load_best_model_at_end": True}
    write_run(folder / "full" / "seed-1", GOOD, settings=settings)
    write_run(folder / "full" / "seed-2", BAD)
    write_run(folder / "twin" / "seed-1", GOOD, settings={**settings, "no_visual": True})
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
    assert report.main([str(results), *flags, "--reported", "table1", "table2"]) == 0
    assert capsys.readouterr().out.startswith("# cards, test split")
    return {path.name: path for path in (tmp_path / "out").iterdir()}


def test_means_and_deviations_are_those_by_hand(made):
    full, twin, worse = json.loads(made["table.json"].read_text())["measured"]
    assert full["mean"]["f1"] == pytest.approx((8 / 11 + 0.4) / 2)
    assert full["deviation"]["f1"] == pytest.approx((8 / 11 - 0.4) / 2**0.5)  # of two values
    assert full["mean"]["accuracy"] == pytest.approx(0.65) and full["mean"]["precision"] == pytest.approx(0.65)
    assert full["mean"]["recall"] == pytest.approx(0.5) and full["reference_minus_row"] is None
    assert worse["deviation"]["f1"] is None and worse["missing"] == [2]
    assert worse["reference_minus_row"]["difference"] == pytest.approx((8 / 11 + 0.4) / 2 - 0.4)
    assert full["f1_interval"]["low"] <= full["mean"]["f1"] <= full["f1_interval"]["high"]
    assert twin["identical"] and twin["adjusted_p"] == 1.0 and not worse["identical"]


def test_the_markdown_says_it_all(made):
    text = made["table.md"].read_text()
    assert "| VM-HAN | 2 | 65.00 (7.07) | 65.00 (21.21) | 50.00 (23.57) | 56.36 (23.14) |" in text
    assert "| 50 % & _less_ {} | 1 (seed 2 missing) | 60.00 | 50.00 | 33.33 | 40.00 |" in text and "| -16.36 |" in text
    assert "VM-HAN and twin predict the same for every pair: these data cannot tell them apart. Cards have" in text
    assert (
        "- VM-HAN beats 50 % & _less_ {} by 16.36 (" in text
        or "VM-HAN and 50 % & _less_ {} are not told apart" in text
    )
    assert "40 pairs of 20 sentences" in text and "Holm-corrected over the 2 other rows" in text
    assert "The epoch was selected on validation. Code: 0123456789ab (changed)." in text
    assert "50 % & _less_ {} leaks: reads mre_*_dict.pth." in text and "+0.00" in text and "-0.00" not in text
    assert "| text, image, objects | no |" in text and "| text | no |" in text and "| not recorded | yes |" in text


def test_the_csv_has_the_same_numbers_and_marks_the_reported_ones(made):
    rows = list(csv.DictReader(made["table.csv"].open()))
    measured = [row for row in rows if row["kind"] == "measured"]
    assert [row["row"] for row in measured] == ["full", "twin", "worse"] and measured[2]["f1"] == "0.400000"
    assert float(measured[2]["difference"]) == pytest.approx(-0.163636, abs=1e-6)
    others = rows[len(measured) :]
    assert {row["kind"] for row in others} == {"reported"} and len(others) == len(read_reported())
    assert not any(row["p"] or row["difference"] or row["n"] for row in others)
    assert all(re.fullmatch(r"the paper, table[12], line \d+", row["source"]) for row in others)


def test_the_latex_is_well_formed(made):
    """Every row has the columns of its tabular, braces are balanced, and nothing special is left as it is."""
    text = made["table.tex"].read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\midrule") == 2
    assert r"50 \% \& \_less\_ \{\}" in text and r"\textit{85.80$^\dagger$}" in text
    for tabular in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, flags=re.S):
        columns = len(re.search(r"tabular\}\{(\w+)\}", tabular).group(1))
        lines = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 for line in lines) and len(lines) > 3
        bare = re.sub(r"\\[\\{}&%$#_]", "", tabular)
        depth = 0
        for character in bare:
            depth += (character == "{") - (character == "}")
            assert depth >= 0
        assert depth == 0 and not re.search("[%#_~–†]", bare) and bare.count("$") % 2 == 0


def test_reported_numbers_stand_apart(made):
    """In a table behind everything that was measured, in the paper's order, each with its mark."""
    measured, beside = made["table.md"].read_text().split("## Beside the paper")
    assert "†" not in measured and "PCNN" not in measured
    lines = [line for line in beside.splitlines() if line.startswith("| ")][2:]
    systems = read_systems()
    assert [line.split(" | ")[0][2:] for line in lines] == [*systems["table1"], *systems["table2"]]
    for line in lines:
        cells = line.strip("| ").split(" | ")
        assert all(re.fullmatch(r"\*\d+\.\d\d\*†|–", cell) for cell in cells[2:10]), cells
    assert "| HVFormer | not built | –" in beside and "| PCNN | not run | *72.67*†" in beside
    assert "HVPNet: leaks: yes (github.com/zjunlp/HVPNeT" in beside and "TMR*: leaks: yes" in beside
    assert "computed, MNRE: F1 81.85, but precision and recall give 82.19" in beside


def test_the_picture_is_drawn(made):
    assert made["figure.png"].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_tables_are_written(results, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert report.main([str(results), "--resamples", "9", "--output_dir", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"table.{s}" for s in ("md", "csv", "tex", "json")}
    assert "the picture of a report needs matplotlib: pip install 'vmhan[report]'" in caplog.text


def test_what_cannot_be_reported_is_an_error(results, tmp_path, capsys):
    options = {"title": "x", "split": "test", "resamples": 9}
    rows = [read_row(results / "full", **options)]
    with pytest.raises(ValueError, match=r"--reference: expected a row with finished runs, \['full'\], not 'gcn'"):
        compare(rows, "gcn", resamples=9)
    with pytest.raises(ValueError, match="expected rows with split 'validation'"):
        read_row(results / "full", **{**options, "split": "validation"})
    assert cli.main(["report", str(results), "--rows", "full", "gcn", "--output_dir", str(tmp_path / "out")]) == 2
    assert "of ['full', 'gcn'], none of ['gcn']" in capsys.readouterr().err and not (tmp_path / "out").exists()
    metrics = results / "full" / "seed-1" / "metrics.json"
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "test_f1": 0.9}))
    with pytest.raises(ValueError, match=r"expected test_f1 of metrics.json .* 0.727273, received 0.9. Run it again"):
        read_row(results / "full", **options)


@pytest.mark.parametrize(
    "settings, inputs",
    [
        ({"captions": "llava_next", "features": "none"}, "text, image phrases"),
        ({"captions": "llava_next", "preset": "no_image_llm"}, "text"),
        ({"features": "random:0", "num_objects": 0, "num_image_phrases": 0}, "text, image"),
        ({"features": "random:0", "no_visual": True}, "text"),
        ({"features": "random:0", "model": "pcnn"}, "text"),
        ({"dataset": "my_posts", "dataset_config": "jsonl"}, "text, image phrases"),
        ({"dataset": "my_posts", "preset": "no_image_llm"}, "text"),
        ({"dataset": "jsonl", "features": "random:0"}, "text, image, objects, image phrases"),
        ({"dataset": "my_posts", "no_visual": True}, "text"),
        ({"dataset": "my_posts", "model": "hvpnet"}, "text, image, objects"),
        ({"dataset": "mnre", "model": "hvpnet"}, "text, image, objects"),
        ({"dataset": "mnre", "model": "hvpnet", "images": "False"}, "text"),
    ],
)
def test_what_a_row_reads_is_told_by_its_settings(tmp_path, settings, inputs):
    write_run(tmp_path / "row" / "seed-1", GOOD, settings=settings)
    assert read_row(tmp_path / "row", title="", split="test", resamples=10).inputs == inputs


def test_what_a_row_reads_of_ready_data_is_told_by_its_config(tmp_path):
    run = tmp_path / "row" / "seed-1"
    write_run(run, GOOD, settings={"dataset": "my_posts"})
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"visual_feature_size": 8}))
    row = read_row(tmp_path / "row", title="", split="test", resamples=10)
    assert row.inputs == "text, image, objects, image phrases"


def test_holm_by_hand():
    """4 tests: the smallest p times 4, the next times 3 and so on, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (0.05, 0.01, r"VM-HAN beats other by 5.00 \(2.00 to 7.00\), p = 0.0100."),
        (-0.05, 0.01, r"other beats VM-HAN by 5.00 \(-7.00 to -2.00\), p = 0.0100."),
        (0.05, 0.2, r"VM-HAN and other are not told apart: VM-HAN has more by 5.00 \(2.00 to 7.00\), p = 0.2000."),
    ],
)
def test_statements(results, difference, p, words):
    full = read_row(results / "full", title="VM-HAN", split="test", resamples=9)
    row = replace(full, title="other", comparison=PairedResult(difference, 0.02, 0.07, p), adjusted_p=p)
    assert re.fullmatch(words, statement(row, full))


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


def test_reported_rows_and_systems_have_the_same_names():
    systems = read_systems()
    for table in ("table1", "table2"):
        assert list(systems[table]) == list(dict.fromkeys(row.row for row in read_reported() if row.table == table))
    for name, system in systems["table1"].items():
        assert system["leaks"] in ("yes", "no", "not stated") and system["inputs"] and system["source"], name
        assert "ours" in system or "reason" in system, name


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
