"""A preparation of a small folder, and what it made."""

import json

import datasets
import torch
from PIL import Image
from prepare_fakes import make_fakes

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare


ALL = {"detector": "blobs", "selector": "first", "features": "colours"}


def run(folder, tools=None, **fields):
    """Prepare `folder` into its sibling "out"; `tools` instead of new ones."""
    fields = {"source": "jsonl", "data_dir": str(folder), "selector": "none", "figures": False} | fields
    fields.setdefault("output_dir", str(folder.parent / "out"))
    return prepare(PrepareArguments(**fields), make_tools=(lambda *_: tools) if tools else make_fakes)


def load(output, config="jsonl", **fields):
    return datasets.load_dataset(str(output), config, cache_dir=str(output.parent / "cache"), **fields)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{record}\n" for record in records))


def more_archive(folder):
    """MORE as its archive has it: objects in relative centre format, tails that are objects, three splits."""
    objects = {"[OBJ0]": (0.25, 0.3334, 0.375, 0.5), "[OBJ1]": (0.6875, 0.625, 0.375, 0.5834)}
    for split, number in (("train", 4), ("valid", 2), ("test", 2)):
        facts = []
        for i in range(number):
            picture = Image.new("RGB", (80, 60), (90, 90, 20 * i))
            picture.paste((255, 0, 0), (5, 5, 35, 35))
            picture.paste((0, 255, 0), (40, 20, 70, 55))
            image, tail = f"{split}-{i}.jpg", f"[OBJ{i % 2}]"
            (folder / "img_org" / split).mkdir(parents=True, exist_ok=True)
            picture.save(folder / "img_org" / split / image)
            fact = {"token": ["Ann", "met", f"Bob{i}"], "img_id": image, "t": {"name": tail, "box": objects[tail]}}
            facts.append({**fact, "h": {"name": "Ann", "pos": [0, 1]}, "relation": "/per/per/peer"})
            facts.append({**fact, "h": {"name": f"Bob{i}", "pos": [2, 3]}, "relation": "none"})
        write_lines(folder / "txt" / f"{split}.txt", facts)
        torch.save({f"{split}-{i}.jpg": objects for i in range(number)}, folder / f"ent_{split}_dict.pth")
    write_lines(folder / "rel2id.json", [json.dumps({"none": 0, "/per/per/peer": 1, "/per/org/member_of": 2})])
    captions = {f"train-{i}.jpg": {"[OBJ0]": "a red thing", "[OBJ1]": "a green thing"} for i in range(4)}
    write_lines(folder / "caption_dict.json", [json.dumps(captions)])
    return folder
