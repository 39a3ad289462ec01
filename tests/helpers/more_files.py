"""Lines of MORE in its exact format; `more_folder` is a small archive, and `write_archive` writes a larger one."""

import json
import random

import torch
from PIL import Image


LABELS = ["none", "/per/per/peer", "/per/org/member_of"]
TOKENS = ["Messi", "plays", "for", "Barcelona"]


def fact(**changes):
    """One line of MORE."""
    mentions = {"h": {"name": "Messi", "pos": [0, 1]}, "t": {"name": "[OBJ1]", "box": (0.5, 0.5, 0.5, 1.0)}}
    return str({"token": TOKENS, **mentions, "img_id": "a.jpg", "relation": "/per/org/member_of", **changes})


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_archive(folder, num_posts=60, seed=0):
    """An archive of posts with one to four objects and a pair for each; nothing but the words could tell a label."""
    rng, lines, objects = random.Random(seed), [], {}
    (folder / "img_org" / "train").mkdir(parents=True)
    for post in range(num_posts):
        image_id, tokens = f"{post}.jpg", [f"Ann{post}"]
        Image.new("RGB", (8, 6)).save(folder / "img_org" / "train" / image_id)
        objects[image_id] = {f"[OBJ{i}]": (0.5, 0.5, rng.uniform(0.1, 0.9), 0.5) for i in range(rng.randint(1, 4))}
        for name, box in objects[image_id].items():
            mentions = {"h": {"name": tokens[0], "pos": [0, 1]}, "t": {"name": name, "box": box}}
            relation = rng.choices(["none", "/per/per/peer"], weights=[3, 2])[0]
            lines.append(fact(token=tokens, **mentions, img_id=image_id, relation=relation))
    write(folder / "txt" / "train.txt", *lines)
    write(folder / "rel2id.json", json.dumps({label: index for index, label in enumerate(LABELS)}))
    torch.save(objects, folder / "ent_train_dict.pth")
    return folder
