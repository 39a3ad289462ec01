"""What is made from MNRE's leaky files is marked, and the mark follows the data; other configs never open them."""

import json
import os
import pickle

import datasets
import pytest
import torch
from PIL import Image
from published_files import write_mnre

from datasets_scripts.builders.building import build
from datasets_scripts.builders.mnre import MNRE, MNREConfig
from datasets_scripts.builders.published import read_line_file
from datasets_scripts.leaks import LEAKY, PHRASE_TEXT, leak_record, leak_status, mark_card, mark_leaky


CONFIG = "mnre_published_objects"
REASONS = [LEAKY[CONFIG], PHRASE_TEXT]


@pytest.fixture
def folder(tmp_path):
    write_mnre(tmp_path / "mnre", num_posts=4)
    return tmp_path / "mnre"


@pytest.fixture
def load(folder, tmp_path):
    def built(config_name=CONFIG, **fields):
        return build(MNRE, config_name=config_name, data_dir=folder, cache_dir=tmp_path / "cache", **fields)

    return built


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
    (folder / "mre_train_dict.pth").rename(folder / "txt/mre_train_dict.pth")
    (folder / "mnre_txt/mnre_train.txt").rename(folder / "txt/ours_val.txt")
    (folder / "txt/mre_train_dict.pth").rename(folder / "txt/mre_dev_dict.pth")  # the peers' name
    assert load()["validation"][0]["pairs"][0]["crops"]


def test_a_missing_file_says_where_it_was_looked_for(load, folder):
    (folder / "mre_train_dict.pth").unlink()
    with pytest.raises(FileNotFoundError, match="train split .*mre_train_dict.pth"):
        load()


def test_a_changed_file_is_read_again(load, folder):
    before = load()["train"][0]["pairs"][0]["crops"]
    crops = torch.load(folder / "mre_train_dict.pth", weights_only=True)
    torch.save(crops | {0: ["new.png"]}, folder / "mre_train_dict.pth")
    assert load()["train"][0]["pairs"][0]["crops"] == ["new.png"] != before
    config = MNREConfig(name=CONFIG, version="2.0.0", data_dir=str(folder))
    assert folder / "mre_train_dict.pth" in MNRE.source_files(config)


def test_builds_are_marked_and_the_mark_follows_the_data(load):
    posts = load(phrase_text=True)
    assert leak_status(posts) == leak_status(posts["train"]) == leak_status(posts["train"].info) == REASONS
    assert leak_status(load()) == REASONS[:1]
    assert leak_status(load("mnre")) == []
    changed = posts["train"].remove_columns("caption").select([0]).add_column("length", [1])
    changed.info.config_name = None  # the mark alone, not the name
    assert leak_status(changed) == REASONS


def publish(posts, folder, config_name):
    """A folder as prepare makes it: Parquet and a card with YAML configs."""
    (folder / config_name).mkdir(parents=True)
    posts["train"].to_parquet(folder / config_name / "train-00000-of-00001.parquet")
    card = {
        "configs": [
            {"config_name": config_name, "data_files": [{"split": "train", "path": f"{config_name}/train-*"}]}
        ],
        "dataset_info": [posts["train"].info._to_yaml_dict() | {"config_name": config_name}],
    }
    (folder / "README.md").write_text(f"---\n{datasets.info.DatasetCardData(**card).to_yaml()}\n---\n# Posts\n")


@pytest.mark.parametrize("name", [CONFIG, "renamed"])
def test_the_mark_survives_parquet_card_and_streaming(load, tmp_path, name):
    publish(load(), tmp_path / "out", name)
    mark_card(tmp_path / "out" / "README.md", name, REASONS[:1])
    mark_card(tmp_path / "out" / "README.md", name, REASONS[:1])  # twice is once
    assert leak_status(datasets.load_dataset(str(tmp_path / "out"), name)) == REASONS[:1]
    assert leak_status(datasets.load_dataset(str(tmp_path / "out"), name, streaming=True)) == REASONS[:1]
    assert "# Posts" in (tmp_path / "out" / "README.md").read_text()


def test_the_config_s_name_alone_marks_and_another_name_cannot_be_marked(load, tmp_path):
    publish(load(), tmp_path / "out", CONFIG)
    assert leak_status(datasets.load_dataset(str(tmp_path / "out"), CONFIG)) == REASONS[:1]
    with pytest.raises(ValueError, match=f"config_name: .*{CONFIG}.*'other'"):
        mark_card(tmp_path / "out" / "README.md", "other", ["because"])


@pytest.mark.parametrize(
    ("source", "message"),
    [([], "source: .*list"), (datasets.DatasetInfo(description="leaky: yes"), "description: .*'yes'")],
)
def test_what_cannot_be_read(source, message):
    with pytest.raises(ValueError, match=message):
        leak_status(source)


def test_marks_add_up_and_leave_the_description():
    info = datasets.DatasetInfo(description="Posts.\nvisual_features.json: {}")
    mark_leaky(info, ["one"])
    mark_leaky(info, ["two", "one"])
    assert leak_status(info) == ["one", "two"]
    assert info.description.startswith("Posts.\nvisual_features.json: {}\n")


def test_the_record_of_a_metrics_file_warns_loudly(caplog):
    info = datasets.DatasetInfo()
    assert leak_record(info) == {"leaky": False}
    assert not caplog.text
    mark_leaky(info, ["because"])
    assert leak_record(info) == {"leaky": True, "leak_reasons": ["because"]}
    assert "THE DATA GIVES ITS LABELS AWAY" in caplog.text and "because" in caplog.text


class Harmful:
    def __reduce__(self):
        return os.system, ("touch was-here",)


def _write(path, value):
    if isinstance(value, str):
        path.write_text(value)
    elif isinstance(value, Harmful):
        path.write_bytes(pickle.dumps(value, protocol=2))
    else:
        torch.save(value, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", "junk", ""),
        ("a.pth", "", ""),
        ("a.pth", Harmful(), ""),
        ("a.pth", {0: Harmful(), 1: []}, ""),
        ("a.pth", [["a"], ["b"]], r"\[\['a'\], \['b'\]\]"),
        ("a.pth", {0: ["a"]}, "2 lines .* 1 entries, none for line 1"),
        ("a.pth", {0: ["a"], 1: ["b"], 2: ["c"]}, "2 lines .* 3 entries"),
        ("a.pth", {0: ["a"], "b": ["b"]}, "2 entries, none for line 1"),
        ("a.pth", {0: ["a"], 1: "b"}, "'1': .*'b'"),
        ("a.pth", {0: ["a"], 1: [2]}, r"'1\[0\]': .*2"),
        ("a.json", "{", ""),
        ("a.json", '["a"]', r"\['a'\]"),
        ("a.json", '{"0": "a", "1": ["b"]}', r"'1': .*\['b'\]"),
        ("a.txt", "a", ""),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_line_file(tmp_path / name, 2)
    assert not os.path.exists("was-here")  # nothing of the file was run


def test_no_file_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="auxiliary: .*nowhere.pth"):
        read_line_file(tmp_path / "nowhere.pth", 2)
