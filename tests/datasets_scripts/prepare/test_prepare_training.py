"""From an archive in its own format, through prepare, to a trained and scored model."""

import json

import pytest
import torch
import yaml
from prepare_runs import load, more_archive, run
from transformers import AutoTokenizer, BertConfig, BertModel

import run_mmre
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


@pytest.fixture
def train(tmp_path):
    """`train(dataset, config)` -> metrics of two steps of a tiny model, in tmp_path / "run"."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_text_encoder(OFFLINE_ENCODER))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")

    def run_training(dataset, config, **flags):
        entries = {"dataset": str(dataset), "dataset_config": config, "text_encoder": str(tmp_path / "encoder")}
        entries |= {"do_train": True, "use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 2}
        entries |= {"eval_strategy": "no", "save_strategy": "no", "disable_tqdm": True}
        entries |= {"output_dir": str(tmp_path / "run"), "cache_dir": str(tmp_path / "cache"), **flags}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(entries))
        return run_mmre.main([str(tmp_path / "tiny.yaml")])

    return run_training


def test_more_is_prepared_trained_and_scored(train, tmp_path):
    output = run(more_archive(tmp_path / "more"), source="more", features="colours")
    post = load(output, "more")["train"][1]
    assert post["boxes"][1] == pytest.approx([40, 20, 70, 55], abs=0.01)
    assert post["object_labels"] == ["a red thing", "a green thing"]
    assert [pair["tail_object"] for pair in post["pairs"]] == [1, 1] and post["pairs"][0]["tail"] == []
    assert post["object_features"][0][0] > 0.9 > 0.1 > post["object_features"][1][0]  # red, then green

    assert 0 <= train(output, "more")["test_f1"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {row["tail"] for row in rows} == {"[object]"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["visual_feature_size"] == 6 and config["id2label"]["1"] == "/per/per/peer"
    assert json.loads((tmp_path / "run" / "processor_config.json").read_text())["trained_on"] == "tokens"


@pytest.mark.parametrize(("model", "trained_on"), [("vmhan", "text"), ("cnn", "tokens")])
def test_text_is_trained_on_as_it_was_written_but_by_a_model_of_words(train, tmp_path, model, trained_on):
    (tmp_path / "mine").mkdir()
    rows = [{"text": "Ann's Bob", "pairs": [{"head": "Ann", "tail": "Bob", "relation": "None"}]}] * 2
    (tmp_path / "mine" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = run(tmp_path / "mine", source="jsonl")
    train(output, "jsonl", model=model)
    assert json.loads((tmp_path / "run" / "processor_config.json").read_text())["trained_on"] == trained_on
