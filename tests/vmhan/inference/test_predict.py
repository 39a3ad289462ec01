"""vmhan predict: a file of questions gets the pipeline's answers, whatever is wrong with a row or kills the run."""

import csv
import json
import multiprocessing
import os
import re
import signal
import time
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
import torch
from other_processes import in_child, wait_until
from PIL import Image
from pyarrow import parquet

from modeling_vmhan import MultimodalRelationClassificationPipeline
from modeling_vmhan.mentions import Mention
from vmhan import cli
from vmhan.inference import answering, options, torch_backend
from vmhan.inference import command as predict_command
from vmhan.inference.answers import answer_rows, answer_schema, triples_of, write_jsonl
from vmhan.inference.graph import fact_graph, write_graphml
from vmhan.inference.question_files import count_questions, read_questions
from vmhan.inference.resumable import ResumableOutput


TEXTS = ["Ann met Bob in Paris with the band", "they played in Paris at night with Bob", "Bob , Ann and Paris"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_processor, make_vision_config):
    """A saved model that reads pixels, and pictures."""
    folder = tmp_path_factory.mktemp("predict")
    model = make_model(vision_encoder="transformers", vision_config=make_vision_config(hidden_size=8))
    model.save_pretrained(folder / "model")
    make_processor(model.config).save_pretrained(folder / "model")
    for i in range(3):
        Image.effect_noise((48 + i, 40), 90).convert("RGB").save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pipe(folder):
    arguments = [str(folder / "model"), __file__, "--output", "x.jsonl", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_command, "QUESTION_SUFFIXES", (".py",))
        return predict_command.load_pipeline(predict_command.parse_arguments(arguments))


@pytest.fixture
def run(folder, pipe, monkeypatch):
    """`run(input, output, *flags)` -> exit code; the model is loaded once for all tests of this file."""
    monkeypatch.setattr(predict_command, "load_pipeline", lambda arguments: pipe)

    def main(input, output, *flags):
        flags = ["--batch_size", "4", "--image_root", str(folder), *flags]
        return cli.main(["predict", *map(str, (folder / "model", input, "--output", output, *flags))])

    return main


def one_pair_rows(count=10):
    """As CSV could have them; every third has an image, every fourth an id."""
    rows = []
    for i in range(count):
        row = {"text": TEXTS[i % 3], "head": "Bob", "tail": "Paris"}
        row |= {"image": f"{i % 3}.png", "boxes": [[1, 2, 30, 32]]} if i % 3 == 0 else {}
        rows.append(row | ({"id": f"post {i}"} if i % 4 == 0 else {}))
    return rows


def mixed_rows():
    """Several pairs, a span, a tail that is a box, tokens."""
    pairs = [{"head": "Ann", "tail": "Bob"}, {"head": [8, 11], "tail": "the band"}]
    boxed = {"text": TEXTS[0], "head": "Bob", "tail": [1, 2, 30, 32], "image": "1.png", "id": "boxed"}
    by_index = {"text": TEXTS[2], "head": "Bob", "tail_object": 0, "boxes": [[0, 0, 9, 9]], "image": "2.png"}
    tokens = {"tokens": TEXTS[1].split(), "head": [3, 4], "tail": "Bob", "id": 7}
    return [{"text": TEXTS[0], "pairs": pairs, "image": "0.png"}, boxed, *one_pair_rows(3), by_index, tokens]


def write_lines(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def write_csv(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()} for row in rows
    ]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        options = {"quoting": csv.QUOTE_ALL, "delimiter": "\t" if path.suffix == ".tsv" else ","}
        writer = csv.DictWriter(file, names, **options)
        writer.writeheader()
        writer.writerows(cells)
    return path


def write_table(path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=4)
    return path


