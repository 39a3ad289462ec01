"""The benchmark of alternatives: that every row is there, what is counted of a VLM, and which pictures are encoded."""

import functools
import io
import json

import pytest
import torch
from paths import ROOT
from PIL import Image

from benchmarks.harness import posts
from benchmarks.harness.competitors import load_encoder
from benchmarks.harness.timing import ratio
from benchmarks.inference import alternatives, subjects
from benchmarks.inference.vlm import Count, Rates, count
from datasets_scripts.builders.building import build
from modeling_vmhan.vgg16 import VGG16RegionEncoder
from vmhan.baselines.pyramid import PyramidEncoder


REFERENCES = {
    "bare text": "bare text",
    "VM-HAN, text only": "bare text",
    "VM-HAN, phrases": "bare text",
    "VM-HAN, features": "bare text",
    "bare vision": "bare vision",
    "VM-HAN, VGG16": "bare vision",
    "VM-HAN, seen before": "VM-HAN, VGG16",
    "VM-HAN, ViT-B/32": "VM-HAN, VGG16",
    "HVPNeT, ResNet-50": "VM-HAN, VGG16",
    "CLIP, zero-shot": "VM-HAN, VGG16",
    "VLM, assumed": "VM-HAN, VGG16",
}
LABELS = {0: "None", 1: "/per/org/member_of"}


def jpeg(width, height, colour="grey"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, format="JPEG")
    return file.getvalue()


@pytest.fixture
def two_posts():
    """Two posts; the second asks twice about one pair."""
    short = {"id": "0", "tokens": "Ann met Bob".split(), "image": jpeg(560, 280)}
    long = {"id": "1", "tokens": "Ann and Bob in Paris".split(), "image": jpeg(2000, 1000, "red")}
    first, second = {"head": [0, 1], "tail": [2, 3], "relation": 1}, {"head": [0, 1], "tail": [4, 5], "relation": 0}
    boxes = [[0, 0, 90, 90], [10, 0, 90, 90], [0, 20, 90, 90]]
    return [short | {"pairs": [first], "boxes": boxes}, long | {"pairs": [second, second], "boxes": boxes}]


