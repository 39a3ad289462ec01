"""The benchmark of speed: that its report says what was measured. No test asserts a time."""

import functools
import json
import re
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness import posts
from benchmarks.model import memory, speed
from datasets_scripts.builders.building import build


TINY = "--encoder tiny --rounds 1 --batch_size 2 --batches 1 --feature_size 8 --pairs 3 --pairs_per_batch 4".split()


def test_a_run_says_in_markdown_what_its_json_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(posts, "build", functools.partial(build, cache_dir=tmp_path / "cache"))
    monkeypatch.setattr(memory, "ProcessPoolExecutor", lambda *_, **options: ThreadPoolExecutor(1))
    speed.main([*TINY, "--growth", "2", "4", "--bf16", "--output_dir", str(tmp_path)])
    report, text = json.loads((tmp_path / "speed.json").read_text()), (tmp_path / "speed.md").read_text()
    assert report["about"]["command"] in text and report["about"]["pairs"] >= 2
    assert {name.split("/")[0] for name in report["rounds"]} == {*speed.PARTS}
    for rows in report["rounds"].values():
        for name, row in rows.items():
            measure, values = next(iter(row["values"].items()))
            ratio = values[0] / rows[row["against"]]["values"][measure][0]
            assert re.search(rf"^\| {name} \| [^|]+ \| {ratio:.2f} \(.*\| {row['against']} \|", text, re.MULTILINE)
    assert {"bare_padded", "packed_buckets, bf16"} <= report["rounds"]["step/train"].keys()
    for part in speed.PARTS:
        assert f"({part}.png)" in text and (tmp_path / f"{part}.png").read_bytes().startswith(b"\x89PNG")
