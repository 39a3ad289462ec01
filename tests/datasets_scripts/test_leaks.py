"""What is made from MNRE's leaky files is marked, and the mark follows the data; other configs never open them."""

import functools
import json
import os
import pickle

import datasets
import pytest
import torch
from PIL import Image
from published_files import write_mnre

from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE
from datasets_scripts.builders.published import read_line_file
from datasets_scripts.leaks import LEAKY, PHRASE_TEXT, leak_record, leak_status, mark_card, mark_leaky


CONFIG = "mnre_published_objects"
REASONS = [LEAKY[CONFIG], PHRASE_TEXT]


@pytest.fixture
def folder(tmp_path):
    write_mnre(tmp_path / "mnre", num_posts=4)
    return tmp_path / "mnre"


@pytest.fixture
def load(folder):
    return functools.partial(build, MNRE, config_name=CONFIG, data_dir=folder)


def test_each_pair_has_its_line_of_the_files_verbatim(load, folder):
    posts = load(phrase_text=True)["train"]
    pairs = [pair for post in posts for pair in post["pairs"]]
    crops = torch.load(folder / "mre_train_dict.pth", weights_only=True)
    phrases = json.loads((folder / "phrase_text_train.json").read_text())
    assert [pair["crops"] for pair in pairs] == [crops[line] for line in range(len(crops))]
    assert [pair["image_phrases"] for pair in pairs] == [[phrases[str(line)]] for line in range(len(pairs))]
    assert all(pair["objects"] == [] for pair in pairs) and not any(posts["boxes"])  # no image, so nothing to show


def test_with_the_image_each_crop_is_an_object_as_large_as_the_image(load, folder):
    image = folder / "img_org/train/1.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(image)
    post = load()["train"][1]
    assert post["object_labels"] == [name for pair in post["pairs"] for name in pair["crops"]]
    assert post["boxes"] == [[0, 0, 8, 6]] * len(post["object_labels"])
    for pair in post["pairs"]:
        assert [post["object_labels"][i] for i in pair["objects"]] == pair["crops"]


def test_files_of_the_official_layouts_are_found(load, folder):
    (folder / "txt").mkdir()
    (folder / "mnre_txt/mnre_train.txt").rename(folder / "txt/ours_val.txt")
    with pytest.raises(FileNotFoundError, match="validation split .*txt/mre_dev_dict.pth"):
        load()
    (folder / "mre_train_dict.pth").rename(folder / "txt/mre_dev_dict.pth")  # the peers' name
    assert load()["validation"][0]["pairs"][0]["crops"]


def test_a_changed_file_is_read_again(load, folder):
    before = load()["train"][0]["pairs"][0]["crops"]
    crops = torch.load(folder / "mre_train_dict.pth", weights_only=True)
    torch.save(crops | {0: ["new.png"]}, folder / "mre_train_dict.pth")
    assert load()["train"][0]["pairs"][0]["crops"] == ["new.png"] != before


def test_builds_are_marked_and_the_mark_follows_the_data(load):
    posts = load(phrase_text=True)
    assert leak_status(posts) == leak_status(posts["train"]) == leak_status(posts["train"].info) == REASONS
    assert leak_status(load()) == REASONS[:1]
    assert leak_status(load(config_name="mnre")) == []
    changed = posts["train"].remove_columns("caption").select([0]).add_column("length", [1])
    changed.info.config_name = None  # the mark alone, not the name
    assert leak_status(changed) == REASONS


def publish(posts, folder, name):
    """A folder as prepare makes it: Parquet and a card with YAML configs."""
    (folder / name).mkdir(parents=True)
    posts["train"].to_parquet(folder / name / "train-00000-of-00001.parquet")
    files = [{"split": "train", "path": f"{name}/train-*"}]
    infos = [posts["train"].info._to_yaml_dict() | {"config_name": name}]
    card = datasets.info.DatasetCardData(configs=[{"config_name": name, "data_files": files}], dataset_info=infos)
    (folder / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n# Posts\n")
    return folder / "README.md"


@pytest.mark.parametrize("name", [CONFIG, "renamed"])
def test_the_mark_survives_parquet_card_and_streaming(load, tmp_path, name):
    card = publish(load(), tmp_path / "out", name)
    for _ in range(2):  # twice is once
        mark_card(card, name, REASONS[:1])
    for streaming in (False, True):
        assert leak_status(datasets.load_dataset(str(card.parent), name, streaming=streaming)) == REASONS[:1]
    assert "# Posts" in card.read_text()


def test_the_config_s_name_alone_marks_and_another_name_cannot_be_marked(load, tmp_path):
    card = publish(load(), tmp_path / "out", CONFIG)
    assert leak_status(datasets.load_dataset(str(card.parent), CONFIG)) == REASONS[:1]
    with pytest.raises(ValueError, match=f"config_name: .*{CONFIG}.*'other'"):
        mark_card(card, "other", ["because"])


@pytest.mark.parametrize(
    ("source", "message"),
    [([], "source: .*list"), (datasets.DatasetInfo(description="leaky: yes"), "description: .*'yes'")],
)
def test_what_cannot_be_read(source, message):
    with pytest.raises(ValueError, match=message):
        leak_status(source)


def test_marks_add_up_leave_the_description_and_are_recorded_with_a_warning(caplog):
    info = datasets.DatasetInfo(description="Posts.\nvisual_features.json: {}")
    assert leak_record(info) == {"leaky": False} and not caplog.text
    mark_leaky(info, ["one"])
    mark_leaky(info, ["two", "one"])
    assert leak_record(info) == {"leaky": True, "leak_reasons": ["one", "two"]}
    assert info.description.startswith("Posts.\nvisual_features.json: {}\n")
    assert "GIVES ITS LABELS AWAY" in caplog.text and "two" in caplog.text


class Harmful:
    def __reduce__(self):
        return os.system, ("touch was-here",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *(("a.pth", content, "") for content in (b"junk", b"", pickle.dumps(Harmful(), protocol=2))),
        ("a.pth", {0: Harmful(), 1: []}, ""),
        ("a.pth", [["a"], ["b"]], r"\[\['a'\], \['b'\]\]"),
        ("a.pth", {0: ["a"]}, "2 lines .* 1 entries, none for line 1"),
        ("a.pth", {0: ["a"], 1: ["b"], 2: ["c"]}, "2 lines .* 3 entries"),
        ("a.pth", {0: ["a"], "b": ["b"]}, "2 entries, none for line 1"),
        ("a.pth", {0: ["a"], 1: "b"}, "'1': .*'b'"),
        ("a.pth", {0: ["a"], 1: [2]}, r"'1\[0\]': .*2"),
        ("a.json", b"{", ""),
        ("a.json", b'["a"]', r"\['a'\]"),
        ("a.json", b'{"0": "a", "1": ["b"]}', r"'1': .*\['b'\]"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_line_file(path, 2)
    assert not os.path.exists("was-here")  # nothing of the file was run
