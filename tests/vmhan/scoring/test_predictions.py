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


@pytest.fixture
def run(tmp_path):
    """`run(lines, config)`: a folder with predictions.jsonl and config.json; rows are written as JSON."""

    def write(lines, config=None):
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (tmp_path / "predictions.jsonl").write_text(text)
        config = config or {"id2label": {"2": "member_of", "0": "peer", "1": "None"}, "none_label": "None"}
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize("name", ["", "predictions.jsonl"])
def test_a_folder_and_its_file_are_read_alike(run, name):
    folder = run([ROWS[0], "", *ROWS[1:]])  # without spans, as older runs wrote them, and with a blank line
    predictions = read_predictions(folder / name)
    assert predictions.rows == ROWS
    assert predictions.labels == LABELS and predictions.none_label == "None"
    assert predictions.path == folder / "predictions.jsonl"
    assert predictions.gold == ["None", "peer", "None"]
    assert predictions.predicted == ["peer", "peer", "member_of"]
    assert predictions.groups == ["validation/v0", "test/t0", "test/t0"]
    assert predictions.probabilities is None


def test_a_split_has_its_rows_only(run):
    predictions = read_predictions(run(ROWS))
    assert predictions.splits == ["validation", "test"]
    test = predictions.split("test")
    assert test.rows == ROWS[1:] and len(test) == 2
    assert (test.labels, test.none_label, test.path) == (LABELS, "None", predictions.path)


def test_probabilities_are_an_array_in_the_order_of_the_labels(run):
    values = [[0.5, 0.25, 0.25], [1, 0, 0], [0.0, 0.1, 0.9]]
    predictions = read_predictions(run([row | {"probabilities": p} for row, p in zip(ROWS, values, strict=True)]))
    np.testing.assert_array_equal(predictions.probabilities, values)
    assert read_predictions(run([ROWS[0] | {"probabilities": values[0]}, ROWS[1]])).probabilities is None


def test_labels_that_are_given_need_no_config(run):
    folder = run(ROWS)
    (folder / "config.json").unlink()
    assert read_predictions(folder, labels=LABELS).none_label == "None"
    assert read_predictions(folder, labels=(*LABELS, "Other"), none_label="Other").none_label == "Other"


def test_the_none_label_is_the_named_one_then_the_configs_then_found(run):
    names = {"0": "peer", "1": "None", "2": "member_of"}
    folder = run(ROWS, {"id2label": names, "none_label": "peer"})
    assert read_predictions(folder).none_label == "peer"
    assert read_predictions(folder, none_label="member_of").none_label == "member_of"
    assert read_predictions(run(ROWS, {"id2label": names})).none_label == "None"


# ---------------------------------------------------------------- what is refused


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a predictions.jsonl, .*--output_dir of run_mmre"):
        read_predictions(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "predictions.jsonl"))):
        read_predictions(tmp_path)


def test_without_config_the_labels_are_asked_for(run):
    folder = run(ROWS)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json: expected the run's.*labels=\[...\] \(--labels"):
        read_predictions(folder)


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"none_label": "None"}', '{"id2label": {"a": "b"}}', '{"id2label": 1}'][:5]
)
def test_a_config_without_labels_is_refused(run, config):
    with pytest.raises(ValueError, match=r"config.json: expected JSON with id2label.*--labels"):
        read_predictions(run(ROWS, config))


def test_labels_need_a_none_label(run):
    folder = run(ROWS)
    with pytest.raises(ValueError, match=r"as none label"):
        read_predictions(folder, labels=["peer", "member_of"])
    with pytest.raises(ValueError, match=r"predictions.jsonl: none_label must be one of the labels .* received 'nil'"):
        read_predictions(folder, none_label="nil")


def test_an_empty_file_and_an_empty_split_are_refused(run):
    with pytest.raises(
        ValueError, match=r"predictions.jsonl: expected one line a pair, received no line.*run_mmre.py"
    ):
        read_predictions(run([]))
    with pytest.raises(ValueError, match=r"split 'train', received the splits \['validation', 'test'\]"):
        read_predictions(run(ROWS)).split("train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'split': 1}", r", line 3: expected a JSON object, received \"\{'split': 1\}\""),
        ("[1]", r", line 3: expected a JSON object, received list"),
        ({"split": "test"}, r", line 3: expected the field 'id', received \['split'\]"),
        (ROWS[2] | {"id": 7}, r", line 3, id: expected str, received 7"),
        (ROWS[2] | {"pair": True}, r", line 3, pair: expected int, received True"),
        (ROWS[2] | {"relation": "pear"}, r", line 3, relation: expected one of the labels .* received 'pear'.*Pass"),
        (ROWS[2] | {"predicted": "none"}, r", line 3, predicted: expected one of the labels .* received 'none'"),
        (ROWS[1], r", line 3: expected each split, id and pair once, received \('test', 't0', 0\), which line 2 has"),
        (ROWS[2] | {"probabilities": [0.5, 0.5]}, r", line 3, probabilities: expected 3 numbers .* received 2 values"),
        (ROWS[2] | {"probabilities": [0, 0, float("nan")]}, r", line 3, probabilities: expected 3 numbers"),
        (ROWS[2] | {"probabilities": ["1", 0, 0]}, r", line 3, probabilities: expected 3 numbers"),
        (
            ROWS[2] | {"probabilities": 1},
            r", line 3, probabilities: expected 3 numbers .* received 1\. Pass",
        ),
    ],
)
def test_a_wrong_line_is_named(run, line, message):
    with pytest.raises(ValueError, match=f"predictions.jsonl{message}"):
        read_predictions(run([*ROWS[:2], line]))


def test_a_file_of_other_bytes_is_refused(run):
    folder = run(ROWS)
    (folder / "predictions.jsonl").write_bytes(b'{"split": "\xff"}\n')
    with pytest.raises(ValueError, match=r"predictions.jsonl, line 1: expected a JSON object, received"):
        read_predictions(folder)
