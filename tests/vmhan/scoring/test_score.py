"""The score command and the evaluate module: numbers worked by hand, scikit-learn's, and every refusal."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from sklearn.metrics import f1_score

from vmhan import cli
from vmhan.scoring.confusion_figure import draw_confusion
from vmhan.scoring.predictions import read_predictions
from vmhan.scoring.score import main, score_rows
from vmhan.scoring.scorer import score


LABELS = ["/per/per/peer", "None", "/per/org/member_of"]
PEER, NONE, MEMBER = LABELS
# two posts; gold relations 3; the run claims 4 and is right in 2, its baseline claims 1 and is right in it
GOLD = [PEER, NONE, MEMBER, PEER, NONE]
RUN = [PEER, MEMBER, MEMBER, MEMBER, NONE]
RIVAL = [PEER, NONE, NONE, NONE, NONE]


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, predicted)`: the folder of a run with a validation split that is all right, and a test split."""

    def make(name, predicted, gold=GOLD, labels=LABELS, metrics=None, splits=("validation", "test")):
        folder = tmp_path / name
        folder.mkdir()
        rows = [
            {"split": split, "id": f"{split}-{i // 3}", "pair": i % 3, "relation": relation, "predicted": answer}
            for split in splits
            for i, (relation, answer) in enumerate(zip(gold, gold if split == "validation" else predicted))
        ]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {"id2label": dict(enumerate(labels)), "none_label": "None"}
        (folder / "config.json").write_text(json.dumps(config))
        if metrics is not None:
            (folder / "metrics.json").write_text(metrics)
        return folder

    return make


# ---------------------------------------------------------------- what is said


