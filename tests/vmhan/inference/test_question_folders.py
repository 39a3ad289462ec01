"""A folder of NAME.txt and NAME.jpg as raw posts, and the facts that raw posts are answered with."""

import json
import re
from types import SimpleNamespace

import pytest
from PIL import Image
from pyarrow import parquet

from vmhan import cli
from vmhan.inference import command as predict_command
from vmhan.inference.answers import answer_rows, answer_schema, write_parquet
from vmhan.inference.question_files import count_questions, digest_of_questions, read_questions


@pytest.fixture
def posts(tmp_path):
    """Two posts with an image each, one without, one image alone, one with two images, and files that do not count."""
    folder = tmp_path / "posts"
    (folder / "inner").mkdir(parents=True)
    for name, text in {"a": "Ann met Bob\n", "b": "\ufeffBob in Paris", "c": " Zoe", "twice": "Ann"}.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    for name in ("a.jpg", "b.PNG", "alone.webp", "twice.jpg", "twice.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    for name in ("notes.md", ".hidden.txt", "inner/d.txt"):
        (folder / name).write_text("no post")
    return folder


def test_rows_are_the_names_and_a_bad_one_fails_alone(posts):
    rows = list(read_questions(posts, image_root=posts))
    assert count_questions(posts) == len(rows) == 5
    images = {name: str(posts / name) for name in ("a.jpg", "b.PNG")}
    assert rows[0] == {"id": "a", "text": "Ann met Bob", "image": images["a.jpg"]}
    assert rows[2] == {"id": "b", "text": "Bob in Paris", "image": images["b.PNG"]}
    assert rows[3] == {"id": "c", "text": " Zoe"}
    assert "alone.webp in alone.txt" in str(rows[1]) and "['twice.jpg', 'twice.png']" in str(rows[4])
    assert list(map(str, read_questions(posts, image_root=posts, skip=3))) == list(map(str, rows[3:]))


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfeA", "empty/a.txt: .*UTF-8.*0xff at 0"), (b" \n", "empty/a.txt: .*empty")]
)
def test_a_text_that_cannot_be_read_is_named(tmp_path, content, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        raise next(read_questions(tmp_path / "empty", image_root=tmp_path))


def test_a_folder_without_a_post_is_said(tmp_path, caplog):
    assert count_questions(tmp_path) == 0 and "no question" in caplog.text


def test_the_digest_is_of_names_and_texts(posts):
    before = digest_of_questions(posts)
    (posts / "notes.md").write_text("other")
    (posts / "a.jpg").write_bytes(b"other")
    assert digest_of_questions(posts) == before
    (posts / "a.txt").write_text("Ann met Zoe")
    changed = digest_of_questions(posts)
    (posts / "e.png").write_bytes(b"")
    assert len({before, changed, digest_of_questions(posts)}) == 3


FACT = {"head": "Ann", "tail": "Bob", "relation": "peer", "score": 0.5, "abstained": False, "none_score": 0.1}
FACT |= {"head_span": (0, 3), "tail_span": (8, 11), "head_type": "per", "tail_type": None, "top_k": []}
FACT["uncertainty"] = {"least_confidence": 0.5, "entropy": 1.0, "monte_carlo_score": None, "mutual_information": None}


@pytest.mark.parametrize("question", [{"text": "Ann met Bob"}, {"text": "Ann met Bob", "mentions": ["Ann", "Bob"]}])
def test_a_fact_is_a_row_with_places_and_types(question, tmp_path):
    assert answer_rows(3, question, []) == []
    rows = json.loads(json.dumps(answer_rows(3, question, [FACT, FACT])))
    assert [(row["row"], row["pair"], row["head_span"], row["head_type"]) for row in rows] == [
        (3, 0, [0, 3], "per"),
        (3, 1, [0, 3], "per"),
    ]
    assert rows[0]["tail"] == "Bob" and not rows[0]["tail_is_object"] and rows[0].keys() == set(answer_schema().names)
    write_parquet(rows, tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert table[1]["tail_span"] == [8, 11] and table[1]["tail_type"] is None


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """`predict(folder, *flags)`: the command with a pipeline that says of each raw post one fact, its own text."""
    (tmp_path / "model").mkdir()

    class Pipe:
        model = SimpleNamespace(config=SimpleNamespace(labels=["None", "peer"], none_label="None", order_blind=True))
        asked = []

        def __call__(self, questions, batch_size):
            self.asked += [question["id"] for question in questions]
            if "b" in self.asked and len(self.asked) < 4:
                raise MemoryError
            return [
                [{**FACT, "head": question["text"]}] if question["text"] != "Bob" else [] for question in questions
            ]

    monkeypatch.setattr(predict_command, "load_pipeline", lambda arguments: Pipe())
    monkeypatch.setattr(
        predict_command, "fingerprint", lambda arguments, _: {"input": predict_command.state_of(arguments.input)}
    )

    def main(folder, *flags):
        output = ("--output", str(tmp_path / "out.jsonl"), "--batch_size", "1")
        return cli.main(["predict", str(tmp_path / "model"), str(folder), *output, *flags])

    main.asked = Pipe.asked
    return main


def test_a_folder_is_answered_and_goes_on_where_it_stopped(posts, predict, tmp_path, capsys):
    with pytest.raises(MemoryError):
        predict(posts)
    assert predict.asked == ["a", "b"]
    predict.asked.extend("xx")  # from here on the machine holds
    assert predict(posts) == 1  # two rows cannot be read
    assert predict.asked == ["a", "b", "x", "x", "b", "c"]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [(row["id"], row["row"], row["head"]) for row in rows] == [
        ("a", 1, "Ann met Bob"),
        ("b", 3, "Bob in Paris"),
        ("c", 4, " Zoe"),
    ]
    failed = [json.loads(line)["row"] for line in (tmp_path / "out.errors.jsonl").open()]
    assert failed == [2, 5]
    (posts / "a.txt").write_text("another text")
    assert predict(posts) == 2 and "input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--image_root", "elsewhere"], "--image_root: .*elsewhere"),
        (["--output", "{}/out.jsonl"], "--output: .*outside of the folder"),
    ],
)
def test_what_a_folder_does_not_go_with_is_refused(posts, predict, capsys, flags, said):
    assert predict(posts, *(flag.format(posts) for flag in flags)) == 2
    assert re.search(said, capsys.readouterr().err)
