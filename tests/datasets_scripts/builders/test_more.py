"""The MORE builder on an archive written here in its exact format."""

import codecs
import json

import pytest
import torch
from more_files import LABELS, fact, write
from PIL import Image

from datasets_scripts.builders.building import build
from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.more import MORE, ObjectFact, relative_to_pixels


@pytest.fixture
def load(more_folder, tmp_path):
    """`load(**fields)`: the posts of the archive."""

    def built(**fields):
        return build(MORE, config_name="more", data_dir=more_folder, cache_dir=tmp_path / "cache", **fields)

    return built


def test_posts_boxes_in_pixels_and_tails_as_objects(more_folder, load):
    write(more_folder / "caption_dict.json", json.dumps({"a.jpg": {"[OBJ1]": " a man in blue "}}))
    dataset = load()
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


def test_a_tail_that_is_not_detected_is_appended_for_every_post_of_the_image(load, caplog):
    first, second = load()["train"]
    assert second["pairs"][0]["tail_object"] == 2
    assert first["boxes"] == second["boxes"]
    assert second["boxes"][2] == pytest.approx([40, 40, 60, 60])
    assert "[OBJ7] of a.jpg" in caplog.text


def test_a_tail_with_another_box_than_its_object_warns(more_folder, load, caplog):
    write(more_folder / "txt" / "train.txt", fact(t={"name": "[OBJ1]", "box": (0.4, 0.5, 0.5, 1.0)}))
    assert load()["train"][0]["boxes"][1] == pytest.approx([50, 0, 150, 100])
    assert "[OBJ1] of a.jpg" in caplog.text


def test_image_column_is_optional_and_objects_may_lie_in_txt(more_folder, load):
    (more_folder / "ent_train_dict.pth").rename(more_folder / "txt" / "ent_train_dict.pth")
    dataset = load(images=False)
    assert "image" not in dataset["train"].features
    assert len(dataset["train"][0]["boxes"]) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (fact(t={"name": "[OBJ0]", "box": (1, 2, 3)}), r"'t.box': .*\(1, 2, 3\)"),
        (fact(t={"name": "London", "pos": [0, 1]}), "'t': .*box"),
        (fact(h={"name": "Messi", "pos": [0, 9]}), "'h.pos': .*9"),
        (fact(img_id=4), "'img_id': .*4"),
        (fact(relation="x"), "'relation': .*'none'.* 'x'"),
    ],
)
def test_malformed_lines_name_file_line_and_field(tmp_path, line, message):
    path = write(tmp_path / "train.txt", fact(), line)
    with pytest.raises(ValueError, match=f"train.txt, line 2, field {message}"):
        list(read_facts(path, labels=LABELS, form=ObjectFact))


def test_boxes_are_clipped_to_the_image():
    assert relative_to_pixels((0.0, 1.0, 0.5, 0.5), (100, 40), place="here") == [0, 30, 25, 40]
    assert relative_to_pixels((0.5, 0.5, 1.01, 1.0), (100, 50), place="here") == [0, 0, 100, 50]


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 1.2, 0.5), (0.5, 0.5, 0.0, 0.5), (120, 80, 40, 40), (1.005, 0.5, 0.01, 0.1)]
)
def test_impossible_boxes(box):
    with pytest.raises(ValueError, match=f"here: .*{box[0]}"):
        relative_to_pixels(box, (100, 50), place="here")


def spoil(path, content):
    """None removes the file; text and bytes are written, anything else is saved by torch."""
    if content is None:
        path.unlink()
    elif isinstance(content, (bytes, str)):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("img_org/train/a.jpg", None, FileNotFoundError, "a.jpg.*Baidu"),
        ("img_org/train/a.jpg", "junk", ValueError, "a.jpg"),
        ("ent_train_dict.pth", None, FileNotFoundError, "objects of train.*txt/ent_train_dict.pth.*Baidu"),
        ("ent_train_dict.pth", {"a.jpg": {"[OBJ0]": (1, 2)}}, ValueError, r"ent_train_dict.pth, .*a.jpg.*\(1, 2\)"),
        ("ent_train_dict.pth", [1], ValueError, r"ent_train_dict.pth: .*\[1\]"),
        ("ent_train_dict.pth", {"a.jpg": Image.Image}, ValueError, "ent_train_dict.pth"),
        ("ent_train_dict.pth", b"junk", ValueError, "ent_train_dict.pth"),
        ("rel2id.json", None, FileNotFoundError, "rel2id.json.*Baidu"),
        ("caption_dict.json", b"junk", ValueError, "caption_dict.json"),
        ("caption_dict.json", b'\n"\xe9"', ValueError, "caption_dict.json, line 2: .*0xe9"),
        ("txt/train.txt", "\n \n", ValueError, "txt/train.txt"),
        ("txt/train.txt", None, FileNotFoundError, "txt/valid.txt.*Baidu"),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(more_folder, load, name, content, error, message):
    spoil(more_folder / name, content)
    with pytest.raises(error, match=message):
        load()


@pytest.mark.parametrize("fields", [{"images": "no"}, {"missing_images": "x"}])
def test_config_checks(load, fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"{name}: .*'{value}'"):
        load(**fields)


def test_byte_order_marks_are_not_read(more_folder, load):
    write(more_folder / "caption_dict.json", json.dumps({"a.jpg": {"[OBJ1]": "a man"}}))
    for name in ("txt/train.txt", "rel2id.json", "caption_dict.json"):
        (more_folder / name).write_bytes(codecs.BOM_UTF8 + (more_folder / name).read_bytes())
    assert load()["train"][0]["object_labels"] == ["", "a man", ""]
