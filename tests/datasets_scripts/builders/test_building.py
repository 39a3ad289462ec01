"""Cached sets follow code, config and data; visual features are made once an image and joined to the posts."""

import importlib.util
import os
import re
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel

from datasets_scripts.builders import building
from datasets_scripts.builders.building import build, visual_feature_description
from datasets_scripts.schema import group_into_posts, post_features


BUILDER = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import datasets

from datasets_scripts.schema import new_pair, new_post, post_features


@dataclass
class ToyConfig(datasets.BuilderConfig):
    prefix: str = "p"


class Toy(datasets.GeneratorBasedBuilder):
    BUILDER_CONFIG_CLASS = ToyConfig
    BUILDER_CONFIGS: ClassVar = [ToyConfig(name="toy")]

    def _info(self):
        return datasets.DatasetInfo(
            description="toy", features=post_features(["none", "x"], images=True, visual_feature_size=None)
        )

    def _split_generators(self, dl_manager):
        return [
            datasets.SplitGenerator(name=path.stem, gen_kwargs={"path": path})
            for path in sorted(Path(self.config.data_dir).glob("*.txt"))
        ]

    def _generate_examples(self, path):
        for index, line in enumerate(path.read_text().splitlines()):
            image_id, _, box = line.partition(" ")
            image = path.parent / image_id
            yield index, new_post(
                f"{self.config.prefix}{index}", ["a", "b"], image_id, [new_pair([0, 1], [1, 2], "x")],
                image=str(image) if image.is_file() else None, boxes=[[0, 0, float(box), 2]] if box else [],
                object_labels=[""] if box else [],
            )
"""


@pytest.fixture
def make_toy(tmp_path, monkeypatch):
    """A function that (re)writes the toy builder's module and imports it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source=BUILDER):
        path = tmp_path / "toy_builder.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("toy_builder", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "toy_builder", module)
        spec.loader.exec_module(module)
        return module.Toy

    return make


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    Image.new("RGB", (8, 8), (10, 0, 0)).save(folder / "1.png")
    Image.new("RGB", (8, 8), (20, 0, 0)).save(folder / "2.png")
    (folder / "train.txt").write_text("1.png 4\ngone.png\n2.png\n1.png 4\n")
    (folder / "test.txt").write_text("gone.png 3\n")
    return folder


class FakeExtractor:
    """Stands for VisualFeatureExtractor: 3 values, the red of the image's corner first; counts the images."""

    seen: ClassVar = []

    def __init__(self, spec, size):
        self.description = {"spec": spec, "size": size, "feature_size": 3}

    @classmethod
    def from_spec(cls, spec, *, size):
        return cls(spec, size)

    def extract(self, images_and_boxes, progress):
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


@pytest.fixture
def fields(folder, tmp_path):
    return {"config_name": "toy", "data_dir": folder, "cache_dir": tmp_path / "cache"}


def cache_of(dataset):
    return dataset["train"].cache_files


def test_same_code_and_data_load_the_cached_set(make_toy, fields):
    first = build(make_toy(), **fields)
    assert cache_of(build(make_toy(), **fields)) == cache_of(first)
    assert first["train"]["id"][:] == ["p0", "p1", "p2", "p3"]


def test_changed_data_is_read_again(make_toy, folder, fields):
    first = build(make_toy(), **fields)
    os.utime(folder / "train.txt", (1, 1))  # the time alone
    assert cache_of(build(make_toy(), **fields)) != cache_of(first) and len(first["train"]) == 4
    (folder / "train.txt").write_text("2.png\n")
    assert len(build(make_toy(), **fields)["train"]) == 1


def test_changed_code_is_run_again(make_toy, fields):
    build(make_toy(), **fields)
    changed = make_toy(BUILDER.replace('f"{self.config.prefix}', 'f"new-{self.config.prefix}'))
    assert build(changed, **fields)["train"][0]["id"] == "new-p0"


def test_config_fields_reach_the_builder_and_its_cache(make_toy, fields):
    assert build(make_toy(), **fields)["train"][0]["id"] == "p0"
    assert build(make_toy(), prefix="q", **fields)["train"][0]["id"] == "q0"