WRITERS = {"jsonl": write_lines, "csv": write_csv, "tsv": write_csv, "parquet": write_table}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_answers_are_the_pipelines(run, pipe, folder, tmp_path):
    rows = mixed_rows()
    assert run(write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl") == 0
    opened = [{**row, "image": folder / row["image"]} if "image" in row else row for row in rows]
    direct = pipe(opened, batch_size=4)
    expected = [line for i, answer in enumerate(direct) for line in answer_rows(i + 1, rows[i], answer)]
    found = lines_of(tmp_path / "out.jsonl")
    assert found == expected and len(found) == 8
    assert [(row["row"], row["pair"]) for row in found[:3]] == [(1, 0), (1, 1), (2, 0)]
    assert [(row["head"], row["tail"]) for row in found[:2]] == [("Ann", "Bob"), ("Bob", "the band")]
    objects = [row for row in found if row["tail_is_object"]]
    assert [row["tail_box"] for row in objects] == [[1, 2, 30, 32], [0, 0, 9, 9]] and objects[0]["tail"] is None
    assert found[-1]["id"] == "7" and set(found[0]) == set(answer_schema().names)
    assert found[0]["relation"] == direct[0][0]["relation"] and found[0]["top_k"] == direct[0][0]["top_k"]
    assert not (tmp_path / "out.jsonl.part").exists() and not (tmp_path / "out.errors.jsonl").exists()


def test_all_formats_of_input_and_output_give_the_same_answers(run, tmp_path):
    rows = one_pair_rows()
    for suffix, write in WRITERS.items():
        assert run(write(tmp_path / f"in.{suffix}", rows), tmp_path / f"of_{suffix}.jsonl") == 0
        assert (tmp_path / f"of_{suffix}.jsonl").read_bytes() == (tmp_path / "of_jsonl.jsonl").read_bytes()
    assert run(tmp_path / "in.jsonl", tmp_path / "out.parquet", "--format", "parquet") == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    rows = [{**row, "input": json.dumps(row["input"])} for row in lines_of(tmp_path / "of_jsonl.jsonl")]
    assert table.schema == answer_schema() and table.to_pylist() == rows


def test_options_reach_the_pipeline(folder, tmp_path):
    arguments = ["--top_k", "2", "--abstain_below", "1", "--device", "cpu", "--trust_remote_code"]
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(2)[1:])
    command = [str(folder / "model"), str(source), "--output", str(tmp_path / "deep" / "out.jsonl"), *arguments]
    assert predict_command.main(command) == 0
    (row,) = lines_of(tmp_path / "deep" / "out.jsonl")
    assert row["abstained"] and row["relation"] is None and len(row["top_k"]) == 2


def test_options_of_facts_reach_the_pipeline(folder, tmp_path):
    row = {"text": TEXTS[0], "mentions": ["Ann", "Bob", "Paris"]}
    source = write_lines(tmp_path / "in.jsonl", [row, {"tokens": TEXTS[0].split(), "mentions": [[0, 1], "Bob"]}])

    def facts(*flags):
        command = [str(folder / "model"), str(source), "--output", str(tmp_path / "out.jsonl"), "--device", "cpu"]
        assert predict_command.main([*command, "--overwrite", *flags]) == 0
        return lines_of(tmp_path / "out.jsonl")

    found = facts("--all_pairs")
    assert [(row["row"], row["pair"]) for row in found] == [*((1, pair) for pair in range(6)), (2, 0), (2, 1)]
    assert (found[0]["head_span"], found[-1]["head_span"]) == ([0, 3], [2, 3])
    least = sorted(row["score"] for row in found if row["relation"] != "None")[-1]
    assert {row["score"] for row in facts("--min_score", str(least))} == {least}
    arguments = ["--mentions", "NAME", "--min_precision", "0.8"]
    read = predict_command.parse_arguments([str(folder / "model"), str(source), "--output", "x.jsonl", *arguments])
    assert [getattr(read, name) for name in predict_command.OPTIONAL] == ["NAME", None, 0.8, None, None]
    command = [str(folder / "model"), str(source), "--output", str(tmp_path / "none.jsonl"), "--min_precision", "0.8"]
    with pytest.raises(ValueError, match="precision_table"):  # before any row is asked
        predict_command.main(command)
    assert not list(tmp_path.glob("none*"))


def test_samples_of_the_uncertainty_are_drawn_on_request(folder, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(2)[1:])

    def uncertainty(*flags):
        command = [str(folder / "model"), str(source), "--output", str(tmp_path / "out.jsonl"), "--device", "cpu"]
        assert predict_command.main([*command, *flags]) == 0
        return lines_of(tmp_path / "out.jsonl")[0]["uncertainty"]

    drawn = ("monte_carlo_score", "mutual_information")
    assert [uncertainty()[name] for name in drawn] == [None, None]
    assert None not in [uncertainty("--num_samples", "8", "--overwrite")[name] for name in drawn]


