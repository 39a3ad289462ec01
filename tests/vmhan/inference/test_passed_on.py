"""What a row holds beside its question goes to its answers, and "-" is standard input and output."""

import datetime
import decimal
import io
import json
import logging

import pyarrow
import pytest
from pyarrow import parquet

from vmhan import cli
from vmhan.inference.answering import answer_here
from vmhan.inference.question_files import read_questions


QUESTION = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob"}
NESTED = {
    "user": {"name": "zoe", "tags": [1, None, "\ud83d", 0.5]},
    "input": 3,
    "row": "x",
    "relation": "gold",
    "at": None,
}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def passed(path, **options):
    return [row.get("input") for row in read_questions(path, image_root=path.parent / "images", **options)]


def test_json_is_passed_on_as_it_is_whatever_its_names(tmp_path):
    path = lines(tmp_path / "in.jsonl", {**QUESTION, **NESTED}, QUESTION)
    assert passed(path) == [NESTED, None]
    assert list(read_questions(path, image_root=tmp_path))[1] == QUESTION


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_cells_are_passed_on_as_text(tmp_path, suffix, separator):
    rows = [["text", "user", "head", "tail", "likes"], ["Ann met Bob", "007", "Ann", "Bob", ""]]
    path = tmp_path / f"in.{suffix}"
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    assert list(read_questions(path, image_root=tmp_path)) == [{**QUESTION, "input": {"user": "007", "likes": ""}}]


def test_values_of_parquet_become_json(tmp_path):
    values = {"day": datetime.date(2026, 1, 2), "cost": decimal.Decimal("1.50"), "raw": b"\xff", "none": None}
    values |= {"scores": [0.5, float("nan"), float("inf")], "at": datetime.datetime(2026, 1, 2, 3, 4)}
    parquet.write_table(pyarrow.Table.from_pylist([{**QUESTION, **values}]), tmp_path / "in.parquet")
    expected = {"day": "2026-01-02", "cost": "1.50", "raw": None, "none": None, "scores": [0.5, None, None]}
    assert passed(tmp_path / "in.parquet") == [{**expected, "at": "2026-01-02 03:04:00"}]


def test_the_post_is_passed_on_where_it_is_asked_for(tmp_path):
    images = ["a.jpg", None, {"bytes": b"\xff", "path": "b.jpg"}]
    parquet.write_table(
        pyarrow.Table.from_pylist([{**QUESTION, "image": images[2], "user": 1}]), tmp_path / "in.parquet"
    )
    path = lines(tmp_path / "in.jsonl", {**QUESTION, "image": "a.jpg"}, {**QUESTION, "tokens": ["Ann"]})
    text = {"text": QUESTION["text"]}
    assert passed(path, with_post=True) == [{**text, "image": "a.jpg"}, {**text, "tokens": ["Ann"], "image": None}]
    assert passed(tmp_path / "in.parquet", with_post=True) == [{"user": 1, **text, "image": "b.jpg"}]
    (question,) = read_questions(tmp_path / "in.parquet", image_root=tmp_path, with_post=True)
    assert question["image"] == {"bytes": b"\xff", "path": str(tmp_path / "b.jpg")}


def test_a_name_that_may_be_misspelt_is_said_once(tmp_path, caplog):
    path = lines(tmp_path / "misspelt.jsonl", *[{**QUESTION, "imge": "a.jpg", "lang": 1}] * 2)
    assert passed(path) == [{"imge": "a.jpg", "lang": 1}] * 2
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "misspelt.jsonl: 'imge' is no key of a question, and goes to the answers. Did you mean 'image'?"
    ]


def test_what_is_nested_too_deeply_fails_alone(tmp_path):
    deep = [1]
    for _ in range(200):
        deep = [deep]
    first, wrong, last = read_questions(
        lines(tmp_path / "in.jsonl", QUESTION, {**QUESTION, "deep": deep}, QUESTION), image_root=tmp_path
    )
    assert first == last == QUESTION and isinstance(wrong, ValueError) and "deep: expected less than 100" in str(wrong)


def test_the_pipeline_sees_the_question_alone_and_each_pair_has_the_rest(tmp_path):
    asked = []

    def pipe(questions, batch_size):
        asked.extend(questions)
        return [[{"head": "Ann", "tail": "Bob"}] * len(question["pairs"]) for question in questions]

    pairs = [{"head": "Ann", "tail": "Bob"}] * 2
    path = lines(tmp_path / "in.jsonl", {"text": "Ann met Bob", "pairs": pairs, **NESTED})
    (answered,) = answer_here(pipe, path, tmp_path, skip=0, batch_size=4)
    assert asked == [{"text": "Ann met Bob", "pairs": pairs}] and [row["row"] for row in answered.lines] == [1, 1]
    assert [row["input"] for row in answered.lines] == [NESTED] * 2


@pytest.fixture
def piped(make_model, make_processor, tmp_path, monkeypatch):
    """`piped(input, *flags)` -> exit code, with these lines on standard input."""
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    make_processor(model.config).save_pretrained(tmp_path / "model")

    def main(rows, *flags):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return cli.main(["predict", str(tmp_path / "model"), "-", "--device", "cpu", *flags])

    return main


def test_standard_input_and_output(piped, tmp_path, capsys):
    rows = [{**QUESTION, "id": f"q{i}", "user": i} for i in range(3)]
    assert piped(rows, "--output", "-", "--with_post") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in found] == ["q0", "q1", "q2"]
    assert found[2]["input"] == {"user": 2, "text": "Ann met Bob", "image": None}
    assert piped([QUESTION, {"text": "Zoe"}], "--output", "-") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and '"row": 2' in err
    for _ in range(2):  # the same lines again are the same run
        assert piped(rows, "--output", str(tmp_path / "out.jsonl")) == 0
    assert piped(rows[1:], "--output", str(tmp_path / "out.jsonl")) == 2 and "input (" in capsys.readouterr().err
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").open()] == ["q0", "q1", "q2"]
    assert piped(rows, "--output", "-", "--format", "triples") == 0
    assert all(set(json.loads(line)) >= {"relation", "source"} for line in capsys.readouterr().out.splitlines())
    assert piped(rows, "--output", "-", "--format", "graph") == 2
    assert ".graphml for --format graph, received -" in capsys.readouterr().err


def test_the_fingerprint_knows_with_post(piped, tmp_path, capsys):
    assert piped([QUESTION], "--output", str(tmp_path / "out.jsonl")) == 0
    assert piped([QUESTION], "--output", str(tmp_path / "out.jsonl"), "--with_post") == 2
    assert "with_post (false then, true now)" in capsys.readouterr().err
