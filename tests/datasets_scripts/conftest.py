"""What the tests of the data sets share."""

import json

import more_files
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path, monkeypatch):
    """No cache of built sets outside of `tmp_path`."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def more_folder(tmp_path):
    """An archive of MORE: a train split of three facts in two posts about one image of 200 x 100 pixels."""
    folder, fact, write = tmp_path / "more", more_files.fact, more_files.write
    first, barcelona = {"name": "[OBJ0]", "box": (0.1, 0.1, 0.2, 0.2)}, {"name": "Barcelona", "pos": [3, 4]}
    other = {"token": ["Other", "words"], "h": {"name": "Other", "pos": [0, 1]}}
    other["t"] = {"name": "[OBJ7]", "box": (0.25, 0.5, 0.1, 0.2)}
    write(folder / "txt" / "train.txt", fact(), fact(h=barcelona, t=first, relation="none"), fact(**other))
    write(folder / "rel2id.json", json.dumps({label: index for index, label in enumerate(more_files.LABELS)}))
    objects = {"[OBJ0]": (0.1, 0.1, 0.2, 0.2), "[OBJ1]": (0.5, 0.5, 0.5, 1.0)}
    torch.save({"a.jpg": objects}, folder / "ent_train_dict.pth")
    (folder / "img_org" / "train").mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(folder / "img_org" / "train" / "a.jpg")
    return folder
