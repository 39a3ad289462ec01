"""The benchmark of the service: what it asks is JSON, and what its table says. No test asserts a time."""

import functools
import json

from markdown_cells import tables

from benchmarks.harness import posts
from benchmarks.inference import serving
from datasets_scripts.builders.building import build


def test_the_questions_are_json_without_relations(tmp_path, monkeypatch):
    monkeypatch.setattr(posts, "build", functools.partial(build, cache_dir=tmp_path))
    for question in map(posts.text_alone, posts.load_posts(None, 2, 1)[0]):
        assert json.loads(json.dumps(question)) == question
        assert question.keys() == {"tokens", "pairs"} and all(p.keys() == {"head", "tail"} for p in question["pairs"])


def test_the_table_has_ratios_within_rounds_and_percentiles_of_all_requests():
    seconds = {"pipeline": [1.0, 2.0, 3.0], "1": [2.0, 4.0, 6.0], "8": [2.0, 2.0, 4.0]}
    latencies = {"1": [0.01] * 100, "8": [i / 1000 for i in range(101)]}
    ((_, pipeline, one, eight),) = tables(serving.table(seconds, latencies, posts=100))
    assert pipeline == ["pipeline, batches of 16", "50", "1", "", "", "", ""]
    assert one == ["1 client", "25", "0.50 (0.50 to 0.50)", "10", "10", "10", "1.0"]
    assert eight == ["8 clients", "50", "0.75 (0.62 to 0.88)", "50", "95", "99", "2.0"]
