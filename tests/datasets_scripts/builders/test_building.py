"""Cached sets follow code, config and data; visual features are made once an image and joined to the posts."""

import functools
import importlib.util
import json
import os
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel

from datasets_scripts.builders import building
from datasets_scripts.builders.building import build, visual_feature_description
from datasets_scripts.builders.jsonl import Posts
from datasets_scripts.schema import post_features


BUILDER = """
from datasets_scripts.builders.jsonl import Posts

class Toy(Posts):
    def _generate_examples(self, split, path):
        for index, post in super()._generate_examples(split, path):
            yield index, post | {"id": "p-" + post["id"]}
"""


@pytest.fixture
def write_posts(tmp_path):
    """`write_posts(split, *images)`: a file of posts that show "NAME", or "NAME X1" with a box from 0 to X1."""

    def write(split, *images):
        pairs, rows = [{"head": "a", "tail": "b", "relation": "x"}], []
        for index, image in enumerate(images):
            name, _, side = image.partition(" ")
            boxes = {"boxes": [[0, 0, float(side), 1]]} if side else {}
            rows.append({"id": f"{split}{index}", "text": "a b", "image": name, "pairs": pairs} | boxes)
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    return write


@pytest.fixture
def folder(tmp_path, write_posts):
    folder = tmp_path / "mine"
    write_posts("train", "1.png 4", "gone.png", "2.png", "1.png 4")
    write_posts("test", "gone.png 3")
    (folder / "labels.json").write_text('["none", "x"]')
    Image.new("RGB", (8, 8), (10, 0, 0)).save(folder / "1.png")
    Image.new("RGB", (8, 8), (20, 0, 0)).save(folder / "2.png")
    return folder


@pytest.fixture
def load(folder):
    """`load(builder_class=, **fields)`: the posts of `folder`; an image that is not there makes a post without one."""
    fields = {"config_name": "jsonl", "data_dir": folder, "missing_images": "none"}
    return functools.partial(build, builder_class=Posts, **fields)


class FakeExtractor:
    """Stands for VisualFeatureExtractor: 3 values, the red of the image's corner first; counts the images."""

    seen: ClassVar = []

    def __init__(self, spec, size):
        self.description = {"spec": spec, "size": size, "feature_size": 3}

    @classmethod
    def from_spec(cls, spec, *, size):
        return cls(spec, size)

    def extract(self, images_and_boxes):
        for image, boxes in images_and_boxes:
            red = image.getpixel((0, 0))[0]
            self.seen.append(red)
            yield np.full(3, red, np.float16), np.full((len(boxes), 3), red + 1, np.float16)


@pytest.fixture
def extractor(monkeypatch):
    fake = types.ModuleType("datasets_scripts.features")
    fake.VisualFeatureExtractor = FakeExtractor
    monkeypatch.setitem(sys.modules, "datasets_scripts.features", fake)
    monkeypatch.setattr(FakeExtractor, "seen", [])
    return FakeExtractor


def test_the_cache_follows_data_and_settings(folder, load, write_posts, tmp_path, monkeypatch):
    def files(**fields):
        return load(**fields)["train"].cache_files

    first = files()
    assert files() == first
    monkeypatch.chdir(tmp_path)
    assert files(data_dir="mine/../mine") == first
    os.utime(folder / "1.png", (1, 1))  # the time of an image alone
    assert files() != first
    write_posts("train", "2.png")
    assert len(load()["train"]) == 1


def test_changed_code_is_run_again(load, tmp_path, monkeypatch):
    for prefix in ("p-", "new-"):
        path = tmp_path / "toy_builder.py"
        path.write_text(BUILDER.replace("p-", prefix))
        spec = importlib.util.spec_from_file_location("toy_builder", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "toy_builder", module)
        monkeypatch.syspath_prepend(str(tmp_path))
        spec.loader.exec_module(module)
        assert load(builder_class=module.Toy)["train"][0]["id"] == f"{prefix}train0"


