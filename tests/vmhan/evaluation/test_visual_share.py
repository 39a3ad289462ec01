"""A tiny run evaluated again with fewer visual nodes: its own answers at 1, the text's at 0, resumed, checked."""

import json
import shutil

import pytest

from vmhan.evaluation import visual_share
from vmhan.evaluation.visual_share import SHARES_FILE, evaluate_shares, read_shares
from vmhan.scoring.predictions import read_predictions


@pytest.fixture
def run(finished_run, run_postcards, tmp_path):
    """A copy of the finished run, and its cache_dir."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run", run_postcards.cache_dir


def test_with_every_node_the_answers_are_the_run_s_own(run):
    folder, cache_dir = run
    entries = evaluate_shares(folder, [1.0, 0.0, 0.5], cache_dir=cache_dir, batch_size=2)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [entry["share"] for entry in entries] == [0.0, 0.5, 1.0]
    assert entries[2]["predicted"] == read_predictions(folder).split("test").predicted
    for name in ("f1", "accuracy", "precision"):
        assert entries[2][name] == pytest.approx(metrics[f"test_{name}"])
    assert entries[0]["kept"] == 0 and 0 < entries[1]["kept"] < 1 and entries[2]["kept"] == 1


def test_a_post_without_an_image_may_be_the_first_of_a_batch(run, monkeypatch):
    folder, cache_dir = run
    load = visual_share.load_run_posts

    def some_without_image(*arguments, **options):
        posts = load(*arguments, **options)
        none = {"image_features": None}
        return posts.map(lambda _, i: none if i % 2 == 0 else {}, with_indices=True, features=posts.features)

    (before,) = evaluate_shares(folder, [0.0], cache_dir=cache_dir)
    monkeypatch.setattr(visual_share, "load_run_posts", some_without_image)
    (entry,) = evaluate_shares(folder, [1.0], cache_dir=cache_dir, batch_size=2)
    assert entry["nodes"] == before["nodes"] - 3 and entry["kept"] == 1  # of five posts
    run_rows = read_predictions(folder).split("test")
    triples = zip(run_rows.rows, run_rows.predicted, entry["predicted"], strict=True)
    assert all(own == again for row, own, again in triples if int(row["id"][-1]) % 2)


def test_the_answers_have_the_bias_of_the_none_label(run):
    folder, cache_dir = run
    config = json.loads((folder / "config.json").read_text()) | {"none_bias": 1000.0}
    (folder / "config.json").write_text(json.dumps(config))
    (entry,) = evaluate_shares(folder, [1.0], cache_dir=cache_dir)
    assert set(entry["predicted"]) == {read_predictions(folder).none_label} and entry["f1"] == 0


def test_finished_shares_are_not_evaluated_again(run, monkeypatch):
    folder, cache_dir = run
    first = evaluate_shares(folder, [0.25], cache_dir=cache_dir)
    asked = []
    make_collator = visual_share.make_collator
    monkeypatch.setattr(visual_share, "make_collator", lambda *a, **k: asked.append(a[2]) or make_collator(*a, **k))
    both = evaluate_shares(folder, [0.25, 0.75], cache_dir=cache_dir)
    assert asked == [0.75] and both[0] == first[0] and read_shares(folder, split="test") == both
    monkeypatch.setattr(visual_share, "load_run_posts", lambda *a, **k: pytest.fail("built the data for nothing"))
    assert evaluate_shares(folder, [0.75, 0.25]) == both
    assert read_shares(folder, split="test", seed=1) == read_shares(folder, split="validation") == []


def test_shares_of_an_earlier_training_are_forgotten(run):
    folder, _ = run
    entry = {"split": "test", "seed": 0, "share": 0.5, "f1": 0.5}
    (folder / SHARES_FILE).write_text(json.dumps({"of_predictions": "another", "entries": [entry]}))
    assert read_shares(folder, split="test") == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config.json", '"vmhan"', '"bert"', "'vmhan', received a run of type 'bert'"),
        ("predictions.jsonl", '"head": "', '"head": "x', "data set"),
    ],
)
def test_runs_that_cannot_be_evaluated(run, file, old, new, message):
    folder, cache_dir = run
    (folder / file).write_text((folder / file).read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        visual_share.main([str(folder), "--shares", "0.5", "--cache_dir", cache_dir])


def test_a_run_is_trained_and_evaluated_on_posts_without_visual_nodes(run_postcards, tmp_path):
    """With no visual node at all, at evaluation as well: the same answers as from the saved model at share 0."""
    training = {"do_train": True, "num_train_epochs": 1, "learning_rate": 0.01, "save_strategy": "no"}
    losses = [run_postcards(tmp_path / str(s), visual_share=s, **training)["train_loss"] for s in (0, 1)]
    assert losses[0] != losses[1]
    assert json.loads((tmp_path / "0" / "run.json").read_text())["data"]["visual_share"] == 0
    (entry,) = evaluate_shares(tmp_path / "0", [0.0], cache_dir=run_postcards.cache_dir)
    assert entry["predicted"] == read_predictions(tmp_path / "0").split("test").predicted
