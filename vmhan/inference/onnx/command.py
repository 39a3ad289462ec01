"""Export a trained model for serving: `vmhan export MODEL --output_dir OUT`.

    vmhan export outputs/mnre --output_dir outputs/mnre-onnx --int8
    vmhan export outputs/mnre --output_dir outputs/mnre-onnx --int8 \
        --evaluate configs/mnre_offline.yaml --data_dir DIR

MODEL is a folder or a Hub name. Writes to OUT the graph (model.onnx, with --int8 also model_int8.onnx; or model.pt2),
the processor, the config and, last, export.json: inputs, labels, sizes, versions, and the largest difference from the
model itself, which is measured on posts unlike each other before anything is written, and must be below 1e-4.
`vmhan.inference.onnx.classifier.OnnxRelationClassifier(OUT)` answers posts.

--evaluate, which comes last, takes the CONFIG.yaml and the flags of run_mmre.py that name the data. The model itself,
model.onnx and model_int8.onnx answer its validation split post by post; export.json then has the F1 of each, what
int8 costs with its 95 % interval, and the time of a post.
"""

import argparse
import json
import logging
import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import torch

from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from vmhan.inference.onnx.classifier import EXPORT_FILE, INT8_FILE, ONNX_FILE
from vmhan.inference.onnx.exporting import (
    TOLERANCE,
    ExportableClassifier,
    Run,
    export_program,
    largest_difference,
    save_onnx,
)
from vmhan.inference.onnx.inputs import check_batches, input_axes
from vmhan.inference.onnx.measuring import Answers, answer_one_by_one, time_ratio
from vmhan.inference.onnx.runtime import INT8_OPERATORS, need, onnx_session, quantise, run_session
from vmhan.training.arguments import parse_arguments as parse_run_arguments
from vmhan.training.data import load_posts
from vmhan.training.environment import describe_environment
from vmhan.training.mapped_features import with_mapped_features
from vmhan.training.results import prediction_rows


__all__ = ["main"]

logger = logging.getLogger(__name__)

FORMATS = ("onnx", "torch_export")
PROGRAM_FILE = "model.pt2"
SPLIT = "validation"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code.

    Raises:
        ValueError, OSError: bad arguments, or a model that cannot be exported.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = parse_arguments(argv)
    check_output(arguments.output_dir)
    if arguments.format == "onnx":
        need("onnx", "onnxscript", "onnxruntime")
    posts = load_validation(arguments.evaluate) if arguments.evaluate else None
    model = VMHANForRelationClassification.from_pretrained(arguments.model)
    processor = VMHANProcessor.from_pretrained(arguments.model)
    arguments.output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output_dir.parent, prefix=".export-") as folder:
        facts = export(model, processor, Path(folder), arguments)
        if posts is not None:
            facts["evaluation"] = evaluate(model, processor, posts, Path(folder))
        (Path(folder) / EXPORT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        publish(Path(folder), arguments.output_dir)
    logger.info("wrote %s: %s", arguments.output_dir, {name: facts[name] for name in ("bytes", "largest_difference")})
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan export", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder or Hub name of a trained model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write (default onnx)")
    parser.add_argument("--int8", action="store_true", help="also a model with int8 weights (onnx)")
    parser.add_argument("--opset", type=int, help="version of ONNX's operators (default: torch's choice)")
    parser.add_argument(
        "--evaluate", nargs=argparse.REMAINDER, metavar="CONFIG", help="data, in the words of run_mmre.py; comes last"
    )
    arguments = parser.parse_args(argv)
    if arguments.format != "onnx":
        given = [f"--{name}" for name in ("int8", "opset", "evaluate") if getattr(arguments, name)]
        if given:
            parser.error(f"{given[0]}: expected --format onnx with it, received --format {arguments.format}")
    return arguments


def check_output(output_dir: Path) -> None:
    """ValueError where a torch model is: its config.json would lose the names by which it is loaded."""
    weights = sorted(output_dir.glob("model*.safetensors"))
    if weights:
        raise ValueError(
            f"--output_dir: expected a folder of its own, received {output_dir}, which has a model "
            f"({weights[0].name}). Name another."
        )


def load_validation(argv: list[str]) -> datasets.Dataset:
    """The validation split that run_mmre.py would take with these arguments.

    Raises:
        ValueError: an unknown argument, or data without that split.
    """
    _, data_args, run_args = parse_run_arguments([*argv, "--do_train", "false"])
    posts = load_posts(data_args, run_args)
    if SPLIT not in posts:
        raise ValueError(f"--evaluate: expected data with a {SPLIT} split, received {list(posts)}. Name other data.")
    return with_mapped_features(posts[SPLIT])