def test_mentions_are_found_by_what_is_named(folder, tmp_path, monkeypatch):
    source, asked = write_lines(tmp_path / "in.jsonl", [{"text": TEXTS[0]}]), []
    finder = lambda text: [Mention(0, 3, "per", 0.5), Mention(8, 11, "per", 0.5)]  # noqa: E731
    monkeypatch.setattr(options, "find_mention_finder", lambda name: asked.append(name) or finder)
    command = [str(folder / "model"), str(source), "--output", str(tmp_path / "out.jsonl"), "--device", "cpu"]
    assert predict_command.main([*command, "--mentions", "spacy:x", "--all_pairs"]) == 0
    found = lines_of(tmp_path / "out.jsonl")
    assert asked == ["spacy:x"] and {(row["head"], row["tail"]) for row in found} == {("Ann", "Bob"), ("Bob", "Ann")}
    assert all(row["score"] <= 0.25 for row in found)


def test_images_are_bytes_urls_or_paths_beside_the_input(folder, tmp_path):
    data = (folder / "1.png").read_bytes()
    rows = [{"text": "a", "image": {"bytes": data, "path": None}}, {"text": "b", "image": {"path": "1.png"}}]
    read = list(read_questions(write_table(tmp_path / "in.parquet", rows), image_root=folder))
    assert [row["image"] for row in read] == [
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(folder / "1.png")},
    ]
    urls = ["http://host/a.jpg", " HTTPS://host/Málaga (1).jpg", "data:image/png;base64,AA", "file:///etc/hostname"]
    names = ["b.jpg", "photo:1.png", "2024-01-01 10:30.jpg", "./data:1.png", "C:x.png"]
    images = [*urls, "/a/b.jpg", *names]
    path = write_lines(tmp_path / "in.jsonl", [{"text": "a", "image": image} for image in images])
    read = [row["image"] for row in read_questions(path, image_root=Path("/root"))]
    assert read == [*urls, "/a/b.jpg", *(str(Path("/root") / name) for name in names)]


def test_csv_cells_are_text_spans_or_json(tmp_path):
    rows = 'text,head,tail,boxes,note\n12,[1],"[0, 3]","[[0, 0, 1, 1]]",x\n\n"a\nb",2019,,,\n'
    (tmp_path / "in.csv").write_text(rows, encoding="utf-8")
    assert list(read_questions(tmp_path / "in.csv", image_root=tmp_path)) == [
        {"text": "12", "head": "[1]", "tail": [0, 3], "boxes": [[0, 0, 1, 1]], "input": {"note": "x"}},
        {"text": "a\nb", "head": "2019", "input": {"note": ""}},
    ]
    assert count_questions(tmp_path / "in.csv") == 2


