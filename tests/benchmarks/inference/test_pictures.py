"""The benchmark of pictures: that its report says what was measured. No test asserts a time."""

import json

import pytest

from benchmarks.inference import pictures


def test_the_report_has_both_forms_and_both_runs(thin_vgg16, tmp_path, capsys):
    flags = ["--size", "32", "--posts", "2", "--rounds", "2", "--cosine"]
    pictures.main([*flags, "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "pictures.json").read_text())
    assert {name: list(rows) for name, rows in report["rounds"].items()} == {
        "batch": ["bare encoder", "pipeline", "before"],
        "again": ["first", "second"],
    }
    assert report["rounds"]["batch"]["pipeline"]["work"] == {"posts": 2, "regions": 8}
    assert report["about"]["cosine to float32, least and median"] == pytest.approx([1, 1], abs=0.01)
    assert (tmp_path / "pictures.md").read_text() in capsys.readouterr().out + "\n"
