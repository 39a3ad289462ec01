"""Rows, lines and label files with values that nobody should write: read, or refused with place and field."""

import json

import pytest
from fuzz import fuzzed_rows

from datasets_scripts.builders.folders import read_facts
from datasets_scripts.builders.jsonl import read_posts
from datasets_scripts.builders.jsonl_rows import Row, post_of_row
from datasets_scripts.builders.lines import read_label_file
from datasets_scripts.builders.mnre import read_captions
from datasets_scripts.checking import checked


LABELS = ["None", "peer"]
EMOJI, PAIR = "\U0001f602", "\ud83d\ude02"


def test_fuzzed_rows_are_read_or_refused_with_place_and_field():
    taken = 0
    for row, never_right in fuzzed_rows(0, 4000):
        try:
            post = post_of_row(checked(Row, row, "mine.jsonl, line 7"), place="mine.jsonl, line 7", labels=LABELS)
        except ValueError as error:
            message = str(error)
            assert (
                message.startswith("mine.jsonl, line 7")
                and ("field" in message or "received" in message)
                and len(message) < 1500
            ), message
            message.encode()
            continue
        assert not never_right, row
        json.dumps(post, allow_nan=False).encode()
        taken += 1
    assert 400 < taken < 2400


def test_a_line_of_json_dumps_is_read_by_mnre(tmp_path):
    """json.dumps writes an emoji as two surrogates, which ast.literal_eval keeps apart."""
    fact = {
        "token": ["Ann", EMOJI, "Bob"],
        "h": {"name": f"Ann {EMOJI}", "pos": [0, 2]},
        "t": {"name": "Bob", "pos": [2, 3]},
    }
    fact |= {"img_id": f"{EMOJI}.jpg", "relation": "peer"}
    path = tmp_path / "train.txt"
    path.write_text(json.dumps(fact) + "\n")
    ((tokens, image_id, pair),) = read_facts(path, labels=LABELS)
    assert tokens == ["Ann", EMOJI, "Bob"] and image_id == f"{EMOJI}.jpg" and pair["head"] == [0, 2]
    captions = tmp_path / "captions.txt"
    captions.write_text(json.dumps({"img_id": EMOJI, "text": f"a {EMOJI}"}))
    assert read_captions(captions) == {EMOJI: f"a {EMOJI}"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"token": ["Ann", "\ud83d", "Bob"]}, r"token\[1\]"),
        ({"token": ["Ann", "\ud83d", "\ude02"]}, r"token\[1\]"),  # no half is paired with the next token's
        ({"h": {"name": "\ude02", "pos": [0, 1]}}, r"h\.name"),
        ({"img_id": "\ud83d.jpg"}, "img_id"),
        ({"relation": "\ud83d"}, "relation"),
    ],
)
def test_half_an_emoji_names_file_line_and_field(change, field, tmp_path):
    fact = {"token": ["Ann", "and", "Bob"], "h": {"name": "Ann", "pos": [0, 1]}, "t": {"name": "Bob", "pos": [2, 3]}}
    path = tmp_path / "train.txt"
    path.write_text(json.dumps(fact | {"img_id": "a.jpg", "relation": "peer"} | change))
    match = rf"train.txt, line 1, field '{field}': expected whole characters.*\\ud"
    with pytest.raises(ValueError, match=match):
        list(read_facts(path, labels=LABELS))


@pytest.mark.parametrize(
    "field", ["text", "id", "caption", "image", "image_phrases", "object_labels", "relation", "head"]
)
def test_a_row_with_half_an_emoji_names_its_field(field, tmp_path):
    pair = {"head": "Ann", "tail": "Bob", "relation": "peer"}
    row = {"text": "Ann met Bob", "pairs": [pair]}
    if field in pair:
        pair[field] = "Ann \ud83d"
    else:
        row[field] = ["a \ud83d"] if field in ("image_phrases", "object_labels") else "Ann met Bob \ud83d"
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=rf"train.jsonl, line 1, field '.*{field}.*': expected whole characters"):
        list(read_posts(path, labels=LABELS, split="train"))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "-" + "1" * 9999])
def test_a_number_or_a_nesting_that_python_does_not_read_names_its_line(value, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "Ann met Bob", "id": ' + value + "}")
    with pytest.raises(ValueError, match="train.jsonl, line 1: expected one JSON object a line") as caught:
        list(read_posts(path, labels=LABELS, split="train"))
    assert len(str(caught.value)) < 1000
    labels = tmp_path / "labels.json"
    labels.write_text('{"None": ' + value + "}")
    with pytest.raises(ValueError, match="labels.json: expected JSON"):
        read_label_file(labels)


def test_labels_are_paired_too(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"None": 0, f"likes {EMOJI}": 1}))
    assert read_label_file(path) == ["None", f"likes {EMOJI}"]
    assert checked(dict[str, int], {PAIR: 1}, "x") == {EMOJI: 1}
    path.write_text(json.dumps(["None", "likes \ud83d"]))
    with pytest.raises(ValueError, match=r"labels.json, field '\[1\]': expected whole characters"):
        read_label_file(path)


@pytest.mark.parametrize("image", ["", ".", "./", "a\0.png"])
def test_a_path_that_is_none(image):
    row = {"text": "Ann met Bob", "image": image, "pairs": [{"head": "Ann", "tail": "Bob", "relation": "peer"}]}
    with pytest.raises(ValueError, match="x, field 'image': expected .*leave the field out"):
        checked(Row, row, "x")
