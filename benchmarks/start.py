"""How long until the first answer? Whole processes against `import torch, transformers` and the same weights. Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.start MODEL --rounds 7

MODEL is the folder of a model that reads text. A round starts each once, in random order, after one that is not timed:

    weights    imports torch and transformers, loads MODEL's tokenizer, and its text encoder from a folder of its own
    pipeline   transformers.pipeline on MODEL, and the answer to three posts in one call
    predict    vmhan predict with a file of these posts

Time is all of the process, its processor's and the wall's. Writes start.md and start.json.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import transformers

from benchmarks.report import Row, Table, write_report


__all__ = ["main"]

POST = {"text": "Ann Keller waves near Lindau", "head": "Ann Keller", "tail": "Lindau"}
WEIGHTS = "import torch, transformers as t; t.AutoTokenizer.from_pretrained({0!r}); t.AutoModel.from_pretrained({0!r})"
PIPELINE = "import transformers; transformers.pipeline(model={!r}, trust_remote_code=True)([{!r}] * 3, batch_size=3)"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/start"))
    arguments = parser.parse_args(argv)
    pipe = transformers.pipeline(model=str(arguments.model), trust_remote_code=True)
    with tempfile.TemporaryDirectory() as folder:
        encoder, questions = Path(folder, "encoder"), Path(folder, "questions.jsonl")
        pipe.model.base_model.text_encoder.save_pretrained(encoder)
        pipe.processor.tokenizer.save_pretrained(encoder)
        questions.write_text(f"{json.dumps(POST)}\n" * 3, encoding="utf-8")
        predict = ["predict", str(arguments.model), str(questions), "--output", f"{folder}/answers.jsonl"]
        commands = {
            "weights": ["-c", WEIGHTS.format(str(encoder))],
            "pipeline": ["-c", PIPELINE.format(str(arguments.model), POST)],
            "predict": ["-m", "vmhan", *predict, "--overwrite"],
        }
        rows = {name: Row(values, "weights") for name, values in starts(commands, arguments.rounds).items()}
    print(write_report(arguments.output_dir, "start", argv, {"posts": 3}, {"start": Table(rows)}))


def starts(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each command of this Python in each round, by clock. A command that fails is a CalledProcessError."""
    times: dict[str, dict[str, list[float]]] = {name: {"processor": [], "wall": []} for name in commands}
    shuffled = random.Random(0)
    for i in range(rounds + 1):
        for name in shuffled.sample(list(commands), len(commands)):
            start = processor_time(), time.perf_counter()
            subprocess.run([sys.executable, *commands[name]], check=True, capture_output=True)
            if i:
                times[name]["processor"].append(processor_time() - start[0])
                times[name]["wall"].append(time.perf_counter() - start[1])
    return times


def processor_time() -> float:
    """Of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