@pytest.mark.parametrize("suffix, write", WRITERS.items())
def test_reading_is_lazy_and_can_begin_anywhere(tmp_path, suffix, write):
    rows = [{"text": f"{i} " + "x" * 1000, "head": "a", "tail": "b"} for i in range(4000)]  # 4 MB
    path = write(tmp_path / f"in.{suffix}", rows)
    del rows
    tracemalloc.start()
    before = pyarrow.total_allocated_bytes()
    read = read_questions(path, image_root=tmp_path, skip=1234)
    assert next(read)["text"].startswith("1234 ")
    count = 1 + sum(1 for _ in read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000 - 1234 and count_questions(path) == 4000
    assert peak < 1 << 20 and pyarrow.total_allocated_bytes() - before < 1 << 20


def test_no_more_rows_are_read_than_are_answered(tmp_path, monkeypatch):
    def pipe(questions, batch_size):
        assert len(taken) == questions[-1]["id"] + 1 and len(questions) <= batch_size
        return [{"head": "a", "tail": "b"} for _ in questions]

    taken = []
    rows = ({"text": "a", "id": taken.append(i) or i} for i in range(100))
    monkeypatch.setattr(answering, "read_questions", lambda path, **options: rows)
    answered = answering.answer_here(pipe, tmp_path, tmp_path, skip=0, batch_size=3)
    assert next(answered).rows == next(answered).rows == 3 and len(taken) == 6


def test_bad_rows_fail_alone_and_say_why(run, tmp_path, caplog):
    good = one_pair_rows(2)
    bad = {
        b"{not json": "double quotes",
        b"[1, 2]": "received list",
        b'{"text": "\xff"}': "0xff",
        b'{"text": "Ann", "id": "\\ud800"}': "id must be whole characters",
        b"[" * 100_000: "nested",
        b'{"text": "Ann met Bob", "head": "Zoe", "tail": "Bob", "id": "who"}': "'Zoe'",
        b'{"text": "Ann met Bob", "head": "Ann", "tail": "Bob", "image": "none.png"}': "none.png",
        b'{"text": 5, "head": "Ann", "tail": "Bob"}': "Error",
        b'{"text": "Ann met Bob", "pairs": []}': "pair",
        b'{"text": "Ann met Bob", "head": [0, 99], "tail": "Bob"}': "span",
    }
    source = write_lines(tmp_path / "in.jsonl", [good[0], *bad, b"", good[1]])
    assert run(source, tmp_path / "out.jsonl") == 1
    errors = lines_of(tmp_path / "out.errors.jsonl")
    assert [row["row"] for row in errors] == list(range(2, 2 + len(bad)))
    assert all(said in row["reason"] for row, said in zip(errors, bad.values(), strict=True))
    assert errors[5]["id"] == "who"
    assert [row["row"] for row in lines_of(tmp_path / "out.jsonl")] == [1, 2 + len(bad)]
    assert "10 of 12 rows failed" in caplog.text
    assert run(source, tmp_path / "out.jsonl") == 1  # complete: nothing to do, and the exit code stays


def test_a_row_without_finite_scores_fails_alone(run, tmp_path):
    """Also values that JSON cannot hold as the pipeline wants them; the other rows of their batch are answered."""
    good = {"text": "Ann met Bob", "head": "Ann", "tail": "Bob", "image_features": [0.5] * 8}
    bad = [
        {"image_features": [1e20] * 8}, {"image_features": [-1e38] * 8}, {"object_features": [[1e300] * 8]},
        {"boxes": [5]}, {"tail": [None] * 4}, {"image": ""}, {"image": "\0"}, {"id": [1]}, {"head": "Ann \ud83d"},
        {"id": "x\ud83d"},
    ]  # fmt: skip
    rows = [good, *({**good, **change} for change in bad), good]
    source = write_lines(tmp_path / "in.jsonl", [json.dumps(row).encode() for row in rows])
    assert run(source, tmp_path / "out.jsonl", "--batch_size", "16") == 1
    errors = lines_of(tmp_path / "out.errors.jsonl")
    assert [row["row"] for row in errors] == list(range(2, 2 + len(bad)))
    for error, change in zip(errors, bad, strict=True):
        assert next(iter(change)) in error["reason"] and "post" in error["reason"]
    assert all("finite" in error["reason"] for error in errors[:3])
    assert [row["row"] for row in lines_of(tmp_path / "out.jsonl")] == [1, len(rows)]
    assert "NaN" not in (tmp_path / "out.jsonl").read_text()


def test_no_result_is_written_as_nan(tmp_path):
    output = ResumableOutput(tmp_path / "out.jsonl", {})
    with pytest.raises(ValueError, match="JSON"):
        output.append(1, [{"score": float("nan")}], [])
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl([{"score": float("inf")}], tmp_path / "out.jsonl")


def test_bad_csv_records_fail_alone(run, tmp_path):
    good, long = b"Ann met Bob,Ann,Bob,", b'"' + b"x" * (1 << 24) + b'y",a,b,'
    bad = [b"Ann, met,Bob,Ann,Bob", b"Ann met Bob,Ann,Bob", b"Ann met Bob,Ann,Bob,[[0", b"Ann \xff,Ann,Bob,", long]
    (tmp_path / "in.csv").write_bytes(b"\n".join([b"text,head,tail,boxes", good, *bad, good, b""]))
    assert run(tmp_path / "in.csv", tmp_path / "out.jsonl") == 1
    errors = {row["row"]: row["reason"] for row in lines_of(tmp_path / "out.errors.jsonl")}
    said = ["4 cells.*received 5", "4 cells.*received 3", "boxes", "0xff", "16777217"]
    assert list(errors) == [2, 3, 4, 5, 6] and all(map(re.search, said, errors.values()))
    assert [row["row"] for row in lines_of(tmp_path / "out.jsonl")] == [1, 7]


def test_only_the_machines_failure_stops_a_run():
    def pipe(questions, batch_size):
        raise failure

    failure = torch.OutOfMemoryError("too large")
    assert answering.answer_batch(pipe, {3: {}, 4: {}}, 2)[1].keys() == {3, 4}
    failure = answering.machine_failures()[0]("device lost")
    with pytest.raises(answering.machine_failures(), match="device lost"):
        answering.answer_batch(pipe, {3: {}, 4: {}}, 2)


def test_bad_arguments_are_exit_code_2(run, folder, tmp_path, capsys):
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(1))
    (tmp_path / "in.csv").write_text("text;head;tail\na;b;c\n")
    (tmp_path / "in.nodes.csv").write_text("text,head,tail\na,b,c\n")
    (tmp_path / "in.parquet").write_text("no table")
    for (given, output, *flags), said in {
        (tmp_path / "none.jsonl", "out.jsonl"): "none.jsonl",
        (folder / "0.png", "out.jsonl"): "0.png",
        (source, "out.csv"): "out.csv",
        (source, "in.jsonl"): "INPUT",
        (source, "out.jsonl", "--batch_size", 0): "received 0",
        (source, "out.jsonl", "--device", "nothing"): "'nothing'",
        (source, "out.jsonl", "--format", "yaml"): "'yaml'",
        (source, "out.jsonl", "--format", "graph"): ".graphml",
        (source, "out.jsonl", "--num_workers", 2): "--num_workers: expected --engine ray, received --num_workers 2",
        (source, "out.jsonl", "--ray_address", "auto"): "--ray_address: expected --engine ray",
        (source, "out.csv", "--format", "triples", "--top_k", 2): "--top_k: expected --format jsonl or parquet",
        (source, "out.csv", "--format", "triples", "--with_post"): "--with_post: expected --format jsonl or parquet",
        (source, "out.csv", "--format", "triples", "--num_samples", 8): "--num_samples: expected --format",
        (tmp_path / "in.nodes.csv", "in.graphml", "--format", "graph", "--overwrite"): "INPUT",
        (tmp_path / "in.csv", "out.jsonl"): "text;head;tail",
        (tmp_path / "in.parquet", "out.jsonl"): "in.parquet",
    }.items():
        assert run(given, tmp_path / output, *flags) == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.glob("out*")) and (tmp_path / "in.nodes.csv").exists()


