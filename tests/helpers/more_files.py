"""An archive of MORE, written in its exact format."""

import json

import pytest
import torch
from PIL import Image


LABELS = ["none", "/per/per/peer", "/per/org/member_of"]
TOKENS = ["Messi", "plays", "for", "Barcelona"]


def fact(**changes):
    """One line of MORE."""
    record = {
        "token": TOKENS,
        "h": {"name": "Messi", "pos": [0, 1]},
        "t": {"name": "[OBJ1]", "box": (0.5, 0.5, 0.5, 1.0)},
        "img_id": "a.jpg",
        "relation": "/per/org/member_of",
    }
    return str(record | changes)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """A train split of three facts in two posts about one image of 200 x 100 pixels."""
    folder = tmp_path / "more"
    other = {"name": "[OBJ7]", "box": (0.25, 0.5, 0.1, 0.2)}
    write(
        folder / "txt" / "train.txt",
        fact(),
        fact(
            h={"name": "Barcelona", "pos": [3, 4]}, t={"name": "[OBJ0]", "box": (0.1, 0.1, 0.2, 0.2)}, relation="none"
        ),
        fact(token=["Other", "words"], h={"name": "Other", "pos": [0, 1]}, t=other),
    )
    write(folder / "rel2id.json", json.dumps({label: index for index, label in enumerate(LABELS)}))
    objects = {"[OBJ0]": (0.1, 0.1, 0.2, 0.2), "[OBJ1]": (0.5, 0.5, 0.5, 1.0)}
    torch.save({"a.jpg": objects}, folder / "ent_train_dict.pth")
    image = folder / "img_org" / "train" / "a.jpg"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(image)
    return folder
