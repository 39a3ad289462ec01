"""benchmarks.findings.search: bits, biased F1 and differences, by hand."""

import json

import fake_runs
import numpy as np
import pytest

from benchmarks.findings import search
from vmhan.scoring.predictions import read_predictions


LABELS = ["None", "a", "b"]
GOLD = ["a", "b", "None", "a"] * 60  # four pairs a post


def write(folder, probabilities, posts=4):
    rows = [
        {"split": "validation", "id": str(i // posts), "pair": i % posts, "relation": label,
         "predicted": LABELS[int(np.argmax(of_pair))], "probabilities": list(of_pair)}
        for i, (label, of_pair) in enumerate(zip(GOLD, probabilities, strict=True))
    ]  # fmt: skip
    named = sum(row["predicted"] != "None" for row in rows)
    right = sum(row["predicted"] == row["relation"] != "None" for row in rows)
    metrics = {"validation_f1": 2 * right / (named + 180)}
    fake_runs.write_run(folder, rows, LABELS, metrics=metrics, environment={}, settings={"x": 1}, run={})


def of(gold_share, none_share):
    """Each true relation has `gold_share`, none `none_share`, and the third the rest; a true none has 0.8."""
    made = []
    for label in GOLD:
        shares = {"None": none_share, "a": 1 - gold_share - none_share, "b": 1 - gold_share - none_share}
        shares[label] = gold_share
        made.append([0.8, 0.1, 0.1] if label == "None" else [shares[name] for name in LABELS])
    return made


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results" / "mnre_order_blind"
    write(folder / "shy" / "seed-1", of(0.4, 0.5))  # always none, though each relation is the likeliest of the others
    write(folder / "bold" / "seed-1", of(0.5, 0.4))
    write(folder / "bold" / "seed-2", of(0.5, 0.4))
    return folder


def test_bits_and_biases_by_hand(results, tmp_path, capsys):
    search.main([str(results), "--reference", "shy", "--output_dir", str(tmp_path / "out")])
    rows = json.loads((tmp_path / "out" / "search.json").read_text())["rows"]
    assert rows["shy"]["f1"] == [0.0] and rows["bold"]["f1"] == [1.0, 1.0] and rows["bold"]["seeds"] == [1, 2]
    of_none = -np.log2(0.8) / 4
    assert rows["shy"]["bits"] == pytest.approx([-0.75 * np.log2(0.4) + of_none])
    assert rows["bold"]["bits_saved"] == pytest.approx([0.75 * np.log2(0.5 / 0.4)] * 3)  # each post is like the others
    assert rows["bold"]["difference"] == rows["bold"]["difference_of_three_pairs"] == [1.0, 1.0, 1.0]
    assert rows["shy"]["f1_with_bias"] == [] or rows["shy"]["f1_with_bias"][0] > 0
    assert "difference" not in rows["shy"]
    table = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| bold | 2 | 100.0 | +100.0 (+100.0 to +100.0)") for line in table)


def test_a_bias_finds_the_relations_of_a_shy_model(results, monkeypatch):
    monkeypatch.setattr("vmhan.scoring.none_bias.LEAST_POSITIVES", 100)
    run = read_predictions(results / "shy" / "seed-1").split("validation")
    assert search.f1_with_bias(run) == pytest.approx(1.0)
    monkeypatch.setattr("vmhan.scoring.none_bias.LEAST_POSITIVES", 200)
    assert search.f1_with_bias(run) is None


def test_rows_without_posts_of_three_pairs_or_without_the_reference(results, tmp_path):
    for row in ("shy", "bold"):
        write(results / f"{row}_single" / "seed-1", of(0.5, 0.4), posts=1)
    with pytest.raises(ValueError, match="--reference: .*'bold'.*received 'other'"):
        search.main([str(results), "--reference", "other", "--output_dir", str(tmp_path)])
    asked = ["--rows", "shy_single", "bold_single", "--output_dir", str(tmp_path)]
    search.main([str(results), "--reference", "shy_single", *asked])
    row = json.loads((tmp_path / "search.json").read_text())["rows"]["bold_single"]
    assert row["difference"] == [0.0, 0.0, 0.0] and "difference_of_three_pairs" not in row


def test_a_run_without_probabilities_is_an_error(results):
    run = read_predictions(results / "shy" / "seed-1").split("validation")
    for row in run.rows:
        del row["probabilities"]
    with pytest.raises(ValueError, match="probabilities.*kept runs"):
        search.pair_bits(run)