@pytest.mark.parametrize("model, top_k, said", [("no model", "5", "no model"), ("model", "0", "top_k")])
def test_a_model_that_does_not_load_and_a_bad_option_are_exit_code_2(folder, tmp_path, capsys, model, top_k, said):
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(1))
    command = ["predict", folder / model, source, "--output", tmp_path / "out.jsonl", "--top_k", top_k]
    assert cli.main([*map(str, command)]) == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("format", "output", "also"),
    [
        ("jsonl", "out.jsonl", []),
        ("parquet", "out.parquet", []),
        ("triples", "out.csv", ["out.graphml"]),
        ("graph", "out.graphml", ["out.jsonld", "out.nodes.csv", "out.relationships.csv", "out.png"]),
    ],
)
def test_killed_at_any_step_it_goes_on(run, tmp_path, monkeypatch, format, output, also):
    """Dies once at every single write, rename and deletion, half of a written line included."""
    rows = mixed_rows() + one_pair_rows(4)
    rows[3], rows[-2] = {"text": "Ann", "head": "Bob", "tail": "Ann"}, b"{"
    source, part = write_lines(tmp_path / "in.jsonl", rows), tmp_path / f"{output}.part"
    assert run(source, tmp_path / "whole" / output, "--format", format) == 1
    steps = 0

    def count_down(function):
        def step(*arguments, **options):
            nonlocal left
            for act in (lambda: None, lambda: function(*arguments, **options)):
                act()
                left -= 1
                if left == 0:
                    raise Killed

        return step

    for kills in range(1000):
        left = kills + 1
        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (os, "fsync"), (os, "truncate"), (Path, "unlink")):
                patch.setattr(owner, name, count_down(getattr(owner, name)))
            try:
                code = run(source, tmp_path / output, "--format", format)
                break
            except Killed:
                steps += 1
        if kills % 3 == 0 and part.exists():
            part.write_bytes(part.read_bytes() + b'{"rows": 1, "li')  # a torn line
    assert code == 1 and steps >= 4 and not part.exists()
    for name in [output, "out.errors.jsonl", *also]:
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_sigkill_of_the_real_process(run, tmp_path):
    source, part = write_lines(tmp_path / "in.jsonl", one_pair_rows(200)), tmp_path / "out.jsonl.part"

    def answer():
        torch.set_num_threads(1)  # the threads of the parent are not here
        run(source, tmp_path / "out.jsonl")

    process = multiprocessing.get_context("fork").Process(target=answer)
    process.start()
    while not (part.exists() and part.read_bytes().count(b"\n") >= 4):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (tmp_path / "out.jsonl").exists()
    assert run(source, tmp_path / "out.jsonl") == run(source, tmp_path / "whole.jsonl") == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [row["row"] for row in lines_of(tmp_path / "out.jsonl")] == list(range(1, 201))