def export(model, processor, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the forms, processor and config to the folder; returns the content of export.json.

    Raises:
        ValueError: the model cannot be exported, or a form differs too much from it.
    """
    config, program = model.config, export_program(model, processor)
    runs: dict[str, Run] = {}
    facts: dict[str, Any] = {"format": arguments.format}
    if arguments.format == "torch_export":
        torch.export.save(program, folder / PROGRAM_FILE)
        module = torch.export.load(folder / PROGRAM_FILE).module()
        runs[PROGRAM_FILE] = lambda inputs: module(**inputs)
    else:
        facts["opset"] = save_onnx(program, folder / ONNX_FILE, opset=arguments.opset)
        runs[ONNX_FILE] = partial(run_session, onnx_session(folder / ONNX_FILE))
    differences = {name: largest_difference(model, processor, run) for name, run in runs.items()}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{name}: expected logits and probabilities within {TOLERANCE} of the model's, received a difference "
                f"of {difference}. Nothing was written; serve the model with transformers.pipeline instead."
            )
    if arguments.int8:
        facts["int8_operators"] = list(INT8_OPERATORS)
        quantise(folder / ONNX_FILE, folder / INT8_FILE)
        int8 = partial(run_session, onnx_session(folder / INT8_FILE))
        differences[INT8_FILE] = largest_difference(model, processor, int8)
    facts["bytes"] = {name: (folder / name).stat().st_size for name in differences}
    processor.save_pretrained(folder)
    save_config(config, folder)
    return {
        **facts,
        "largest_difference": differences,
        "inputs": input_axes(config, list(processor(check_batches(model)[0]))),
        "outputs": {"logits": ["pairs", len(config.labels)], "probabilities": ["pairs", len(config.labels)]},
        "labels": config.labels,
        "none_label": config.none_label,
        "calibration_temperature": config.calibration_temperature,
        "environment": {**describe_environment(), **onnx_versions(arguments.format)},
    }


def save_config(config, folder: Path) -> None:
    """config.json without the names of a model and a pipeline: this folder has none for torch."""
    config.auto_map = {}
    config.custom_pipelines = {}
    config.save_pretrained(folder)


def onnx_versions(form: str) -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "onnxruntime", "onnxscript")} if form == "onnx" else {}


def evaluate(model, processor, posts: datasets.Dataset, folder: Path) -> dict[str, Any]:
    """F1 and time of the model itself and of the ONNX forms in the folder, all with the same number of threads.

    Raises:
        ValueError: the posts' labels are not the model's.
    """
    names = posts.features["pairs"].feature["relation"].names
    if names != model.config.labels:
        raise ValueError(
            f"--evaluate: expected data with the model's labels {model.config.labels}, received {names}. Name the "
            "data that the model was trained on."
        )
    threads = torch.get_num_threads()
    eager = ExportableClassifier(model)
    runs: dict[str, Run] = {"torch": lambda inputs: eager(**inputs)}
    for name in (ONNX_FILE, INT8_FILE):
        if (folder / name).is_file():
            runs[name] = partial(run_session, onnx_session(folder / name, num_threads=threads))
    answers = answer_one_by_one(posts, processor, model.config, runs)
    return {
        "split": SPLIT,
        "posts": len(posts),
        "pairs": sum(map(len, answers["torch"].logits)),
        "threads": threads,
        "forms": {name: compare(answers, name, posts, model.config) for name in runs},
    }


def compare(answers: dict[str, Answers], name: str, posts: datasets.Dataset, config) -> dict[str, Any]:
    """F1 of one form with its interval, and beside each form before it what it changes: logits, F1 and time."""
    from vmhan.scoring.bootstrap import bootstrap_f1, paired_test

    own, own_rows = answers[name], as_predictions(answers[name], posts, config)
    result: dict[str, Any] = {
        "f1": bootstrap_f1(own_rows)._asdict(),
        "milliseconds_per_post": 1000 * float(torch.tensor(own.seconds).median()),
    }
    for other in list(answers)[: list(answers).index(name)]:
        changed = paired_test(own_rows, as_predictions(answers[other], posts, config))
        differences = [abs(a - b).max() for a, b in zip(own.logits, answers[other].logits, strict=True)]
        result[f"against {other}"] = {
            "f1_difference": changed._asdict(),
            "largest_logit_difference": float(max(differences)),
            "time_ratio": time_ratio(own, answers[other]),
        }
    return result


def as_predictions(answers: Answers, posts: datasets.Dataset, config):
    """The answers as a run's predictions, which evaluation scores."""
    from vmhan.scoring.predictions import Predictions

    gold = [[pair["relation"] for pair in post["pairs"]] for post in posts.select_columns(["pairs"])]
    rows = prediction_rows(SimpleNamespace(predictions=answers.logits, label_ids=gold), posts, SPLIT, config)
    return Predictions(rows=rows, labels=config.labels, none_label=config.none_label, path=Path(EXPORT_FILE))


def publish(made: Path, output_dir: Path) -> None:
    """Move the finished files to the output folder; while they move, it has no export.json."""
    output_dir.mkdir(parents=True, exist_ok=True)
    for name in (EXPORT_FILE, ONNX_FILE, INT8_FILE, PROGRAM_FILE):
        (output_dir / name).unlink(missing_ok=True)
    for path in sorted(made.iterdir(), key=lambda path: path.name == EXPORT_FILE):
        os.replace(path, output_dir / path.name)
