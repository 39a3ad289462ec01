"""The benchmark of the first answer: that its report says what was measured. No test asserts a time."""

import json

from benchmarks import start


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
