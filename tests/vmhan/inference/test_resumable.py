"""An output that something else touches meanwhile, or afterwards, is never called complete."""

import json
import os
import re
import shutil

import pytest
from other_processes import die, in_child

from model_cards.locks import BusyError
from vmhan.inference.answers import write_jsonl, write_parquet
from vmhan.inference.resumable import ResumableOutput


ROWS = [{"row": number, "head": "a", "tail": "b", "input": {}} for number in range(12)]


def begin(output, **options):
    return ResumableOutput(output, {"seed": 0}, **options)


def go_on(output, write=write_jsonl):
    """What the command does: each third row fails."""
    result = begin(output)
    for number in range(result.rows, len(ROWS)):
        fails = number % 3 == 0
        result.append(1, [] if fails else [ROWS[number]], [{"row": number}] if fails else [])
    if not result.complete:
        result.finish({output: write})
    return result


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_whole(tmp_path, output):
    assert lines_of(output) == [row for row in ROWS if row["row"] % 3]
    assert [error["row"] for error in lines_of(output.with_suffix(".errors.jsonl"))] == [0, 3, 6, 9]
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "out.errors.jsonl", "out.jsonl.state.json"}


def renamed_copy(part):
    shutil.copy(part, part.with_name("copy"))
    os.replace(part.with_name("copy"), part)


def in_place(part):
    """As many bytes, and the same file."""
    with part.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content.replace(b'"head": "a"', b'"head": "x"', 1))


def overwritten(part):
    with part.open("wb") as file:
        file.write(b'{"fingerprint": {"seed": 0}}\n')


def foreign(part):
    """A line that no run has written."""
    with part.open("a") as file:
        file.write('{"rows": 1, "lines": [], "errors": []}\n')


def without_line(part, number):
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(line for index, line in enumerate(lines) if index != number))


TOUCHES = {  # what happens to the part file: what the message says
    lambda part: part.unlink(): "deleted",
    lambda part: os.truncate(part, 0): "it has 0 bytes",
    lambda part: os.truncate(part, part.stat().st_size - 7): "bytes",
    overwritten: "it has 29 bytes",
    foreign: "bytes",
    renamed_copy: "another file",
    lambda part: part.rename(part.with_name("moved")): "deleted",
    in_place: "not those that were written",
}


@pytest.mark.parametrize(("touch", "said"), TOUCHES.items())
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_part_file_that_something_else_touches_stops_the_run(tmp_path, touch, said, at_the_end):
    output = tmp_path / "out.jsonl"
    result = begin(output)
    result.append(2, ROWS[1:2], [{"row": 0}])
    touch(result.part)
    with pytest.raises(ValueError, match=rf"{re.escape(str(result.part))}: .*{said}.*not complete"):
        if not at_the_end:
            result.append(1, ROWS[2:3], [])
        result.finish({output: write_jsonl})
    assert not output.exists() and not result.state.exists()
    for stray in ("moved", "copy"):
        (tmp_path / stray).unlink(missing_ok=True)
    if touch is in_place:
        with pytest.raises(ValueError, match="out.jsonl.part: .*--overwrite"):
            go_on(output)
        begin(output, overwrite=True)
    if touch is not overwritten and touch is not foreign:
        go_on(output)
        check_whole(tmp_path, output)


def test_a_part_file_touched_while_the_product_is_made_stops_the_run(tmp_path):
    def make(rows, path):
        list(rows)
        result.part.unlink()
        path.write_text("")

    result = begin(tmp_path / "out.jsonl")
    result.append(1, ROWS[:1], [])
    with pytest.raises(ValueError, match="deleted"):
        result.finish({result.output: make})
    assert not result.state.exists()


def test_rows_that_did_not_reach_the_product_are_missed(tmp_path):
    result = begin(tmp_path / "out.jsonl")
    result.append(3, ROWS[:3], [])
    with pytest.raises(ValueError, match="it has 1 lines, 3 were written"):
        result.finish({result.output: lambda rows, path: path.write_text(str(next(rows)))})
    assert not result.output.exists() and not result.state.exists()


