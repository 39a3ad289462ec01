"""From archives in their own format, through prepare, to a trained and scored model; and the real images, if here."""

import json

import datasets
import pytest
import torch
import yaml
from paths import MNRE_DATA
from PIL import Image
from prepare_fakes import make_fakes
from transformers import AutoTokenizer, BertConfig, BertModel

import run_mmre
from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


REAL = MNRE_DATA


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A YAML config around a tiny text encoder."""
    folder = tmp_path_factory.mktemp("recipe")
    tokenizer = AutoTokenizer.from_pretrained(resolve_text_encoder(OFFLINE_ENCODER))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    entries = {
        "text_encoder": str(folder / "encoder"),
        "do_train": True,
        "use_cpu": True,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "eval_strategy": "no",
        "save_strategy": "no",
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(entries))
    return folder / "tiny.yaml"


def train(recipe, output, **flags):
    flags = {"output_dir": output, "cache_dir": output / "cache", **flags}
    return run_mmre.main([str(recipe), *(f"--{name}={value}" for name, value in flags.items())])


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{record}\n" for record in records))


def draw(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (80, 60), (90, 90, 20 * number))
    picture.paste((255, 0, 0), (5, 5, 35, 35))
    picture.paste((0, 255, 0), (40, 20, 70, 55))
    picture.save(path)


def more_archive(folder):
    """MORE as its archive has it: objects in relative centre format, tails that are objects, three splits."""
    objects = {"[OBJ0]": (0.25, 0.3334, 0.375, 0.5), "[OBJ1]": (0.6875, 0.625, 0.375, 0.5834)}
    for split, number in (("train", 4), ("valid", 2), ("test", 2)):
        facts, boxes = [], {}
        for i in range(number):
            image, tail = f"{split}-{i}.jpg", f"[OBJ{i % 2}]"
            draw(folder / "img_org" / split / image, i)
            fact = {"token": ["Ann", "met", f"Bob{i}"], "h": {"name": "Ann", "pos": [0, 1]}, "img_id": image}
            for head, relation in (([0, 1], "/per/per/peer"), ([2, 3], "none")):
                name = " ".join(fact["token"][slice(*head)])
                tail_of = {"name": tail, "box": objects[tail]}
                facts.append({**fact, "h": {"name": name, "pos": head}, "t": tail_of, "relation": relation})
            boxes[image] = objects
        write_lines(folder / "txt" / f"{split}.txt", facts)
        torch.save(boxes, folder / f"ent_{split}_dict.pth")
    write_lines(folder / "rel2id.json", [json.dumps({"none": 0, "/per/per/peer": 1, "/per/org/member_of": 2})])
    captions = {f"train-{i}.jpg": {"[OBJ0]": "a red thing", "[OBJ1]": "a green thing"} for i in range(4)}
    write_lines(folder / "caption_dict.json", [json.dumps(captions)])
    return folder


def test_more_is_prepared_trained_and_scored(recipe, tmp_path):
    fields = {"source": "more", "data_dir": str(more_archive(tmp_path / "more")), "figures": False}
    arguments = PrepareArguments(output_dir=str(tmp_path / "out"), features="colours", selector="none", **fields)
    output = prepare(arguments, make_tools=make_fakes)
    post = datasets.load_dataset(str(output), "more", cache_dir=str(tmp_path / "cache"))["train"][1]
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


def mnre_v1_archive(folder):
    """MNRE-1: lower-case none label, fields in another order, image ids that are numbers, no images."""
    for split, number in (("train", 4), ("val", 2), ("test", 2)):
        facts = []
        for i in range(number):
            mentions = {"h": {"name": "Ann", "pos": [0, 1]}, "t": {"name": "Bob", "pos": [2, 3]}}
            fact = {"token": ["Ann", "met", "Bob", f"{split}{i}"], "img_id": i, **mentions}
            facts.append({"relation": ("none", "/per/per/peer")[i % 2], **fact})
        write_lines(folder / "mnre_txt" / f"mnre_{split}.txt", facts)
    return folder


def test_mnre_1_without_images_is_prepared_trained_and_scored(recipe, tmp_path):
    fields = {"source": "mnre_v1", "data_dir": str(mnre_v1_archive(tmp_path / "mnre")), "figures": False}
    output = prepare(PrepareArguments(output_dir=str(tmp_path / "out"), selector="none", **fields))
    columns = datasets.load_dataset(str(output), cache_dir=str(tmp_path / "cache"))["train"].features
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


@pytest.mark.skipif(not (REAL / "img_org").is_dir(), reason=f"the real images of MNRE are not in {REAL}")
def test_the_real_images_are_prepared_and_train_a_step(recipe, tmp_path):
    fields = {"source": "mnre", "data_dir": str(REAL), "captions": "qwen", "only_with_images": True}
    fields |= {"detector": "blobs", "features": "colours", "selector": "none", "figures": False}
    output = prepare(PrepareArguments(output_dir=str(tmp_path / "out"), **fields), make_tools=make_fakes)
    posts = datasets.load_dataset(str(output), "mnre", cache_dir=str(tmp_path / "cache"))
    assert sum(map(len, posts.values())) == 34 and all(post["image"].size == (800, 600) for post in posts["train"])
    streamed = datasets.load_dataset(str(output), "mnre", split="train", streaming=True)
    assert next(iter(streamed))["image_id"] == posts["train"][0]["image_id"]
    metrics = train(recipe, tmp_path / "run", dataset=output, dataset_config="mnre", max_steps=1)
    assert metrics["train_loss"] > 0
