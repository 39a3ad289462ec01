"""From the start of the process to the first answer: nothing is imported that the job does not use, nothing copied."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from modeling_vmhan import VMHANForRelationClassification


# What takes long to import, and is for other jobs.
HEAVY = "datasets matplotlib networkx onnxruntime pandas pyarrow pydantic ray sklearn spacy"
PREDICT = "from vmhan.cli import main; main(['predict', {model!r}, {questions!r}, '--output', {output!r}, *{flags}])"
PIPELINE = """from transformers import pipeline
pipe = pipeline(model={model!r}, trust_remote_code=True)
assert len(pipe([{{'text': 'Ann met Bob', 'head': 'Ann', 'tail': 'Bob'}}] * 3, batch_size=3)) == 3
open({output!r}, 'w').close()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_model, make_pipe):
    """A saved model of texts, and three questions."""
    folder = tmp_path_factory.mktemp("first")
    make_pipe(model=make_model("text_only")).save_pretrained(folder / "model")
    question = {"text": "Ann met Bob in Paris", "head": "Ann", "tail": "Paris"}
    (folder / "questions.jsonl").write_text(f"{json.dumps(question)}\n" * 3, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("job", "output", "flags", "loaded"),
    [
        (PREDICT, "a.jsonl", [], set()),
        (PREDICT, "a.csv", ["--format", "triples"], {"networkx"}),
        (PREDICT, "a.parquet", ["--format", "parquet"], {"pyarrow"}),
        (PIPELINE, "a.txt", [], set()),
    ],
)
def test_a_job_imports_only_what_it_uses(job, output, flags, loaded, folder, tmp_path):
    paths = {"model": str(folder / "model"), "questions": str(folder / "questions.jsonl")}
    code = job.format(**paths, output=str(tmp_path / output), flags=flags)
    code += f"\nimport sys; print(*sorted(set({HEAVY.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and (tmp_path / output).exists(), done.stderr[-2000:]
    found = set(done.stdout.split())
    assert loaded <= found and found - {"pandas"} <= loaded  # which pyarrow loads where it is installed


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
def test_weights_are_mapped_and_not_copied(folder):
    model = VMHANForRelationClassification.from_pretrained(folder / "model")
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in maps if line[-1] == str(folder / "model" / "model.safetensors")]
    for name, weight in model.named_parameters():
        assert any(int(start, 16) <= weight.data_ptr() < int(end, 16) for start, end in ranges), name