def test_scores_equal_numbers_worked_by_hand_and_scikit_learn(make_run, tmp_path, capsys):
    """Precision 2/4, recall 2/3, F1 4/7 against 1/1, 1/3, 1/2: the difference is 1/14."""
    out = tmp_path / "deep" / "scores.json"
    run, baseline = make_run("run", RUN), make_run("baseline", RIVAL, metrics='{"leaky": true}')
    assert main([str(run), "--other", str(baseline / "predictions.jsonl"), "--output", str(out)]) == 0
    report = json.loads(out.read_text())
    (scores,), (others,) = report["scores"], report["other_scores"]
    assert (report["split"], report["pairs"], report["sentences"]) == ("test", 5, 2)
    expected = {"accuracy": 3 / 5, "precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7}
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert scores["f1"] == pytest.approx(f1_score(GOLD, RUN, labels=[PEER, MEMBER], average="micro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(GOLD, RUN, labels=[PEER, MEMBER], average="macro"))
    assert scores["f1_low"] <= scores["f1"] <= scores["f1_high"]
    assert (scores["leaky"], others["leaky"]) == (None, True)
    assert report["comparison"]["difference"] == pytest.approx(1 / 14)

    printed = capsys.readouterr().out
    row = f"| {run} | 60.00 | 50.00 | 66.67 | 57.14 ({100 * scores['f1_low']:.2f} to {100 * scores['f1_high']:.2f}) |"
    assert row in printed and f"| {baseline} (leaky) |" in printed
    assert (
        f"{run} minus {baseline}: F1 +7.14 (" in printed and f"p = {report['comparison']['p_value']:.2g} " in printed
    )
    assert "support" not in printed  # not asked for


def test_the_table_of_relations(make_run, capsys):
    assert main([str(make_run("run", RUN)), "--per_relation"]) == 0
    printed = capsys.readouterr().out
    assert f"| {PEER} | 100.00 | 50.00 | 66.67 | 2 |\n| {MEMBER} | 33.33 | 100.00 | 50.00 | 1 |" in printed
    assert main([str(make_run("one", RUN)), "--per_relation", "--other", str(make_run("two", RIVAL))]) == 0
    assert f"| {MEMBER} | 33.33 | 100.00 | 50.00 | 1 | 0.00 |" in capsys.readouterr().out


def test_several_runs_are_seeds_with_a_mean(make_run, tmp_path, capsys):
    first, second = make_run("seed-1", RUN), make_run("seed-2", RIVAL, metrics='{"leaky": false}')
    out = tmp_path / "scores.json"
    assert main([str(first), str(second), "--other", str(second), "--output", str(out), "--per_relation"]) == 0
    report = json.loads(out.read_text())
    assert [row["run"] for row in report["scores"]] == [str(first), str(second), "mean of 2"]
    assert report["scores"][2]["f1"] == pytest.approx((4 / 7 + 1 / 2) / 2)
    assert report["comparison"]["difference"] == pytest.approx((4 / 7 + 1 / 2) / 2 - 1 / 2)
    assert report["per_relation"][1]["f1"] == pytest.approx((1 / 2 + 0) / 2)
    assert report["confusion"]["counts"] == [[2, 1, 1], [0, 3, 1], [0, 1, 1]]  # gold by predicted, both seeds
    assert f"mean of 2 minus {second}: F1 +3.57 (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("metrics", "second", "leaky"),
    [
        ('{"leaky": false}', '{"leaky": false}', False),
        ('{"leaky": false}', '{"leaky": true}', True),
        ('{"leaky": false}', None, None),
        (None, '{"leaky": false}', None),
    ],
)
def test_a_mean_is_as_leaky_as_its_worst_seed(make_run, metrics, second, leaky):
    runs = [make_run("one", RUN, metrics=metrics), make_run("two", RUN, metrics=second)]
    rows = score_rows([read_predictions(run).split("test") for run in runs], resamples=10)
    assert rows[-1]["leaky"] is leaky


def test_the_split_is_test_then_validation_or_the_named_one(make_run, capsys):
    both, one = make_run("both", RUN), make_run("one", RUN, splits=["validation"])
    assert main([str(both), "--split", "validation"]) == 0
    assert "validation: 5 pairs of 2 sentences" in capsys.readouterr().out
    assert main([str(both), "--other", str(one)]) == 0
    assert "| 100.00 | 100.00 | 100.00 | 100.00 (100.00 to 100.00) |" in capsys.readouterr().out


def test_labels_are_taken_from_the_command_line(make_run, capsys):
    run = make_run("run", RUN)
    (run / "config.json").unlink()
    assert main([str(run), "--labels", *LABELS, "--none_label", PEER]) == 0
    relations = [NONE, MEMBER]
    assert f" {100 * f1_score(GOLD, RUN, labels=relations, average='micro'):.2f} (" in capsys.readouterr().out


def test_resamples_and_seed_reach_the_bootstrap(make_run, tmp_path):
    run, rows = make_run("run", RUN), []
    for flags in (["--resamples", "5", "--seed", "0"], ["--resamples", "5", "--seed", "0"], ["--seed", "3"]):
        main([str(run), "--output", str(tmp_path / "s.json"), "--other", str(run), *flags])
        rows.append(json.loads((tmp_path / "s.json").read_text()))
    assert rows[0] == rows[1]
    assert (rows[0]["resamples"], rows[2]["resamples"], rows[2]["seed"]) == (5, 1000, 3)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{tmp}/nowhere"], "nowhere: expected a predictions.jsonl"),
        (["{run}", "--split", "dev"], "split 'dev', received the splits ['validation', 'test']"),
        (["{train}"], "expected test or validation in every run, received the splits {'"),
        (["{run}", "--other", "{wider}"], "expected the same labels, received ['/loc'] in one of them only"),
        (["{run}", "--other", "{longer}"], "expected the same pairs"),
        (["{run}", "--resamples", "0"], "resamples: expected at least 1"),
        (["{run}", "--labels", "a", "b"], "as none label"),
        (["{run}", "--output", "{tmp}"], "{tmp}"),
        (["{broken}"], "broken/metrics.json: expected a JSON object"),
        (["{listed}"], "listed/metrics.json: expected a JSON object"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_ends_with_2_and_the_reason(make_run, tmp_path, capsys, flags, message):
    names = {
        "run": make_run("run", RUN),
        "wider": make_run("wider", RUN, labels=[*LABELS, "/loc"]),
        "longer": make_run("longer", [*RUN, NONE], gold=[*GOLD, NONE]),
        "train": make_run("train", RUN, splits=["train"]),
        "broken": make_run("broken", RUN, metrics="{"),
        "listed": make_run("listed", RUN, metrics="[]"),
        "tmp": tmp_path,
    }
    assert cli.main(["score", *(flag.format(**names) for flag in flags)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("vmhan score: ")
    assert message.replace("{tmp}", str(tmp_path)) in printed.err


# ---------------------------------------------------------------- the picture


def test_the_confusion_matrix_is_a_picture(make_run, tmp_path):
    path = tmp_path / "figures" / "confusion.png"
    assert main([str(make_run("run", RUN)), "--confusion", str(path)]) == 0
    assert min(Image.open(path).size) > 300
    assert [file.name for file in path.parent.iterdir()] == ["confusion.png"]  # no temporary file is left
    draw_confusion(tmp_path / "other.png", np.eye(3, dtype=int), LABELS, title="other counts")
    assert (tmp_path / "other.png").read_bytes() != path.read_bytes()


def test_counts_of_other_labels_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"counts: expected one row and one column a label, \(3, 3\), received \(2, 2\)"
    ):
        draw_confusion(tmp_path / "c.png", np.eye(2), LABELS, title="")


def test_without_matplotlib_the_picture_says_what_to_install(make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"picture needs matplotlib: pip install 'vmhan\[report\]'"):
        draw_confusion(tmp_path / "c.png", np.eye(3), LABELS, title="")
    assert cli.main(["score", str(make_run("run", RUN)), "--confusion", str(tmp_path / "c.png")]) == 2
    assert "vmhan[report]" in capsys.readouterr().err


# ---------------------------------------------------------------- the evaluate module

FRESH = """
import json, sys
import evaluate
metric = evaluate.load(sys.argv[1])
gold, predicted, labels = json.loads(sys.argv[2])
print(json.dumps(metric.compute(predictions=predicted, references=gold, labels=labels)))
for pair in zip(predicted, gold):
    metric.add(prediction=pair[0], reference=pair[1])
print(json.dumps(metric.compute(labels=labels, none_label=labels[0])))
try:
    metric.compute(predictions=["a"], references=["a"], labels=["a", "b"])
except ValueError as error:
    print(error)
"""


def test_the_evaluate_module_gives_the_scorers_numbers_in_a_fresh_process(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    arguments = [str(ROOT / "vmhan" / "scoring" / "mmre_f1"), json.dumps([GOLD, RUN, LABELS])]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *printed, refused = done.stdout.splitlines()
    named = score(GOLD, RUN, labels=LABELS, none_label=PEER)
    assert [json.loads(line) for line in printed] == [score(GOLD, RUN, labels=LABELS), named]
    assert "as none label" in refused
