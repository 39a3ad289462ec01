"""A tiny trained run asked again with fewer visual nodes: its own answers at 1, the text's at 0, resumed, checked."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

import run_mmre
from vmhan.evaluation import visual_share
from vmhan.evaluation.visual_share import SHARES_FILE, evaluate_shares, read_shares
from vmhan.scoring.predictions import read_predictions
from vmhan.training.arguments import parse_arguments
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, make_vision_config):
    """Postcards with features of a tiny CLIP, and a BERT of one layer."""
    folder = tmp_path_factory.mktemp("shares")
    tokenizer = AutoTokenizer.from_pretrained(resolve_text_encoder(OFFLINE_ENCODER))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    AutoModel.from_config(make_vision_config()).save_pretrained(folder / "vision")
    entries = {
        "text_encoder": str(folder / "encoder"),
        "entity_representation": "packed",
        "dataset": "postcards",
        "cache_dir": str(folder / "cache"),
        "num_train": 8,
        "num_validation": 3,
        "num_test": 5,
        "features": f"transformers:{folder / 'vision'}",
        "do_train": True,
        "use_cpu": True,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def run_folder(config_file):
    """(finished run, cache_dir of its data)."""
    output = config_file.parent / "full"
    run_mmre.main([str(config_file), "--output_dir", str(output)])
    return output, str(config_file.parent / "cache")


@pytest.fixture
def run(run_folder, tmp_path):
    """A copy of the finished run, and its cache_dir."""
    shutil.copytree(run_folder[0], tmp_path / "run")
    return tmp_path / "run", run_folder[1]


def test_with_every_node_the_answers_are_the_run_s_own(run, caplog):
    folder, cache_dir = run
    entries = evaluate_shares(folder, [1.0, 0.0, 0.5], cache_dir=cache_dir, batch_size=2)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [entry["share"] for entry in entries] == [0.0, 0.5, 1.0]
    assert entries[2]["predicted"] == read_predictions(folder).split("test").predicted
    for name in ("f1", "accuracy", "precision"):
        assert entries[2][name] == pytest.approx(metrics[f"test_{name}"])
    assert entries[0]["kept"] == 0 and 0 < entries[1]["kept"] < 1 and entries[2]["kept"] == 1
    assert "are not those of its run" not in caplog.text


def test_finished_shares_are_not_evaluated_again(run, monkeypatch):
    """Whatever comes after a kill: the written share is read, the missing one is made."""
    folder, cache_dir = run
    first = evaluate_shares(folder, [0.25], cache_dir=cache_dir)
    asked = []
    thinned = visual_share.make_collator
    monkeypatch.setattr(visual_share, "make_collator", lambda *a, **k: asked.append(a[2]) or thinned(*a, **k))
    both = evaluate_shares(folder, [0.25, 0.75], cache_dir=cache_dir)
    assert asked == [0.75] and both[0] == first[0] and read_shares(folder, split="test") == both
    monkeypatch.setattr(visual_share, "load_posts", lambda *a: pytest.fail("built the data for nothing"))
    assert evaluate_shares(folder, [0.75, 0.25]) == both
    assert read_shares(folder, split="test", seed=1) == read_shares(folder, split="validation") == []


def test_shares_of_an_earlier_training_are_forgotten(run):
    folder, _ = run
    entry = {"split": "test", "seed": 0, "share": 0.5, "f1": 0.5}
    (folder / SHARES_FILE).write_text(json.dumps({"of_predictions": "another", "entries": [entry]}))
    assert read_shares(folder, split="test") == []


def test_a_damaged_file_is_an_error(run):
    folder, _ = run
    (folder / SHARES_FILE).write_text("{")
    with pytest.raises(
        ValueError, match=r"visual_share.json: expected JSON of vmhan.evaluation.visual_share.*Delete it"
    ):
        read_shares(folder, split="test")


def test_other_posts_than_the_run_s_are_an_error(run):
    folder, cache_dir = run
    path = folder / "predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match="expected the posts that its predictions.jsonl was made of .* built others"):
        evaluate_shares(folder, [0.5], cache_dir=cache_dir)


def test_a_run_without_weights_is_an_error(run):
    folder, cache_dir = run
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="expected the run's weights, model.safetensors, found none"):
        evaluate_shares(folder, [0.5], cache_dir=cache_dir)


def test_another_model_than_vmhan_is_an_error(run):
    folder, cache_dir = run
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="expected a model of type 'vmhan', received 'bert'. Train a baseline on a share"
    ):
        evaluate_shares(folder, [0.5], cache_dir=cache_dir)


def test_a_split_that_the_data_has_not_is_an_error(run, monkeypatch):
    folder, cache_dir = run
    whole = visual_share.load_posts
    monkeypatch.setattr(visual_share, "load_posts", lambda *a: {"train": whole(*a)["train"]})
    with pytest.raises(ValueError, match=r"split: expected one of \['train'\], received 'test'"):
        evaluate_shares(folder, [0.5], cache_dir=cache_dir)


def test_the_command_writes_what_it_finds(run):
    folder, cache_dir = run
    visual_share.main([str(folder), "--shares", "0", "--split", "validation", "--cache_dir", cache_dir])
    (entry,) = read_shares(folder, split="validation")
    assert entry["share"] == 0 and len(entry["predicted"]) == len(read_predictions(folder).split("validation").rows)


# ---------------------------------------------------------------- trained


def test_a_run_is_trained_and_evaluated_on_thinned_posts(config_file, run_folder, tmp_path):
    """With no visual node at all, at evaluation as well: the same answers as from the saved model at share 0."""
    flags = [str(config_file), "--output_dir", str(tmp_path / "bare"), "--visual_share", "0"]
    metrics = run_mmre.main(flags)
    assert json.loads((tmp_path / "bare" / "run.json").read_text())["data"]["visual_share"] == 0
    full = json.loads((run_folder[0] / "metrics.json").read_text())
    assert metrics["train_loss"] != full["train_loss"]
    (entry,) = evaluate_shares(tmp_path / "bare", [0.0], cache_dir=run_folder[1])
    assert entry["predicted"] == read_predictions(tmp_path / "bare").split("test").predicted


def test_a_wrong_share_is_told_by_the_flag(config_file, tmp_path):
    flags = [str(config_file), "--output_dir", str(tmp_path), "--visual_share", "50"]
    assert parse_arguments(flags)[1].visual_share == 50
    with pytest.raises(ValueError, match="expected a fraction from 0 to 1, received 50"):
        run_mmre.main(flags)
    assert not list(Path(tmp_path).iterdir())
