"""How long until the first answer? Whole processes against `import torch, transformers` and the same weights. Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.start MODEL --rounds 7

MODEL is the folder of a model that reads text. A round starts each once, in random order, after one that is not timed:

    weights    imports torch and transformers, loads MODEL's tokenizer, and its text encoder from a folder of its own
    pipeline   transformers.pipeline on MODEL, and the answer to three posts in one call
    predict    vmhan predict with a file of these posts
    onnx, int8 the same with --backend onnx, where --onnx names what `vmhan export MODEL --int8` wrote

With --questions, a JSONL file, predict answers these as well; what it takes more than for three posts is the time of
the others. Time is all of the process, its processor's and the wall's. Writes start.md and start.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import transformers

from benchmarks.harness.command import new_parser
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import CLOCKS, take_turns


__all__ = ["main"]

POST = {"text": "Ann Keller waves near Lindau", "head": "Ann Keller", "tail": "Lindau"}
WEIGHTS = "import torch, transformers as t; t.AutoTokenizer.from_pretrained({0!r}); t.AutoModel.from_pretrained({0!r})"
PIPELINE = "import transformers; transformers.pipeline(model={!r}, trust_remote_code=True)([{!r}] * 3, batch_size=3)"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the report."""
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--onnx", type=Path, help="what vmhan export wrote of MODEL, with --int8")
    parser.add_argument("--questions", type=Path, help="JSONL of many posts, all of which can be answered")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/start"))
    arguments = parser.parse_args(argv)
    pipe = transformers.pipeline(model=str(arguments.model), trust_remote_code=True)
    with tempfile.TemporaryDirectory() as folder:
        encoder, questions = Path(folder, "encoder"), Path(folder, "questions.jsonl")
        pipe.model.base_model.text_encoder.save_pretrained(encoder)
        pipe.processor.tokenizer.save_pretrained(encoder)
        questions.write_text(f"{json.dumps(POST)}\n" * 3, encoding="utf-8")
        commands = {
            "weights": ["-c", WEIGHTS.format(str(encoder))],
            "pipeline": ["-c", PIPELINE.format(str(arguments.model), POST)],
            **predicting(arguments, questions, Path(folder, "answers.jsonl")),
        }
        if arguments.questions:
            of_all = predicting(arguments, arguments.questions.absolute(), Path(folder, "all.jsonl"))
            commands |= {f"{name}, all": command for name, command in of_all.items()}
        times = starts(commands, arguments.rounds)
    rows = {name: Row(times[name], "predict" if name in ("onnx", "int8") else "weights") for name in commands}
    tables = {"start": Table({name: row for name, row in rows.items() if not name.endswith(", all")})}
    if arguments.questions:
        tables["posts"] = Table(
            of_a_post(times, len(arguments.questions.read_text("utf-8").splitlines())), per="posts"
        )
    print(write_report(arguments.output_dir, __spec__.name, argv, {"posts": 3}, tables))


def predicting(arguments: argparse.Namespace, questions: Path, output: Path) -> dict[str, list[str]]:
    """The command of this Python that answers the questions, by what answers."""
    models = {"predict": [str(arguments.model)]}
    if arguments.onnx:
        onnx = [str(arguments.onnx), "--backend", "onnx"]
        models |= {"onnx": onnx, "int8": [*onnx, "--int8"]}
    rest = [str(questions), "--output", str(output), "--overwrite"]
    return {name: ["-m", "vmhan", "predict", model, *rest, *flags] for name, (model, *flags) in models.items()}


def of_a_post(times: Mapping[str, Mapping[str, list[float]]], posts: int) -> dict[str, Row]:
    """What the posts after the first three take in each round."""
    rows = {}
    for name in times:
        if f"{name}, all" in times:
            more = {
                clock: [longer - short for longer, short in zip(times[f"{name}, all"][clock], values, strict=True)]
                for clock, values in times[name].items()
            }
            rows[name] = Row(more, "predict", {"posts": posts - 3})
    return rows


def starts(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each command of this Python in each round, by clock. A command that fails is a CalledProcessError."""
    run = partial(subprocess.run, check=True, capture_output=True)
    turns = {name: [partial(run, [sys.executable, *command])] for name, command in commands.items()}
    return take_turns(turns, rounds, clocks=CLOCKS | {"processor": processor_time})


def processor_time() -> float:
    """Of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