def test_a_second_process_ends_at_once_and_the_first_is_whole(run, tmp_path, monkeypatch, capsys):
    source, output = write_lines(tmp_path / "in.jsonl", one_pair_rows(104)), tmp_path / "out.jsonl"

    def answer():
        torch.set_num_threads(1)
        os._exit(run(source, output))

    child, part = in_child(answer), tmp_path / "out.jsonl.part"
    wait_until(lambda: part.exists() and part.read_bytes().count(b"\n") >= 2)
    os.kill(child.pid, signal.SIGSTOP)  # so that it is in the midst of it
    with monkeypatch.context() as patch:
        patch.delattr(predict_command, "load_pipeline")  # no model is loaded to say so
        for flags in ([], ["--overwrite"]):
            assert run(source, output, *flags) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert str(output) in line and f"process {child.pid} on " in line
    os.kill(child.pid, signal.SIGCONT)
    child.join()
    assert child.exitcode == 0 and [row["row"] for row in lines_of(output)] == list(range(1, 105))
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl", "out.jsonl.state.json"}


def test_a_file_of_questions_that_is_changed_meanwhile_is_not_complete(run, tmp_path, monkeypatch, capsys):
    source, output, real = tmp_path / "in.jsonl", tmp_path / "out.jsonl", answering.answer_batch
    rows = one_pair_rows(9)
    for change in (rows[:6], rows + rows, [*rows[:8], {**rows[8], "text": "Bob , Ann and Paris !"}]):
        write_lines(source, rows)
        with monkeypatch.context() as patch:
            patch.setattr(answering, "answer_batch", lambda *a, to=change: write_lines(source, to) and real(*a))
            assert run(source, output) == 2 and "9 rows" in capsys.readouterr().err
        assert not list(tmp_path.glob("out*"))
    write_lines(source, rows)
    assert run(source, output) == 0 and len(lines_of(output)) == 9


def test_another_run_is_not_mixed_in(run, tmp_path, capsys):
    source, output = write_lines(tmp_path / "in.jsonl", one_pair_rows(3)), tmp_path / "out.jsonl"
    assert run(source, output) == 0
    first = output.read_bytes()
    assert run(source, output, "--top_k", "2") == 2 and "top_k (5 then, 2 now)" in capsys.readouterr().err
    write_lines(source, one_pair_rows(4))
    assert run(source, output) == 2 and "input (" in capsys.readouterr().err
    assert output.read_bytes() == first
    assert run(source, output, "--overwrite") == 0 and len(lines_of(output)) == 4


def test_what_the_fingerprint_tells_apart(folder, pipe, make_model, make_processor, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(1))
    arguments = predict_command.parse_arguments([str(folder), str(source), "--output", str(tmp_path / "out.jsonl")])
    first = predict_command.fingerprint(arguments, pipe)
    assert first == predict_command.fingerprint(arguments, pipe) == json.loads(json.dumps(first))

    def changed(model, **fields):
        other = MultimodalRelationClassificationPipeline(model, make_processor(model.config, **fields))
        return {name for name, value in predict_command.fingerprint(arguments, other).items() if value != first[name]}

    assert changed(pipe.model, max_length=64) == {"processor"}
    assert {"weights", "config"} <= changed(make_model("no_kl", seed=1))