def test_modules_that_the_builder_imports_count_as_its_code(monkeypatch):
    hashed = []
    monkeypatch.setattr(building.Hasher, "hash", hashed.append)
    building.code_digest(["datasets_scripts.builders.mnre"])
    names = {name for name, _ in hashed[0]}
    assert {f"datasets_scripts.{name}" for name in ("builders.mnre", "builders.lines")} <= names
    assert {"modeling_vmhan.labels", "modeling_vmhan.phrases"} <= names
    assert "datasets_scripts.builders.more" not in names
    source = "from .lines import a\nfrom . import mnre\ndef f():\n    import modeling_vmhan.images"
    found = building._own_imports(source, "datasets_scripts.builders")
    assert {"datasets_scripts.builders.lines", "datasets_scripts.builders.mnre", "modeling_vmhan.images"} <= {*found}


@pytest.mark.parametrize(("name", "value"), [("config_name", "other"), ("prefxi", "q")])
def test_unknown_config_and_field(load, name, value):
    with pytest.raises(ValueError, match=f"config_name: .*'{value}'|config_fields: .*'{name}'"):
        load(**{name: value})


def test_features_are_made_once_an_image_and_joined(load, extractor):
    dataset = load(features="random:0", feature_size_px=32)
    assert extractor.seen == [10, 20]
    expected = post_features(["none", "x"], images=True, visual_feature_size=3)
    assert dataset["train"].features == expected and dataset["train"].column_names == list(expected)
    assert dataset["train"]["image_features"][:] == [[10] * 3, None, [20] * 3, [10] * 3]
    assert dataset["train"]["object_features"][:] == [[[11] * 3], [], [], [[11] * 3]]
    assert (dataset["test"][0]["image_features"], dataset["test"][0]["object_features"]) == (None, [])
    assert visual_feature_description(dataset)["size"] == 32


def test_features_are_cached_by_weights_and_size(load, tmp_path, extractor):
    weights = tmp_path / "encoder" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_text("old")
    of_folder = {"features": f"transformers:{weights.parent}"}
    for fields, passes in (({"features": "random:0"}, 2), ({"features": "random:1"}, 4), (of_folder, 6)):
        for _ in range(2):
            assert visual_feature_description(load(**fields))["spec"] == fields["features"]
            assert len(extractor.seen) == passes
    load(features="random:0", feature_size_px=64)
    weights.write_text("newer")
    load(**of_folder)
    assert len(extractor.seen) == 10
    assert visual_feature_description(load()) is None


@pytest.mark.parametrize(
    ("images", "content", "match"),
    [
        (["2.png"], b"junk", "image '2.png'"),
        (["2.png"], b"", "image '2.png'"),
        (["2.png"], "cut", "image '2.png'"),
        (["1.png 9.5"], None, "'1.png'"),
        (["1.png 4", "1.png 5"], None, "boxes: .*'1.png'"),
        (["gone.png"], None, "features='imagenet'"),
    ],
)
def test_wrong_images_and_boxes_are_named(images, content, match, folder, load, write_posts, extractor):
    path = folder / "2.png"
    if content is not None:
        path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    write_posts("train", *images)
    with pytest.raises(ValueError, match=match):
        load(features="imagenet")


def test_many_posts_of_an_image_cost_one_pass(folder, load, write_posts, extractor, monkeypatch):
    monkeypatch.setattr(building, "IMAGES_AT_ONCE", 4)  # so that posts and images come in several pieces
    names = [f"{i}.png" for i in range(1, 8)]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(folder / name)
    posts = [name for _ in range(9) for name in ("gone.png", *names)]
    write_posts("train", *(f"{name} 3" for name in posts))
    dataset = load(features="imagenet")["train"]
    assert extractor.seen == [10 * i for i in range(7)]
    reds = [None if name == "gone.png" else [10.0 * names.index(name)] * 3 for name in posts]
    assert dataset["image_features"][:] == reds
    assert dataset["object_features"][:] == [[] if red is None else [[value + 1 for value in red]] for red in reds]


def test_the_real_extractor_builds_a_set(load, tmp_path, make_vision_config):
    AutoModel.from_config(make_vision_config()).save_pretrained(tmp_path / "encoder")
    dataset = load(features=f"transformers:{tmp_path / 'encoder'}")
    assert dataset["train"].features == post_features(["none", "x"], images=True, visual_feature_size=32)
    assert visual_feature_description(dataset)["transform"]["size"] == 32
    first, _, second, again = dataset["train"]["image_features"][:]
    assert first == again != second
