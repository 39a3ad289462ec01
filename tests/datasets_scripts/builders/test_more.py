"""The MORE builder on an archive written here in its exact format."""

import functools
import json

import numpy as np
import pytest
import torch
from more_files import LABELS, fact, write

from datasets_scripts.builders.building import build
from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.more import MORE, ObjectFact, relative_to_pixels
from datasets_scripts.schema import new_pair


@pytest.fixture
def load(more_folder):
    """`load(**fields)`: the posts of the archive."""
    return functools.partial(build, MORE, config_name="more", data_dir=more_folder)


def test_more_has_no_text_order(load):
    with pytest.raises(ValueError, match="order_blind: .*True.*object of the image"):
        load(order_blind=True)


def test_posts_boxes_in_pixels_and_tails_as_objects(more_folder, load, caplog):
    write(more_folder / "caption_dict.json", json.dumps({"a.jpg": {"[OBJ1]": " a man in blue "}}))
    dataset = load()
    assert list(dataset) == ["train"]
    first, second = dataset["train"]
    assert dataset["train"].features["pairs"].feature["relation"].names == LABELS
    member, none = LABELS.index("/per/org/member_of"), LABELS.index("none")
    expected = [new_pair([0, 1], [], member, tail_object=1), new_pair([3, 4], [], none, tail_object=0)]
    assert first["pairs"] == expected
    boxes = [[0, 0, 40, 20], [50, 0, 150, 100], [40, 40, 60, 60]]  # the last of a tail that is not detected,
    assert np.allclose(first["boxes"], boxes) and second["boxes"] == first["boxes"]  # for every post of the image
    assert second["pairs"][0]["tail_object"] == 2 and "[OBJ7] of a.jpg" in caplog.text
    assert first["object_labels"] == ["", "a man in blue", ""] and first["image"].size == (200, 100)
    assert (first["caption"], first["image_phrases"]) == (None, [])


def test_a_tail_with_another_box_than_its_object_warns(more_folder, load, caplog):
    write(more_folder / "txt" / "train.txt", fact(t={"name": "[OBJ1]", "box": (0.4, 0.5, 0.5, 1.0)}))
    assert load()["train"][0]["boxes"][1] == pytest.approx([50, 0, 150, 100])
    assert "[OBJ1] of a.jpg" in caplog.text


def test_image_column_is_optional_and_objects_may_lie_in_txt(more_folder, load):
    (more_folder / "ent_train_dict.pth").rename(more_folder / "txt" / "ent_train_dict.pth")
    posts = load(images=False)["train"]
    assert "image" not in posts.features and len(posts[0]["boxes"]) == 3
    with pytest.raises(ValueError, match="missing_images: .*'x'"):
        load(missing_images="x")


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


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 1.2, 0.5), (0.5, 0.5, 0.0, 0.5), (120, 80, 40, 40), (1.005, 0.5, 0.01, 0.1)]
)
def test_boxes_are_clipped_to_the_image_and_impossible_ones_named(box):
    assert relative_to_pixels((0.0, 1.0, 0.5, 0.5), (100, 40), place="here") == [0, 30, 25, 40]
    assert relative_to_pixels((0.5, 0.5, 1.01, 1.0), (100, 50), place="here") == [0, 0, 100, 50]
    with pytest.raises(ValueError, match=f"here: .*{box[0]}"):
        relative_to_pixels(box, (100, 50), place="here")


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("img_org/train/a.jpg", None, FileNotFoundError, "a.jpg.*Baidu"),
        ("img_org/train/a.jpg", b"junk", ValueError, "a.jpg"),
        ("ent_train_dict.pth", None, FileNotFoundError, "objects of train.*txt/ent_train_dict.pth.*Baidu"),
        ("ent_train_dict.pth", {"a.jpg": {"[OBJ0]": (1, 2)}}, ValueError, r"ent_train_dict.pth, .*a.jpg.*\(1, 2\)"),
        ("ent_train_dict.pth", [1], ValueError, r"ent_train_dict.pth: .*\[1\]"),
        ("ent_train_dict.pth", b"junk", ValueError, "ent_train_dict.pth"),
        ("rel2id.json", None, FileNotFoundError, "rel2id.json.*Baidu"),
        ("caption_dict.json", b"junk", ValueError, "caption_dict.json"),
        ("txt/train.txt", b"\n \n", ValueError, "txt/train.txt"),
        ("txt/train.txt", None, FileNotFoundError, "txt/valid.txt.*Baidu"),
    ],
)
def test_files_that_are_missing_or_damaged_are_named(more_folder, load, name, content, error, message):
    path = more_folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(error, match=message):
        load()
