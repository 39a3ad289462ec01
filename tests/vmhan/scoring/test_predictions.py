"""What a predictions.jsonl may be: read back as written, and every wrong line named by file, line and field."""

import json
import re

import numpy as np
import pytest

from vmhan.scoring.predictions import read_predictions


LABELS = ["peer", "None", "member_of"]  # the none label is not id 0
ROWS = [
    {"split": "validation", "id": "v0", "pair": 0, "relation": "None", "predicted": "peer"},
    {"split": "test", "id": "t0", "pair": 0, "relation": "peer", "predicted": "peer"},
    {"split": "test", "id": "t0", "pair": 1, "relation": "None", "predicted": "member_of"},
]
NAMES = {"2": "member_of", "0": "peer", "1": "None"}


@pytest.fixture
def run(tmp_path):
    """`run(lines, config)`: a folder with predictions.jsonl and config.json; rows are written as JSON."""

    def write(lines, config=None):
        lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        (tmp_path / "predictions.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        config = config or {"id2label": NAMES, "none_label": "None"}
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize("name", ["", "predictions.jsonl"])
def test_a_folder_and_its_file_are_read_alike(run, name):
    folder = run([ROWS[0], b"", *ROWS[1:]])  # without spans, as older runs wrote them, and with a blank line
    predictions = read_predictions(folder / name)
    assert predictions.rows == ROWS
    assert predictions.labels == LABELS and predictions.none_label == "None"
    assert predictions.path == folder / "predictions.jsonl"
    assert predictions.groups == ["validation/v0", "test/t0", "test/t0"]
    assert predictions.probabilities is None
    assert predictions.splits == ["validation", "test"] and predictions.split("test").rows == ROWS[1:]
    with pytest.raises(ValueError, match=r"'train'.*\['validation', 'test'\]"):
        predictions.split("train")


def test_probabilities_are_an_array_in_the_order_of_the_labels(run):
    values = [[0.5, 0.25, 0.25], [1, 0, 0], [0.0, 0.1, 0.9]]
    predictions = read_predictions(run([row | {"probabilities": p} for row, p in zip(ROWS, values, strict=True)]))
    np.testing.assert_array_equal(predictions.probabilities, values)
    assert read_predictions(run([ROWS[0] | {"probabilities": values[0]}, ROWS[1]])).probabilities is None


def test_labels_and_none_label_are_the_given_ones_then_the_configs_then_found(run):
    assert read_predictions(run(ROWS, {"id2label": NAMES})).none_label == "None"
    folder = run(ROWS, {"id2label": NAMES, "none_label": "peer"})
    assert read_predictions(folder).none_label == "peer"
    assert read_predictions(folder, none_label="member_of").none_label == "member_of"
    (folder / "config.json").unlink()
    assert read_predictions(folder, labels=(*LABELS, "Other"), none_label="Other").none_label == "Other"
    for options, message in (({"labels": LABELS, "none_label": "nil"}, "'nil'"), ({"labels": ["peer"]}, "none label")):
        with pytest.raises(ValueError, match=message):
            read_predictions(folder, **options)
    for path, message in ((folder, "config.json.*--labels"), (folder / "nowhere", "nowhere")):
        with pytest.raises(FileNotFoundError, match=message):
            read_predictions(path)


@pytest.mark.parametrize("config", ["{", "[]", '{"none_label": "None"}', '{"id2label": {"a": "b"}}'])
def test_a_config_without_labels_is_refused(run, config):
    with pytest.raises(ValueError, match=r"config.json.*id2label.*--labels"):
        read_predictions(run(ROWS, config))


@pytest.mark.parametrize(
    ("line", "field", "received"),
    [
        (b"{'split': 1}", "", "{'split': 1}"),
        (b'{"split": "\xff"}', "", "xff"),
        ([1], "", "list"),
        (ROWS[2] | {"id": 7}, ", id", "7"),
        (ROWS[2] | {"pair": True}, ", pair", "True"),
        (ROWS[2] | {"relation": "pear"}, ", relation", "'pear'"),
        (ROWS[1], "", "line 2"),
        (ROWS[2] | {"probabilities": [0.5, 0.5]}, ", probabilities", "[0.5, 0.5]"),
        (ROWS[2] | {"probabilities": [0, 0, float("nan")]}, ", probabilities", "nan"),
        (ROWS[2] | {"probabilities": ["1", 0, 0]}, ", probabilities", "['1', 0, 0]"),
        (ROWS[2] | {"mutual_information": None}, ", mutual_information", "None"),
        (ROWS[2] | {"summed_variance": -0.5}, ", summed_variance", "-0.5"),
        (ROWS[2] | {"monte_carlo_entropy": float("nan")}, ", monte_carlo_entropy", "nan"),
    ],
)
def test_a_wrong_line_is_named(run, line, field, received):
    with pytest.raises(ValueError, match=f"predictions.jsonl, line 3{field}: .*{re.escape(received)}"):
        read_predictions(run([*ROWS[:2], line]))
