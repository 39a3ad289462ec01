"""The score command and the evaluate module: numbers worked by hand, scikit-learn's, and every refusal."""

import io
import json
import sys
import warnings

import evaluate
import matplotlib
import pytest
from fake_runs import write_run
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from paths import ROOT
from PIL import Image
from sklearn.metrics import f1_score

from datasets_scripts.figure_fonts import figure_fonts
from vmhan import cli
from vmhan.scoring.predictions import read_predictions
from vmhan.scoring.score import main, score_rows
from vmhan.scoring.scorer import score


LABELS = ["/per/per/peer", "None", "/per/org/member_of"]
PEER, NONE, MEMBER = LABELS
# two posts; gold relations 3; the run claims 4 and is right in 2, its baseline claims 1 and is right in it
GOLD = [PEER, NONE, MEMBER, PEER, NONE]
RUN = [PEER, MEMBER, MEMBER, MEMBER, NONE]
BASELINE = [PEER, NONE, NONE, NONE, NONE]


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, predicted)`: the folder of a run with a validation split that is all right, and a test split."""

    def make(name, predicted, gold=GOLD, labels=LABELS, metrics=None, splits=("validation", "test")):
        rows = [
            {"split": split, "id": f"{split}-{i // 3}", "pair": i % 3, "relation": relation, "predicted": answer}
            for split in splits
            for i, (relation, answer) in enumerate(zip(gold, gold if split == "validation" else predicted))
        ]
        return write_run(tmp_path / name, rows, labels, **({} if metrics is None else {"metrics": metrics}))

    return make


@pytest.fixture
def scores_of(tmp_path):
    """`scores_of(*arguments)`: what the command writes as JSON."""

    def run(*arguments):
        main([*map(str, arguments), "--output", str(tmp_path / "deep" / "scores.json")])
        return json.loads((tmp_path / "deep" / "scores.json").read_text())

    return run


def test_scores_equal_numbers_worked_by_hand_and_scikit_learn(make_run, scores_of, capsys):
    """Precision 2/4, recall 2/3, F1 4/7 against 1/1, 1/3, 1/2: the difference is 1/14."""
    run, baseline = make_run("run", RUN), make_run("baseline", BASELINE, metrics={"leaky": True})
    report = scores_of(run, "--other", baseline / "predictions.jsonl")
    (scores,), (others,) = report["scores"], report["other_scores"]
    assert (report["split"], report["pairs"], report["sentences"]) == ("test", 5, 2)
    expected = {"accuracy": 3 / 5, "precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7}
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert scores["macro_f1"] == pytest.approx(f1_score(GOLD, RUN, labels=[PEER, MEMBER], average="macro"))
    assert scores["f1_low"] <= scores["f1"] <= scores["f1_high"]
    assert (scores["leaky"], others["leaky"]) == (None, True)
    assert report["comparison"]["difference"] == pytest.approx(1 / 14)
    printed = capsys.readouterr().out
    shown = f"57.14 ({100 * scores['f1_low']:.2f} to {100 * scores['f1_high']:.2f})"
    assert all(text in printed for text in (shown, f"{baseline} (leaky)", "+7.14"))


def test_the_table_of_relations_and_the_default_split(make_run, capsys):
    run, other = make_run("run", RUN), make_run("other", BASELINE, splits=["validation"])
    main([str(run), "--per_relation"])
    assert f"| {MEMBER} | 33.33 | 100.00 | 50.00 | 1 |" in capsys.readouterr().out
    main([str(run), "--per_relation", "--other", str(other)])  # both have validation only, where all is right
    assert f"| {MEMBER} | 100.00 | 100.00 | 100.00 | 1 | 100.00 |" in capsys.readouterr().out


def test_several_runs_are_seeds_with_a_mean(make_run, scores_of):
    first, second = make_run("seed-1", RUN), make_run("seed-2", BASELINE, metrics={"leaky": False})
    report = scores_of(first, second, "--other", second, "--per_relation")
    assert [row["run"] for row in report["scores"]] == [str(first), str(second), "mean of 2"]
    assert report["scores"][2]["f1"] == pytest.approx((4 / 7 + 1 / 2) / 2)
    assert report["comparison"]["difference"] == pytest.approx((4 / 7 + 1 / 2) / 2 - 1 / 2)
    assert report["per_relation"][1]["f1"] == pytest.approx((1 / 2 + 0) / 2)
    assert report["confusion"]["counts"] == [[2, 1, 1], [0, 3, 1], [0, 1, 1]]  # gold by predicted, both seeds


def test_a_mean_is_as_leaky_as_its_worst_seed(make_run):
    made = {
        mark: make_run(str(mark), RUN, metrics={} if mark is None else {"leaky": mark}) for mark in (True, False, None)
    }
    for first, second, leaky in [(False, False, False), (False, True, True), (False, None, None)]:
        runs = [read_predictions(made[mark]).split("test") for mark in (first, second)]
        assert score_rows(runs, resamples=10)[-1]["leaky"] is leaky


def test_resamples_seed_and_labels_are_used(make_run, scores_of):
    run = make_run("run", RUN)
    flags = (["--resamples", 5], ["--resamples", 5], ["--seed", 3])
    first, again, other = (scores_of(run, "--other", run, *given) for given in flags)
    assert first == again and (first["resamples"], other["resamples"], other["seed"]) == (5, 1000, 3)
    (run / "config.json").unlink()
    (row,) = scores_of(run, "--labels", *LABELS, "--none_label", PEER)["scores"]
    assert row["f1"] == pytest.approx(f1_score(GOLD, RUN, labels=[NONE, MEMBER], average="micro"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{tmp}/nowhere"], "nowhere"),
        (["{run}", "--split", "dev"], "'dev', received the splits ['validation', 'test']"),
        (["{train}"], "--split: "),
        (["{run}", "--other", "{wider}"], "received ['/loc']"),
        (["{run}", "--other", "{longer}"], "expected the same pairs"),
        (["{run}", "--resamples", "0"], "resamples: "),
        (["{run}", "--labels", "a", "b"], "none label"),
        (["{run}", "--output", "{tmp}"], "{tmp}"),
        (["{broken}"], "broken/metrics.json"),
    ],
)
def test_bad_input_ends_with_2_and_the_reason(make_run, tmp_path, capsys, flags, message):
    names = {
        "run": make_run("run", RUN),
        "wider": make_run("wider", RUN, labels=[*LABELS, "/loc"]),
        "longer": make_run("longer", [*RUN, NONE], gold=[*GOLD, NONE]),
        "train": make_run("train", RUN, splits=["train"]),
        "broken": make_run("broken", RUN, metrics="{"),
        "tmp": tmp_path,
    }
    assert cli.main(["score", *(flag.format(**names) for flag in flags)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message.replace("{tmp}", str(tmp_path)) in printed.err


def test_the_confusion_matrix_is_a_picture(make_run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "figures" / "confusion.png"
    main([str(make_run("run", RUN)), "--confusion", str(path)])
    assert min(Image.open(path).size) > 300
    assert [file.name for file in path.parent.iterdir()] == ["confusion.png"]  # no temporary file is left
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["score", str(tmp_path / "run"), "--confusion", str(path)]) == 2
    assert "vmhan[report]" in capsys.readouterr().err


def test_a_figure_takes_the_fonts_that_are_there_and_no_other(monkeypatch):
    before = matplotlib.rcParams["font.family"]
    with figure_fonts():
        families = matplotlib.rcParams["font.family"]
        assert families[0] == "DejaVu Sans" and set(families) <= set(font_manager.fontManager.get_font_names())
    assert matplotlib.rcParams["font.family"] == before
    monkeypatch.setattr(font_manager.fontManager, "get_font_names", lambda: ["Noto Sans CJK JP", "DejaVu Sans", "Foo"])
    with figure_fonts():
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Noto Sans CJK JP"]


def test_what_no_font_has_is_said_and_no_empty_box_in_a_figure(monkeypatch, caplog):
    monkeypatch.setattr(font_manager.fontManager, "get_font_names", lambda: ["DejaVu Sans"])
    set_text = Text.set_text
    with figure_fonts():
        figure = Figure()
        axes = figure.subplots()
        axes.set_xticks([0, 1], ["Beyoncé", "a\u200d\ufe0f 王"])
        axes.set_title("أحمد\nकम $x^2$")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # as matplotlib warns of an empty box
            figure.savefig(io.BytesIO(), format="png")
        assert [label.get_text() for label in axes.get_xticklabels()] == ["Beyoncé", "a\u200d\ufe0f ?"]
    assert axes.get_title() == "أحمد\n?? $x^2$" and Text.set_text is set_text
    assert all(f"U+{ord(letter):04X}" in caplog.text for letter in "王कम") and "U+00E9" not in caplog.text


def test_the_evaluate_module_gives_the_scorers_numbers(tmp_path):
    metric = evaluate.load(str(ROOT / "vmhan" / "scoring" / "mmre_f1"), cache_dir=str(tmp_path))
    found = metric.compute(predictions=RUN, references=GOLD, labels=LABELS)
    assert found == score(GOLD, RUN, labels=LABELS)
    for answer, gold in zip(RUN, GOLD):
        metric.add(prediction=answer, reference=gold)
    assert metric.compute(labels=LABELS, none_label=PEER) == score(GOLD, RUN, labels=LABELS, none_label=PEER)
    with pytest.raises(ValueError, match="none label"):
        metric.compute(predictions=["a"], references=["a"], labels=["a", "b"])