def test_each_alternative_is_measured_at_each_size(thin_vgg16, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(posts, "build", functools.partial(build, cache_dir=tmp_path / "cache"))
    flags = "--encoder tiny --size 32 --posts 2 --singles 1 --rounds 1 --vlm_read_per_second 1000".split()
    alternatives.main([*flags, "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "alternatives.json").read_text())
    text = (tmp_path / "alternatives.md").read_text()
    assert text in capsys.readouterr().out + "\n" and "](answers.png)" in text
    assert (tmp_path / "answers.png").read_bytes().startswith(b"\x89PNG")
    assert list(report["rounds"]) == ["answers/2 posts", "answers/one post"]
    for table, number in zip(report["rounds"].values(), (2, 1)):
        assert {name: row["against"] for name, row in table.items()} == REFERENCES
        assert all(len(row["values"]["time"]) == 1 and row["values"]["time"][0] > 0 for row in table.values())
        pairs, relations = table["bare text"]["work"]["pairs"], report["about"]["relations"]
        assert table["CLIP, zero-shot"]["work"] == dict(
            posts=number, pairs=pairs, texts=pairs * relations, pictures=pairs
        )
        asked = report["about"][f"VLM, {number} posts"]
        seconds = (asked["text"] + asked["image"]) / 1000 + asked["written"] / 50
        assert table["VLM, assumed"]["values"]["time"] == pytest.approx([seconds])


def test_a_vlm_is_asked_about_each_pair_once(two_posts):
    words = lambda text, **_: {"input_ids": text.split()}  # noqa: E731
    counted = count(two_posts, ["None", "peer"], words)
    # the prompt has 30 words, two of them relations, beside the sentences' 3 and 5
    # 560 x 280 pixels are 20 x 10 patches; 2000 x 1000 are sent as 1024 x 512, which are 37 x 18
    assert counted == Count(requests=2, text=33 + 35, image=200 + 666, written=2 + 2)
    rates = Rates(read_per_second=100, written_per_second=2, usd_read=1, usd_written=10)
    assert counted.seconds(rates) == pytest.approx(9.34 + 2)
    assert counted.dollars(rates) == pytest.approx((934 + 40) / 1e6)


def test_only_pictures_that_are_new_are_encoded(two_posts, thin_vgg16, monkeypatch):
    made = subjects.vgg16_subjects(*load_encoder("tiny"), LABELS, two_posts, size=32)
    encoded, encode = [], VGG16RegionEncoder.encode
    monkeypatch.setattr(VGG16RegionEncoder, "encode", lambda *given: encoded.append(len(given[1])) or encode(*given))
    with torch.no_grad():
        for name, passes in [("VM-HAN, VGG16", [4, 4]), ("VM-HAN, seen before", []), ("bare vision", [8])]:
            encoded.clear()
            made[name](two_posts)
            assert encoded == passes, name
        made["VM-HAN, VGG16"](two_posts[:1])  # forgets nothing of the other
        encoded.clear()
        made["VM-HAN, seen before"](two_posts)
    assert encoded == []


def test_hvpnet_sees_the_picture_and_its_boxes(two_posts, monkeypatch):
    encoded, forward = [], PyramidEncoder.forward
    monkeypatch.setattr(PyramidEncoder, "forward", lambda *given: encoded.append(len(given[1])) or forward(*given))
    with torch.no_grad():
        scores = subjects.hvpnet(*load_encoder("tiny"), LABELS, size=32)(two_posts)
    assert encoded == [8] and scores.shape == (3, 2)


def test_clip_reads_a_text_for_each_relation_of_a_pair(two_posts):
    relations = list(LABELS.values())
    assert subjects.descriptions(two_posts[1], relations) == 2 * [["Ann and Paris: None", "Ann and Paris: member of"]]
    _, tokenizer = load_encoder("tiny")
    answers = subjects.clip(tokenizer, relations, subjects.clip_config(tokenizer, tiny=True))(two_posts)
    assert [{answer["label"] for answer in of_pair} for of_pair in answers] == [
        {"Ann and Bob: None", "Ann and Bob: member of"},
        *2 * [{"Ann and Paris: None", "Ann and Paris: member of"}],
    ]


def test_clips_shape_is_that_of_vit_b_32():
    _, tokenizer = load_encoder("tiny")
    shape = subjects.clip_config(tokenizer, tiny=False)
    vision, text = shape.vision_config, shape.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.patch_size) == (768, 12, 224, 32)
    assert (text.hidden_size, text.num_hidden_layers, shape.projection_dim) == (512, 12, 512)
    assert text.vocab_size >= len(tokenizer)


def test_a_wrong_rate_is_named(capsys):
    with pytest.raises(SystemExit):
        alternatives.main(["--vlm_read_per_second", "0"])
    assert "vlm_read_per_second" in capsys.readouterr().err


def test_the_page_says_what_its_run_measured():
    page, folder = (ROOT / "docs/speed/README.md").read_text(encoding="utf-8"), ROOT / "docs/speed/alternatives"
    report = json.loads((folder / "alternatives.json").read_text(encoding="utf-8"))
    many, one = report["rounds"].values()
    for name, against in REFERENCES.items():
        if name == against:
            continue
        cells = []
        for table in (one, many):
            low, median, high = ratio(table[name]["values"]["time"], table[against]["values"]["time"])
            cells.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
        assert f"| {name} | {against} | {' | '.join(cells)} |" in page
    asked = report["about"]["VLM, 16 posts"]
    said = "{requests} requests with {text:,} tokens of text and {image:,} of pictures, {written} tokens of answers"
    assert said.format(**asked) in " ".join(page.split())
