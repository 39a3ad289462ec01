"""The MORE builder on an archive written here in its exact format."""

import codecs
import json
import logging

import pytest
import torch
from more_files import LABELS, TOKENS, fact, folder, write  # noqa: F401
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.more import MORE, read_facts, relative_to_pixels


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch, caplog):
    """No cache outside tmp_path; warnings are seen."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    caplog.set_level(logging.WARNING)


def load(folder, tmp_path, **fields):
    return build(MORE, config_name="more", data_dir=folder, cache_dir=tmp_path / "cache", **fields)


def test_posts_boxes_in_pixels_and_tails_as_objects(folder, tmp_path):
    write(folder / "caption_dict.json", json.dumps({"a.jpg": {"[OBJ1]": " a man in blue "}}))
    dataset = load(folder, tmp_path)
    assert list(dataset) == ["train"]
    first, second = dataset["train"]
    labels = dataset["train"].features["pairs"].feature["relation"]
    assert labels.names == LABELS
    assert [labels.int2str(pair["relation"]) for pair in first["pairs"]] == ["/per/org/member_of", "none"]
    assert [pair["tail_object"] for pair in first["pairs"]] == [1, 0]
    chosen = ("tail", "text_phrases", "image_phrases", "objects")
    assert all(pair[field] == [] for post in (first, second) for pair in post["pairs"] for field in chosen)
    assert first["pairs"][1]["head"] == [3, 4]
    assert first["boxes"][0] == pytest.approx([0, 0, 40, 20])
    assert first["boxes"][1] == pytest.approx([50, 0, 150, 100])
    assert first["object_labels"] == ["", "a man in blue", ""]
    assert first["image"].size == (200, 100)
    assert (first["caption"], first["image_phrases"]) == (None, [])


def test_a_tail_that_is_not_detected_is_appended_for_every_post_of_the_image(folder, tmp_path, caplog):
    first, second = load(folder, tmp_path)["train"]
    assert second["pairs"][0]["tail_object"] == 2
    assert first["boxes"] == second["boxes"]
    assert second["boxes"][2] == pytest.approx([40, 40, 60, 60])
    assert "1 tails are no detected object and were appended, the first: [OBJ7] of a.jpg" in caplog.text


def test_a_tail_with_another_box_than_its_object_warns(folder, tmp_path, caplog):
    write(folder / "txt" / "train.txt", fact(t={"name": "[OBJ1]", "box": (0.4, 0.5, 0.5, 1.0)}))
    assert load(folder, tmp_path)["train"][0]["boxes"][1] == pytest.approx([50, 0, 150, 100])
    assert "1 tails have another box than the object of their name" in caplog.text


def test_image_column_is_optional_and_objects_may_lie_in_txt(folder, tmp_path):
    (folder / "ent_train_dict.pth").rename(folder / "txt" / "ent_train_dict.pth")
    dataset = load(folder, tmp_path, images=False)
    assert "image" not in dataset["train"].features
    assert len(dataset["train"][0]["boxes"]) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (fact(t={"name": "[OBJ0]", "box": (1, 2, 3)}), "field 't': expected {'name': '.OBJi.', 'box'"),
        (fact(t={"name": "London", "pos": [0, 1]}), "field 't': expected {'name': '.OBJi.', 'box'"),
        (fact(h={"name": "Messi", "pos": [0, 9]}), "field 'h': expected a span inside the sentence"),
        (fact(img_id=4), "field 'img_id': expected a file name, received 4"),
        (fact(relation="x"), "field 'relation': expected one of .*'none'.*rel2id.json.* received 'x'"),
    ],
)
def test_malformed_lines_name_file_line_and_field(tmp_path, line, message):
    path = write(tmp_path / "train.txt", fact(), line)
    with pytest.raises(ValueError, match=f"train.txt, line 2, {message}"):
        list(read_facts(path, labels=LABELS))


def test_a_wrong_name_only_warns(tmp_path, caplog):
    list(read_facts(write(tmp_path / "train.txt", fact(h={"name": "Lionel", "pos": [0, 1]})), labels=LABELS))
    assert "1 mentions are not named as their span reads" in caplog.text


def test_boxes_are_clipped_to_the_image():
    assert relative_to_pixels((0.0, 1.0, 0.5, 0.5), (100, 40), place="here") == [0, 30, 25, 40]
    assert relative_to_pixels((0.5, 0.5, 1.01, 1.0), (100, 50), place="here") == [0, 0, 100, 50]


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 1.2, 0.5), (0.5, 0.5, 0.0, 0.5), (120, 80, 40, 40), (1.005, 0.5, 0.01, 0.1)]
)
def test_impossible_boxes(box):
    with pytest.raises(ValueError, match="here: expected a box .*the centre inside the image.* received"):
        relative_to_pixels(box, (100, 50), place="here")


def test_missing_image_is_an_error_since_pixels_need_it(folder, tmp_path):
    (folder / "img_org" / "train" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="expected the image .*a.jpg.* boxes in pixels need its size.*Baidu"):
        load(folder, tmp_path)


def test_unreadable_image_is_an_error(folder, tmp_path):
    write(folder / "img_org" / "train" / "a.jpg", "junk")
    with pytest.raises(ValueError, match="a.jpg': expected an image that Pillow can open"):
        load(folder, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.jpg": {"[OBJ0]": (1, 2)}}, "ent_train_dict.pth, a.jpg: expected"),
        ([1], "ent_train_dict.pth, the file: expected"),
        ({"a.jpg": Image.Image}, "expected what torch.save wrote, only dicts"),
        (b"junk", "ent_train_dict.pth: expected what torch.save wrote"),
    ],
)
def test_bad_object_files(folder, tmp_path, content, message):
    path = folder / "ent_train_dict.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        load(folder, tmp_path)


def test_missing_object_file(folder, tmp_path):
    (folder / "ent_train_dict.pth").unlink()
    with pytest.raises(FileNotFoundError, match="expected the objects of train in .* or .*txt/ent_train_dict.pth"):
        load(folder, tmp_path)


def test_missing_labels_and_splits(folder, tmp_path, caplog):
    load(folder, tmp_path)
    assert "MORE has no test split" in caplog.text
    (folder / "rel2id.json").unlink()
    with pytest.raises(
        FileNotFoundError, match="expected the labels in .*rel2id.json, found no file. MORE is downloaded"
    ):
        load(folder, tmp_path)
    (folder / "txt" / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)no split of MORE, looked for .*valid.txt.*Baidu"):
        load(folder, tmp_path)


def test_byte_order_marks_are_not_read(folder, tmp_path):
    write(folder / "caption_dict.json", json.dumps({"a.jpg": {"[OBJ1]": "a man"}}))
    for path in (folder / "txt" / "train.txt", folder / "rel2id.json", folder / "caption_dict.json"):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load(folder, tmp_path)["train"][0]["object_labels"] == ["", "a man", ""]


def test_a_split_without_records_is_an_error_that_names_its_file(folder, tmp_path):
    write(folder / "txt" / "train.txt", "", " ")
    with pytest.raises(ValueError, match="txt/train.txt: expected at least one record, received none. Remove the fil"):
        load(folder, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "caption_dict.json: expected one JSON object {image id: .*, received no JSON"),
        (b'\n"\xe9"', r"caption_dict.json, line 2: expected UTF-8, received other bytes \(0xe9, "),
    ],
)
def test_bad_caption_files(folder, tmp_path, content, message):
    (folder / "caption_dict.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(folder, tmp_path)


def test_missing_images_is_one_of_two_words(folder, tmp_path):
    with pytest.raises(ValueError, match="images: expected True or False, received 'no'"):
        load(folder, tmp_path, images="no")
    with pytest.raises(ValueError, match=r"missing_images: expected one of \['error', 'none'\], received 'x'"):
        load(folder, tmp_path, missing_images="x")


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="data_dir: expected the folder .* MORE is downloaded by hand"):
        build(MORE, config_name="more", cache_dir=tmp_path)