EDITS = {
    lambda path: path.unlink(): "no such file",
    lambda path: path.write_bytes(b""): "changed since",
    lambda path: os.truncate(path, path.stat().st_size // 2): "changed since",
    lambda path: path.write_bytes(path.read_bytes() + b"\n"): "changed since",
    lambda path: path.write_bytes(bytes(path.stat().st_size)): "changed since",
}


@pytest.mark.parametrize("name", ["out.errors.jsonl", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize(("edit", "said"), EDITS.items())
def test_a_complete_output_is_believed_only_as_it_was_made(tmp_path, name, edit, said):
    output = tmp_path / name.replace(".errors", "")
    go_on(output, write_parquet if output.suffix == ".parquet" else write_jsonl)
    assert begin(output).complete
    edit(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: .*{said}.*--overwrite"):
        begin(output)
    assert not begin(output, overwrite=True).complete


@pytest.mark.parametrize(
    "edit",
    [
        foreign,
        in_place,
        overwritten,
        lambda part: without_line(part, 0),
        lambda part: without_line(part, 2),
        lambda part: part.write_bytes(part.read_bytes() + part.read_bytes().splitlines(keepends=True)[-1]),
        lambda part: part.write_bytes(part.read_bytes().replace(b'"rows": 1', b'"rows": 3', 1)),
        lambda part: part.write_bytes(bytes(part.stat().st_size) + b"\n"),
        lambda part: part.write_bytes(b"\xff\n" + part.read_bytes()),
        lambda part: part.write_bytes(part.read_bytes() + b"[" * 100_000 + b"\n"),
        lambda part: part.write_bytes(part.read_bytes() + b"5\n"),
    ],
)
def test_a_part_file_that_was_edited_between_two_runs_is_not_gone_on_with(tmp_path, edit):
    result = begin(tmp_path / "out.jsonl")
    for number in range(4):
        result.append(1, ROWS[number : number + 1], [])
    edit(result.part)
    with pytest.raises(ValueError, match="out.jsonl.part: .*--overwrite"):
        begin(tmp_path / "out.jsonl")


def test_a_disk_that_is_full_is_named_and_the_run_goes_on_later(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(28, "No space left on device")

    output = tmp_path / "out.jsonl"
    result = begin(output)
    result.append(2, ROWS[1:2], [{"row": 0}])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="out.jsonl.part: .*No space left"):
        patch.setattr(os, "fsync", refuse)
        result.append(1, ROWS[2:3], [])
    go_on(output)
    check_whole(tmp_path, output)


def test_killed_between_any_two_steps_it_is_whole_and_nothing_stays(tmp_path, monkeypatch):
    """Each step that changes a name or has something on the disk, in a process of its own."""
    output, real = tmp_path / "out.jsonl", {name: getattr(os, name) for name in ("replace", "fsync", "unlink")}

    def run(after):
        count = 0

        def step(name, *arguments, **options):
            nonlocal count
            count += 1
            if count == after:
                die()
            return real[name](*arguments, **options)

        with ResumableOutput.only_here(output):
            for name in real:
                monkeypatch.setattr(os, name, lambda *a, name=name, **o: step(name, *a, **o))
            go_on(output)

    kills = 0
    while True:
        (child := in_child(run, kills % 24 + 1 if kills < 30 else 0)).join()
        kills += 1
        if child.exitcode == 0:
            break
        assert child.exitcode == -9 and kills < 60
    assert kills > 10
    check_whole(tmp_path, output)


def test_outputs_that_share_a_file_are_made_one_after_the_other(tmp_path):
    graph = tmp_path / "out.graphml"

    def refused(name, **options):
        child = in_child(enter, tmp_path / name, options)
        child.join()
        return child.exitcode

    with ResumableOutput.only_here(tmp_path / "out.jsonl", also=[graph]):
        assert refused("out.jsonl") == 9
        assert refused("out.parquet") == 9  # its file of errors
        assert refused("out.csv", also=[graph]) == 9
        assert refused("other.jsonl") == 0 and refused("out.b.jsonl") == 0
    assert refused("out.jsonl") == 0 and not list(tmp_path.iterdir())


def enter(output, options):
    try:
        with ResumableOutput.only_here(output, **options):
            pass
    except BusyError as error:
        os._exit(9 if f"--output {output}" in str(error) else 1)
