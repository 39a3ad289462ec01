"""From archives in their own format, through prepare, to a trained and scored model; and the real images, if here."""

import json

import pytest
import torch
import yaml
from paths import MNRE_DATA
from prepare_runs import load, mnre_archive, more_archive, run, write_lines
from transformers import AutoTokenizer, BertConfig, BertModel

import run_mmre
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A YAML config around a tiny text encoder."""
    folder = tmp_path_factory.mktemp("recipe")
    tokenizer = AutoTokenizer.from_pretrained(resolve_text_encoder(OFFLINE_ENCODER))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    entries = {"text_encoder": str(folder / "encoder"), "do_train": True, "use_cpu": True, "max_steps": 2}
    entries |= {"per_device_train_batch_size": 2, "eval_strategy": "no", "save_strategy": "no"}
    entries |= {"remove_unused_columns": False, "disable_tqdm": True}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    return folder / "tiny.yaml"


def train(recipe, output, **flags):
    flags = {"output_dir": output, "cache_dir": output / "cache", **flags}
    return run_mmre.main([str(recipe), *(f"--{name}={value}" for name, value in flags.items())])


def test_more_is_prepared_trained_and_scored(recipe, tmp_path):
    output = run(more_archive(tmp_path / "more"), source="more", features="colours")
    post = load(output, "more")["train"][1]
    assert post["boxes"][1] == pytest.approx([40, 20, 70, 55], abs=0.01)
    assert post["object_labels"] == ["a red thing", "a green thing"]
    assert [pair["tail_object"] for pair in post["pairs"]] == [1, 1] and post["pairs"][0]["tail"] == []
    assert post["object_features"][0][0] > 0.9 > 0.1 > post["object_features"][1][0]  # red, then green
    metrics = train(recipe, tmp_path / "run", dataset=output, dataset_config="more")
    assert 0 <= metrics["test_f1"] <= 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {row["tail"] for row in rows} == {"[object]"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["visual_feature_size"] == 6 and config["id2label"]["1"] == "/per/per/peer"


def test_mnre_1_without_images_is_prepared_trained_and_scored(recipe, tmp_path):
    for split, number in (("train", 4), ("val", 2), ("test", 2)):
        mnre_archive(tmp_path / "mnre", range(number), split, version_1=True)
    output = run(tmp_path / "mnre", source="mnre_v1")
    columns = load(output, "mnre_v1")["train"].features
    assert columns["pairs"].feature["relation"].names == ["none", "/per/per/peer"] and "image" not in columns
    metrics = train(recipe, tmp_path / "run", dataset=output, dataset_config="mnre_v1")
    assert 0 <= metrics["test_f1"] <= 1


def test_one_s_own_data_trains_without_being_prepared(recipe, tmp_path):
    pairs = [{"head": "Ann", "tail": "Bob", "relation": "peer"}, {"head": "Bob", "tail": "Ann", "relation": "None"}]
    rows = [json.dumps({"text": f"Ann met Bob {i}", "pairs": pairs}) for i in range(3)]
    for split in ("train", "validation", "test"):
        write_lines(tmp_path / "mine" / f"{split}.jsonl", rows)
    metrics = train(recipe, tmp_path / "run", dataset="jsonl", data_dir=tmp_path / "mine")
    assert 0 <= metrics["test_f1"] <= 1


@pytest.mark.skipif(not (MNRE_DATA / "img_org").is_dir(), reason=f"the real images of MNRE are not in {MNRE_DATA}")
def test_the_real_images_are_prepared_and_train_a_step(recipe, tmp_path):
    tools = {"detector": "blobs", "features": "colours", "on_bad_image": "skip_post"}
    output = run(MNRE_DATA, source="mnre", captions="qwen", output_dir=str(tmp_path / "out"), **tools)
    posts = load(output, "mnre")
    assert sum(map(len, posts.values())) == 34 and all(post["image"].size == (800, 600) for post in posts["train"])
    streamed = load(output, "mnre", split="train", streaming=True)
    assert next(iter(streamed))["image_id"] == posts["train"][0]["image_id"]
    metrics = train(recipe, tmp_path / "run", dataset=output, dataset_config="mnre", max_steps=1)
    assert metrics["train_loss"] > 0
