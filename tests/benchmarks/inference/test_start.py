"""The benchmark of the first answer: that its report says what was measured. No test asserts a time."""

import json
from unittest.mock import MagicMock

from benchmarks.inference import start


def test_each_process_is_timed_in_each_round(make_model, make_pipe, tmp_path, capsys):
    make_pipe(model=make_model("text_only")).save_pretrained(tmp_path / "model")
    start.main([str(tmp_path / "model"), "--rounds", "1", "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "start.json").read_text())
    rows = report["rounds"]["start"]
    assert list(rows) == ["weights", "pipeline", "predict"] and {row["against"] for row in rows.values()} == {
        "weights"
    }
    assert all(len(row["values"]["processor"]) == 1 and min(row["values"]["processor"]) > 0.1 for row in rows.values())
    assert (tmp_path / "start.md").read_text() in capsys.readouterr().out + "\n"


def test_what_is_answered_without_torch_is_timed_beside_it(tmp_path, monkeypatch, capsys):
    """What posts take after the first three is what the file of all takes more, by what answers."""
    names = ["weights", "pipeline", "predict", "onnx", "int8"]

    def timed(commands, rounds):
        assert list(commands) == [*names, "predict, all", "onnx, all", "int8, all"]
        assert [*commands["int8, all"][-3:]] == ["--backend", "onnx", "--int8"]
        return {name: {"processor": [1.0 + 4 * name.endswith("all")] * rounds} for name in commands}

    monkeypatch.setattr(start, "starts", timed)
    monkeypatch.setattr(start.transformers, "pipeline", lambda model, trust_remote_code: MagicMock())
    (tmp_path / "posts.jsonl").write_text("{}\n" * 11)
    flags = ["--onnx", "folder", "--questions", str(tmp_path / "posts.jsonl"), "--rounds", "2"]
    start.main(["model", *flags, "--output_dir", str(tmp_path)])
    rounds = json.loads((tmp_path / "start.json").read_text())["rounds"]
    assert list(rounds["start"]) == names and list(rounds["posts"]) == names[2:]
    assert {row["against"] for row in rounds["posts"].values()} == {rounds["start"]["int8"]["against"]} == {"predict"}
    assert rounds["posts"]["onnx"]["values"] == {"processor": [4.0, 4.0]}
    assert "500 (500 to 500)" in capsys.readouterr().out  # milliseconds a post