def test_the_fingerprint_tells_in_what_the_vision_encoder_computes(folder, pipe, tmp_path, monkeypatch):
    """Its weights are the same on a machine that computes in bfloat16 and on one that does not."""
    source = write_lines(tmp_path / "in.jsonl", one_pair_rows(1))
    arguments = predict_command.parse_arguments([str(folder), str(source), "--output", str(tmp_path / "out.jsonl")])
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(torch_backend, "fast_dtype", lambda device, dtype=dtype: dtype)
        found.append(predict_command.fingerprint(arguments, pipe))
    assert {name for name, value in found[0].items() if value != found[1][name]} == {"precision"}


def test_damaged_and_foreign_files_are_refused(tmp_path):
    def begin(seed=0, **options):
        return ResumableOutput(tmp_path / "out.jsonl", {"seed": seed}, **options)

    def is_refused(file, **options):
        with pytest.raises(ValueError, match=rf"{re.escape(file)}.*--overwrite"):
            begin(**options)

    (tmp_path / "out.graphml").write_text("mine")
    is_refused("out.graphml", also=[tmp_path / "out.graphml"])
    begin().append(2, [{"a": 1}, {"a": 2}], [{"row": 9}])
    is_refused("seed (0 then, 1 now)", seed=1)
    (tmp_path / "out.jsonl.part").write_bytes((tmp_path / "out.jsonl.part").read_bytes() + b"[]\n")
    is_refused("out.jsonl.part")
    output = begin(overwrite=True)
    assert (output.rows, output.pairs, output.failed, output.complete) == (0, 0, 0, False)
    output.append(2, [{"a": 1}], [{"row": 2}])
    output.finish({output.output: write_jsonl})
    again = begin()
    assert again.complete and (again.rows, again.pairs, again.failed) == (2, 1, 1)
    is_refused("seed (0 then, 1 now)", seed=1)
    output.output.unlink()
    is_refused("out.jsonl: ")
    output.state.write_text("[]")
    is_refused("out.jsonl.state.json")


def test_triples_and_the_graph_hold_the_relations(run, pipe, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", mixed_rows())
    assert run(source, tmp_path / "answers.jsonl") == 0
    assert run(source, tmp_path / "out.jsonl", "--format", "triples") == 0
    assert run(source, tmp_path / "out.csv", "--format", "triples") == 2  # its graph would replace the other's
    answers, triples = lines_of(tmp_path / "answers.jsonl"), lines_of(tmp_path / "out.jsonl")
    none = pipe.model.config.none_label
    kept = [row for row in answers if row["relation"] != none]
    assert 0 < len(kept) == len(triples)
    for row, triple in zip(kept, triples):
        post = row["id"] or f"in.jsonl:{row['row']}"
        expected = {"head": row["head"], "relation": row["relation"], "confidence": row["score"], "source": post}
        assert {**expected, "tail": triple["tail"]} == triple and row["tail"] in (None, triple["tail"])
    assert run(source, tmp_path / "facts.graphml", "--format", "graph") == 0
    files = ("facts.jsonld", "facts.nodes.csv", "facts.relationships.csv", "facts.png", "facts.graphml")
    assert set(json.loads((tmp_path / "facts.graphml.state.json").read_text())["sha256"]) == set(files)
    assert (tmp_path / "facts.graphml").read_bytes() == (tmp_path / "out.graphml").read_bytes()
    again = fact_graph(triples_of(answers, none_label=none, input_name="in.jsonl"))  # of a file of answers
    write_graphml(again, tmp_path / "again.graphml")
    assert (tmp_path / "again.graphml").read_bytes() == (tmp_path / "facts.graphml").read_bytes()


def test_none_and_abstained_pairs_are_no_triples():
    row = {"row": 3, "id": None, "head": "a", "tail": None, "tail_box": [0, 0, 1, 1], "tail_is_object": True}
    rows = [{**row, "relation": name, "score": 0.5, "abstained": name is None} for name in ("None", None, "peer")]
    (triple,) = triples_of(rows, none_label="None", input_name="in.csv")
    expected = {"relation": "peer", "tail": "in.csv:3 [0, 0, 1, 1]", "source": "in.csv:3"}
    assert expected.items() <= triple.items()
