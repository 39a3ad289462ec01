"""A preparation of a small folder, and what it made."""

import json

import datasets
from prepare_fakes import make_fakes

from datasets_scripts.prepare.arguments import PrepareArguments
from datasets_scripts.prepare.command import prepare


def run(folder, tools=None, **fields):
    """Prepare `folder` into its sibling "out"; `tools` instead of new ones."""
    fields = {"source": "jsonl", "data_dir": str(folder), "selector": "none", "figures": False} | fields
    fields.setdefault("output_dir", str(folder.parent / "out"))
    return prepare(PrepareArguments(**fields), make_tools=(lambda *_: tools) if tools else make_fakes)


def load(output, config="jsonl", **fields):
    return datasets.load_dataset(str(output), config, cache_dir=str(output.parent / "cache"), **fields)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
