"""The paper's recipe by its own files: configs/prepare/X_paper.yaml, then a step of configs/X_paper.yaml."""

import json
import re

import pytest
from chat_server import ChatServer, prompt_of
from paths import MNRE_DATA
from PIL import Image
from prepare_fakes import BlobDetector
from prepare_runs import load, more_archive

import run_mmre
from datasets_scripts.prepare.command import main


def answer(number, body):
    """As the prompt asks: the sentence's last word, two phrases about the image, or the last three objects."""
    prompt = prompt_of(body)
    if "Sentence: " in prompt:
        return json.dumps({"phrases": prompt.split("Sentence: ")[1].split("\n")[0].split()[-1:]})
    numbers = [int(index) for index in re.findall(r"^(\d+): ", prompt, flags=re.M)]
    return json.dumps({"objects": numbers[::-1][:3]} if numbers else {"phrases": ["a stage", "blue light"]})


def mnre_archive(folder):
    """Three posts a split, each with an image of two blobs."""
    (folder / "mnre_txt").mkdir(parents=True)
    for split in ("train", "val"):
        lines = []
        for i in range(3):
            (folder / "img_org" / split).mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (80, 60), (90, 90, 20 * i))
            picture.paste((255, 0, 0), (5, 5, 35, 35))
            picture.paste((0, 255, 0), (40, 20, 70, 55))
            picture.save(folder / "img_org" / split / f"{split}-{i}.jpg", quality=95)
            fact = {"token": ["Ann", "met", f"Bob{i}", "outside"], "img_id": f"{split}-{i}.jpg"}
            fact |= {"h": {"name": "Ann", "pos": [0, 1]}, "t": {"name": f"Bob{i}", "pos": [2, 3]}}
            lines.append(str(fact | {"relation": ("None", "/per/per/peer")[i % 2]}))
        (folder / "mnre_txt" / f"mnre_{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def follow(workplace, thin_vgg16, tmp_path, monkeypatch):
    """`follow(name, folder, *limits)`: prepare and train by the files of this name, with a loopback endpoint, random
    weights, blobs for YOLO's boxes and a tiny text encoder; (posts, metrics, the run's config)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    specs = []
    detector = "datasets_scripts.detection.detectors.make_detector"
    monkeypatch.setattr(detector, lambda spec, **options: specs.append(spec) or BlobDetector())

    def followed(name, folder, *limits):
        with ChatServer(answer) as server:
            numbers = {"num_text_phrases": 3, "num_image_phrases": 3, "num_objects": 3}
            flags = ["--selector", f"openai:llama3@{server.url},llava@{server.url}", "--features", "vgg16:random:0"]
            flags += ["--selector_options", json.dumps(numbers | {"cache_dir": str(tmp_path / "answers")})]
            flags += ["--feature_options", '{"size": 32}', "--figures", "false", *limits]
            output = main([f"{name}_paper", "--data_dir", str(folder), "--output_dir", str(tmp_path / "out"), *flags])
            assert {body["model"] for body in server.bodies} == {"llama3", "llava"}
        assert specs == (["ultralytics:yolov3u.pt"] if name == "mnre" else [])
        training = ["--dataset", str(output), "--text_encoder", str(workplace / "encoder"), "--max_steps", "1"]
        training += ["--use_cpu", "true", "--eval_strategy", "no", "--save_strategy", "no", "--disable_tqdm", "true"]
        training += ["--load_best_model_at_end", "false", "--cache_dir", str(tmp_path / "cache")]
        metrics = run_mmre.main([f"{name}_paper", "--output_dir", str(tmp_path / "run"), *training])
        return load(output, name), metrics, json.loads((tmp_path / "run" / "config.json").read_text())

    return followed


@pytest.mark.parametrize(
    ("name", "archive", "last_word", "objects"),
    [("mnre", mnre_archive, [3, 4], [1, 0]), ("more", more_archive, [2, 3], [1])],  # of MORE the tail is the other one
)
def test_the_recipe_gives_every_node_and_trains_a_step(follow, tmp_path, name, archive, last_word, objects):
    posts, metrics, config = follow(name, archive(tmp_path / "archive"))
    first = posts["train"][0]
    assert first["image_phrases"] == ["a stage", "blue light"] and first["pairs"][0]["image_phrases"] == [0, 1]
    assert first["pairs"][0]["text_phrases"] == [last_word]
    assert first["pairs"][0]["objects"] == objects and len(first["object_features"]) == 2
    assert metrics["train_loss"] > 0 and config["visual_feature_size"] == 4096
    assert (config["num_objects"], config["num_text_phrases"], config["num_image_phrases"]) == (3, 3, 3)


@pytest.mark.skipif(not (MNRE_DATA / "img_org").is_dir(), reason=f"the real images of MNRE are not in {MNRE_DATA}")
def test_the_real_images_go_through_the_recipe(follow):
    posts, metrics, _ = follow("mnre", MNRE_DATA, "--on_bad_image", "skip_post")
    assert sum(map(len, posts.values())) == 34 and metrics["train_loss"] > 0
    assert all(pair["image_phrases"] for split in posts.values() for post in split for pair in post["pairs"])


@pytest.mark.parametrize(("name", "archive"), [("mnre", mnre_archive), ("more", more_archive)])
def test_without_the_preparation_the_training_says_what_to_do(workplace, thin_vgg16, tmp_path, name, archive):
    flags = ["--dataset", name, "--data_dir", str(archive(tmp_path / "archive")), "--features", "random:0"]
    flags += ["--feature_size_px", "32", "--cache_dir", str(tmp_path / "cache"), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match="--num_(objects|text_phrases): .*received 3, and 0 of .*vmhan prepare"):
        run_mmre.main([f"{name}_paper", "--text_encoder", str(workplace / "encoder"), *flags])