def test_cache_inside_the_data_folder_does_not_count_as_data(make_toy, folder):
    fields = {"config_name": "toy", "data_dir": folder, "cache_dir": folder / "cache"}
    assert cache_of(build(make_toy(), **fields)) == cache_of(build(make_toy(), **fields))


def test_relative_and_absolute_data_dir_share_a_cache(make_toy, fields, tmp_path, monkeypatch):
    first = build(make_toy(), **fields)
    monkeypatch.chdir(tmp_path)
    assert cache_of(build(make_toy(), **fields | {"data_dir": "toy/../toy"})) == cache_of(first)


def test_modules_that_the_builder_imports_count_as_its_code(monkeypatch):
    hashed = []
    monkeypatch.setattr(building.Hasher, "hash", hashed.append)
    building.code_digest(["datasets_scripts.builders.mnre"])
    names = {name for name, _ in hashed[0]}
    assert {f"datasets_scripts.{name}" for name in ("builders.mnre", "builders.lines", "nodes.phrases")} <= names
    assert "modeling_vmhan.labels" in names and "datasets_scripts.builders.more" not in names


def test_relative_imports_and_those_in_functions_are_followed():
    source = "from .lines import a\nfrom . import mnre\ndef f():\n    import modeling_vmhan.images"
    assert set(building._own_imports(source, "datasets_scripts.builders")) >= {
        "datasets_scripts.builders.lines", "datasets_scripts.builders.mnre", "modeling_vmhan.images",
    }  # fmt: skip


@pytest.mark.parametrize("changed", [{"config_name": "other"}, {"prefxi": "q"}])
def test_unknown_config_and_field(changed, make_toy, fields):
    name, value = next(iter(changed.items()))
    with pytest.raises(ValueError, match=f"(config_name|config_fields): .*{value if name == 'config_name' else name}"):
        build(make_toy(), **fields | changed)


def test_features_are_made_once_an_image_and_joined(make_toy, folder, fields, extractor):
    dataset = build(make_toy(), features="random:0", feature_size_px=32, **fields)
    assert extractor.seen == [10, 20]
    assert dataset["train"].features == post_features(["none", "x"], images=True, visual_feature_size=3)
    assert dataset["train"].column_names == list(post_features(["none"], images=True, visual_feature_size=3))
    assert dataset["train"]["image_features"][:] == [[10] * 3, None, [20] * 3, [10] * 3]
    assert dataset["train"]["object_features"][:] == [[[11] * 3], [], [], [[11] * 3]]
    assert dataset["test"][0]["image_features"] is None
    assert dataset["test"][0]["object_features"] == []
    assert visual_feature_description(dataset)["size"] == 32
    assert "toy" in dataset["train"].info.description


def test_features_are_cached_by_weights_and_size(make_toy, folder, fields, extractor):
    build(make_toy(), features="random:0", **fields)
    again = build(make_toy(), features="random:0", **fields)
    assert len(extractor.seen) == 2
    assert visual_feature_description(again)["spec"] == "random:0"
    build(make_toy(), features="random:1", **fields)
    build(make_toy(), features="random:0", feature_size_px=64, **fields)
    assert len(extractor.seen) == 6
    plain = build(make_toy(), **fields)
    assert "image_features" not in plain["train"].features
    assert visual_feature_description(plain) is None


def test_features_without_images(make_toy, folder, fields, extractor):
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="features='imagenet'"):
        build(make_toy(), features="imagenet", **fields)


@pytest.mark.parametrize(
    ("content", "train", "match"),
    [
        (b"junk", None, "image '2.png'"),
        (b"", None, "image '2.png'"),
        ("cut", None, "image '2.png'"),
        (None, "2.png 3\n1.png 0\n", "image '1.png'"),
        (None, "2.png 3\n1.png 9.5\n", "image '1.png'"),
        (None, "1.png 4\n1.png 5\n", "boxes: .*'1.png'"),
    ],
)
def test_an_unreadable_image_or_a_wrong_box_is_named_by_its_image(
    content, train, match, make_toy, folder, fields, extractor
):
    path = folder / "2.png"
    if content is not None:
        path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    if train:
        (folder / "train.txt").write_text(train)
    with pytest.raises(ValueError, match=match):
        build(make_toy(), features="imagenet", **fields)


