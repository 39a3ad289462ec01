"""Splits that differ in what they hold are told of, by thing, split and counts; small and alike ones are not."""

import json
import re

import datasets
import pytest
from PIL import Image
from prepare_runs import run

from datasets_scripts.builders.building import build
from datasets_scripts.builders.postcards import Postcards
from datasets_scripts.nodes.pairs import PairSelection
from datasets_scripts.prepare.plan import Tools
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph
from datasets_scripts.splits import NODES, THINGS, differing_splits
from vmhan.training.arguments import DataArguments, RunArguments
from vmhan.training.posts.data import load_posts


SPLITS = ("train", "validation", "test")
PICTURE = {"bytes": b"x", "path": None}
# thing -> what a post has then, and what its pair
HOLDS = {
    "a text beside the tokens": ({"text": "Ann Bob"}, {}),
    "an image": ({"image": PICTURE}, {}),
    "image_features": ({"image_features": [1.0, 2.0]}, {}),
    "object_features": ({"object_features": [[1.0, 2.0]]}, {}),
    "boxes": ({"boxes": [[0, 0, 1, 1]]}, {}),
    "a caption": ({"caption": "a dog"}, {}),
    "image_phrases": ({"image_phrases": ["a dog"]}, {}),
    "text_phrases of their own": ({}, {"text_phrases": [[0, 1]]}),
    "image_phrases of their own": ({}, {"image_phrases": [0]}),
    "objects of their own": ({}, {"objects": [0]}),
    "an object as their tail": ({}, {"tail_object": 0}),
}
NOTHING = {"image": None, "image_features": None, "object_features": [], "caption": ""}
FEATURES = post_features(["None"], images=True, visual_feature_size=2)


def split_of(count, held=0, thing=None, without=()):
    """`count` posts of two pairs, of which the first `held` hold the thing; `without` some columns."""
    rows = []
    for number in range(count):
        of_post, of_pair = HOLDS[thing] if number < held else ({}, {})
        pairs = [new_pair([0, 1], [1, 2], "None", **of_pair) for _ in range(2)]
        rows.append(with_hypergraph(new_post(str(number), ["Ann", "Bob"], None, pairs, **(NOTHING | of_post))))
    rows = {name: [row[name] for row in rows] for name in FEATURES}
    return datasets.Dataset.from_dict(rows, features=FEATURES).remove_columns(list(without))


def test_every_thing_is_tried_here():
    assert HOLDS.keys() == THINGS.keys() >= set(NODES)


@pytest.mark.parametrize("lacking", SPLITS)
@pytest.mark.parametrize("thing", HOLDS)
def test_a_split_without_what_the_others_have(thing, lacking):
    splits = {name: split_of(4, 0 if name == lacking else 3, thing) for name in SPLITS}
    (said,) = differing_splits(splits)
    unit = 2 if "their" in thing else 1
    assert re.search(rf"none of the {4 * unit} \w+ of {lacking} has {thing}, but {3 * unit} of {4 * unit} ", said)


@pytest.mark.parametrize("thing", HOLDS)
def test_a_split_without_the_column(thing):
    column = next(iter(HOLDS[thing][0]), None)
    if column is not None:
        train, validation = split_of(2, 2, thing), split_of(2, without=[column])
        (said,) = differing_splits({"train": train, "val": validation})
        assert f"of val has {thing}" in said


@pytest.mark.parametrize("thing", HOLDS)
@pytest.mark.parametrize(
    ("train", "validation", "says"),
    [
        ((9, 9), (9, 9), False),
        ((9, 1), (9, 9), False),  # far fewer, but not none
        ((9, 0), (9, 0), False),  # nobody has any
        ((100, 1), (20, 0), False),  # of 20 posts 0.2 would have one
        ((100, 5), (20, 0), True),
        ((3, 1), (1, 0), False),
        ((1, 1), (1, 0), True),
    ],
)
def test_what_is_rare_may_be_missing_in_a_small_split(thing, train, validation, says):
    splits = {"train": split_of(*train, thing), "validation": split_of(*validation, thing)}
    assert bool(differing_splits(splits)) == says


def test_a_single_split_and_a_stream_are_not_compared():
    train, validation = split_of(3, 3, "a caption"), split_of(3)
    assert differing_splits({"train": train}) == []
    assert differing_splits({"train": train.to_iterable_dataset(), "validation": validation}) == []
    assert differing_splits({}) == []


def test_postcards_are_alike(tmp_path):
    sizes = {"num_train": 12, "num_validation": 3, "num_test": 1}
    assert differing_splits(build(Postcards, config_name="postcards", cache_dir=tmp_path, **sizes)) == []


@pytest.fixture
def captioned(tmp_path):
    """A folder whose validation split has neither captions nor images."""
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    row = {"text": "Ann met Bob", "pairs": [{"head": "Ann", "tail": "Bob", "relation": "None"}]}
    for split, more in (("train", {"image": "a.png", "caption": "a red dog"}), ("validation", {})):
        (folder / f"{split}.jsonl").write_text(json.dumps(row | more) + "\n")
    return folder


class TrainOnly:
    """A selector that fails for the validation split, as a language model may."""

    description, window = {"selector": "train only"}, 8

    def select_window(self, posts):
        spans = [[(1, 2)] if post["id"].startswith("train") else [] for post, _ in posts]
        return [[PairSelection(text_phrases=of_post)] for of_post in spans]


def test_prepare_says_it_of_the_source_and_of_the_nodes(captioned, caplog):
    run(captioned, tools=Tools(selector=TrainOnly()))
    said = [record.getMessage() for record in caplog.records if "none of the" in record.getMessage()]
    assert [re.search("of validation has ([^,]*),", line)[1] for line in said] == [
        "an image", "a caption", "text_phrases of their own"
    ]  # fmt: skip


@pytest.mark.parametrize("visual", [None, "none"])
def test_training_says_it_of_what_the_model_reads(captioned, caplog, visual):
    data = DataArguments(dataset="jsonl", data_dir=str(captioned), cache_dir=str(captioned / "cache"), visual=visual)
    load_posts(data, RunArguments(output_dir="x", do_train=True, use_cpu=True))
    said = [record.getMessage() for record in caplog.records if "none of the" in record.getMessage()]
    assert [re.search("of validation has ([^,]*),", line)[1] for line in said] == ([] if visual else ["a caption"])
