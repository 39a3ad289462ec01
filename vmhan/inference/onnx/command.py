"""Export a trained model for serving: `vmhan export MODEL --output_dir OUT`.

    vmhan export outputs/mnre --output_dir outputs/mnre-onnx --int8 --evaluate configs/mnre_offline.yaml --data_dir DIR

Writes to OUT the graph (model.onnx, with --int8 also model_int8.onnx, with --int8_only that alone; or model.pt2), the
processor, the config and, last, export.json. Nothing is written where the graph differs from the model by 1e-4 or more
on its test posts. `vmhan predict OUT INPUT --output OUTPUT --backend onnx` answers with it.

--evaluate, which comes last, takes the CONFIG.yaml and the flags of run_mmre.py that name the data. All forms answer
its validation split post by post; export.json then has their F1, what int8 costs with its 95 % interval, and times.
"""

import argparse
import logging
import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from datasets_scripts.commands import check_folder_or_hub_name, check_needs
from model_cards.files import write_json
from model_cards.locks import lock_beside, locked
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.needs import Need
from vmhan.inference.onnx.check_posts import check_batches
from vmhan.inference.onnx.classifier import EXPORT_FILE, INT8_FILE, ONNX_FILE
from vmhan.inference.onnx.encoder import described_config, described_processor
from vmhan.inference.onnx.evaluation import evaluate, load_validation
from vmhan.inference.onnx.exporting import TOLERANCE, export_program, largest_difference, save_onnx
from vmhan.inference.onnx.inputs import input_axes
from vmhan.inference.onnx.runtime import INT8_OPERATORS, OUTPUTS, need, onnx_session, quantise, run_session
from vmhan.training.checkpoints import check_model_folder
from vmhan.training.environment import describe_environment


__all__ = ["main"]

logger = logging.getLogger(__name__)

FORMATS = ("onnx", "torch_export")
PROGRAM_FILE = "model.pt2"
NEEDS = tuple(
    Need(name, "format", "onnx", ("onnx",).__contains__) for name in ("int8_only", "int8", "opset", "evaluate")
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    arguments = parse_arguments(argv)
    output_dir: Path = arguments.output_dir
    if weights := sorted(output_dir.glob("model*.safetensors")):  # config.json would lose the names that load it
        raise ValueError(
            f"--output_dir: expected a folder of its own, received {output_dir}, which has a model "
            f"({weights[0].name}). Name another."
        )
    if arguments.format == "onnx":
        need("onnx", "onnxscript", "onnxruntime")
    posts = load_validation(arguments.evaluate) if arguments.evaluate else None
    check_folder_or_hub_name("MODEL", arguments.model)
    check_model_folder("MODEL", arguments.model)
    model = VMHANForRelationClassification.from_pretrained(arguments.model)
    processor = VMHANProcessor.from_pretrained(arguments.model)
    with (
        locked(lock_beside(output_dir), f"--output_dir {output_dir}"),
        tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=".export-") as folder,
    ):
        made = Path(folder)
        content = export(model, processor, made, arguments)
        if posts is not None:
            content["evaluation"] = evaluate(model, processor, posts, made, content["bytes"])
        if arguments.int8_only:
            (made / ONNX_FILE).unlink()
            del content["bytes"][ONNX_FILE]
        write_json(made / EXPORT_FILE, content)
        output_dir.mkdir(parents=True, exist_ok=True)
        for name in (EXPORT_FILE, ONNX_FILE, INT8_FILE, PROGRAM_FILE):  # of an earlier export
            (output_dir / name).unlink(missing_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: path.name == EXPORT_FILE):  # the last one says it is whole
            os.replace(path, output_dir / path.name)
    logger.info("wrote %s: %s", output_dir, {name: content[name] for name in ("bytes", "largest_difference")})
    return 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vmhan export", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="folder or Hub name of a trained model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write (default onnx)")
    parser.add_argument("--int8", action="store_true", help="also a model with int8 weights (onnx)")
    parser.add_argument("--int8_only", action="store_true", help="that model alone, a quarter of the size")
    parser.add_argument("--opset", type=int, help="version of ONNX's operators (default: torch's choice)")
    parser.add_argument(
        "--evaluate", nargs=argparse.REMAINDER, metavar="CONFIG", help="data, in the words of run_mmre.py; comes last"
    )
    arguments = parser.parse_args(argv)
    check_needs(parser, arguments, NEEDS)
    arguments.int8 |= arguments.int8_only
    return arguments


def export(model, processor, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the forms, processor and config to the folder; returns the content of export.json. ValueError if the model
    cannot be exported, or a form differs too much from it.
    """
    config, program, is_onnx = model.config, export_program(model, processor), arguments.format == "onnx"
    content: dict[str, Any] = {"format": arguments.format}
    if is_onnx:
        content["opset"] = save_onnx(program, folder / ONNX_FILE, opset=arguments.opset)
        name, run = ONNX_FILE, partial(run_session, onnx_session(folder / ONNX_FILE))
    else:
        torch.export.save(program, folder / PROGRAM_FILE)
        name, run = PROGRAM_FILE, torch.export.load(folder / PROGRAM_FILE).module()
    differences = {name: largest_difference(model, processor, run)}
    if not differences[name] <= TOLERANCE:
        raise ValueError(
            f"{name}: expected logits and probabilities within {TOLERANCE} of the model's, received a difference of "
            f"{differences[name]}. Nothing was written; serve the model with transformers.pipeline instead."
        )
    if arguments.int8:
        content["int8_operators"] = list(INT8_OPERATORS)
        quantise(folder / ONNX_FILE, folder / INT8_FILE)
        int8 = partial(run_session, onnx_session(folder / INT8_FILE))
        differences[INT8_FILE] = largest_difference(model, processor, int8)
    content["bytes"] = {name: (folder / name).stat().st_size for name in differences}
    processor.save_pretrained(folder)
    config.auto_map, config.custom_pipelines = {}, {}  # this folder has no model and no pipeline for torch
    config.save_pretrained(folder)
    packages = ("onnx", "onnxruntime", "onnxscript") if is_onnx else ()
    return {
        **content,
        "largest_difference": differences,
        "inputs": input_axes(config, list(processor(check_batches(model)[0]))),
        "outputs": {name: ["pairs", len(config.labels)] for name in OUTPUTS},
        "config": described_config(config),
        "processor": described_processor(processor),
        "calibration_temperature": config.calibration_temperature,
        "none_bias": config.none_bias,
        "environment": {**describe_environment(), **{name: version(name) for name in packages}},
    }