def test_images_of_every_kind_get_features(make_toy, folder, fields, extractor):
    """CMYK, palette with transparency, 1 x 1, lying on its side: the corner's red of the upright RGB image."""
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.new("RGB", (8, 8), (40, 0, 0))
    picture.putpixel((7, 7), (30, 0, 0))
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(folder / "cmyk.tif")
    Image.new("P", (8, 8), 0).save(folder / "palette.png", transparency=0)
    Image.new("RGB", (1, 1), (50, 0, 0)).save(folder / "one.png")
    picture.save(folder / "turned.png", exif=exif)
    (folder / "train.txt").write_text("cmyk.tif 4\npalette.png 4\none.png\nturned.png 8\n")
    build(make_toy(), features="imagenet", **fields)
    assert extractor.seen == [0, 255, 50, 30]


def test_many_posts_of_an_image_cost_one_pass(make_toy, folder, fields, extractor, monkeypatch):
    monkeypatch.setattr(building, "IMAGES_AT_ONCE", 4)  # so that posts and images come in several pieces
    names = [f"{i}.png" for i in range(1, 8)]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(folder / name)
    posts = [name for _ in range(9) for name in ("gone.png", *names)]
    (folder / "train.txt").write_text("".join(f"{name} 3\n" for name in posts))
    dataset = build(make_toy(), features="imagenet", **fields)["train"]
    assert extractor.seen == [10 * i for i in range(7)]
    reds = [None if name == "gone.png" else [10.0 * names.index(name)] * 3 for name in posts]
    assert dataset["image_features"][:] == reds
    assert dataset["object_features"][:] == [[] if red is None else [[value + 1 for value in red]] for red in reds]


def test_a_changed_encoder_folder_is_read_again(make_toy, tmp_path, fields, extractor):
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").write_text("old")
    for content, passes in (("old", 2), ("old", 2), ("newer", 4)):
        if content == "newer":
            (encoder / "model.safetensors").write_text(content)
        build(make_toy(), features=f"transformers:{encoder}", **fields)
        assert len(extractor.seen) == passes


def test_the_real_extractor_builds_a_set(make_toy, fields, tmp_path, make_vision_config):
    AutoModel.from_config(make_vision_config()).save_pretrained(tmp_path / "encoder")
    spec = f"transformers:{tmp_path / 'encoder'}"
    dataset = build(make_toy(), features=spec, **fields)
    assert dataset["train"].features == post_features(["none", "x"], images=True, visual_feature_size=32)
    description = visual_feature_description(dataset)
    assert description["encoder"] == "transformers" and description["transform"]["size"] == 32
    first, second = dataset["train"][0]["image_features"], dataset["train"][2]["image_features"]
    assert first == dataset["train"][3]["image_features"] and first != second


@pytest.mark.parametrize("arguments", [(["a", "a"], None), ([], None), (["a"], 0)])
def test_schema_checks(arguments):
    labels, size = arguments
    with pytest.raises(ValueError, match=re.escape(f"received {labels if size is None else size}")):
        post_features(labels, images=False, visual_feature_size=size)


def test_columns_that_are_not_asked_for():
    columns = post_features(["a"], images=False, visual_feature_size=None)
    assert not {"image", "image_features", "object_features"} & set(columns)


def test_posts_group_by_sentence_and_image():
    facts = [(["a"], "1", {"n": 0}), (["a"], "2", {"n": 1}), (["a"], "1", {"n": 2}), (["b"], "1", {"n": 3})]
    posts = group_into_posts(facts)
    assert list(posts) == [(("a",), "1"), (("a",), "2"), (("b",), "1")]
    assert posts[("a",), "1"] == [{"n": 0}, {"n": 2}]
