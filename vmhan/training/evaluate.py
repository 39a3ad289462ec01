"""`vmhan evaluate RUN_FOLDER [CONFIG] [--flag value ...]`: a finished run's scores, on its own data or on other data.

The data are those that the run was trained on, as its run.json says, unless CONFIG or flags of `vmhan train` say
otherwise; run.json has no folders of the machine, so that --data_dir is given again. Writes metrics.json,
predictions.jsonl, environment.json, config.json and run.json to --output_dir (RUN_FOLDER/evaluated if left out).
"""

import itertools
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
from transformers.utils import CONFIG_NAME

from datasets_scripts.configs import flags_of
from model_cards.files import write_json
from model_cards.run_metadata import RUN_FILE, read_metadata
from modeling_vmhan.decision import DecisionRule
from vmhan.configs import current_settings, normal
from vmhan.training.arguments import DataArguments, ModelArguments, RunArguments, parse_arguments
from vmhan.training.building.models import load_trained
from vmhan.training.command import make_trainer, measure, only_here, set_up_logging
from vmhan.training.flags import to_entries
from vmhan.training.measures.pair_uncertainty import pair_uncertainties
from vmhan.training.posts.data import data_record, load_posts, with_lengths
from vmhan.training.posts.node_numbers import NODE_NUMBERS, node_numbers
from vmhan.training.results import describe, write_results


__all__ = ["main"]

USAGE = "vmhan evaluate RUN_FOLDER [CONFIG] [--flag value ...]"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Evaluate and write; returns the metrics.

    ValueError: no finished run; its labels are not the data's, or they have none of the nodes that it learned from;
    --output_dir is the run's own folder.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith("-"):
        parse_arguments([word for word in argv if word in ("-h", "--help")], before=["--output_dir", "x"], usage=USAGE)
        raise ValueError(f"expected the folder of a finished run first: {USAGE}")
    folder, rest = Path(argv[0]), argv[1:]
    made = read_metadata(folder).run
    before = {**current_settings(made["data"]), "output_dir": folder / "evaluated"}
    before |= {name: made["training"][name] for name in ("bf16", "fp16") if name in made["training"]}
    after = ["--do_train", "false", "--push_to_hub", "false"]
    model_args, data_args, run_args = parse_arguments([*rest, *after], before=flags_of(before), usage=USAGE)
    set_up_logging(run_args)
    output_dir = Path(run_args.output_dir)
    if (output_dir / CONFIG_NAME).exists() and output_dir.resolve() == folder.resolve():
        raise ValueError(f"--output_dir: expected another folder than the run's own, {folder}, received that one.")
    with only_here(run_args):
        return _evaluate(argv, folder, made, model_args, data_args, run_args)


def _evaluate(
    argv: list[str],
    folder: Path,
    made: dict[str, Any],
    model_args: ModelArguments,
    data_args: DataArguments,
    run_args: RunArguments,
) -> dict[str, Any]:
    """Evaluate the run in `folder`, whose run.json is `made`."""
    output_dir = Path(run_args.output_dir)
    model, processor = load_trained(folder)
    _check_flags(argv, folder, made["model"] | model.config.to_dict())
    model_args.model = getattr(model.config, "baseline", "vmhan")
    takes_pictures = getattr(model.config, "vision_encoder", None) is not None
    posts = load_posts(
        data_args, run_args, "either" if takes_pictures else model_args.reads, labels=model.config.labels
    )
    labels = next(iter(posts.values())).features["pairs"].feature["relation"].names
    if labels != model.config.labels:
        raise ValueError(
            f"{folder} was trained on the relations {model.config.labels}, received data with {labels}, in this "
            "order. Name the --dataset that it was trained on, or write these relations into labels.json beside posts "
            "of your own."
        )
    _check_nodes(model.config, model_args, posts)
    posts = with_lengths(posts, processor, run_args)
    trainer = make_trainer(model, processor, posts, data_args, run_args)
    metrics: dict[str, Any] = {"seed": run_args.seed, **data_record(data_args, posts)}
    results = measure(trainer, posts, metrics, DecisionRule.of(model.config))
    if trainer.is_world_process_zero():
        (output_dir / RUN_FILE).unlink(missing_ok=True)  # of an evaluation before: it is written last
        model.config.save_pretrained(output_dir)
        uncertainties = pair_uncertainties(trainer, {split: posts[split] for split in results})
        write_results(output_dir, metrics, results, posts, model.config, uncertainties)
        run = describe(argv, model_args, data_args, run_args)
        run["command"] = run["command"].replace("python run_mmre.py", "vmhan evaluate", 1)
        run |= {name: made.get(name) for name in ("licence", "base_model", "model", "training")}
        run["trained_model"] = folder.resolve().name
        write_json(output_dir / RUN_FILE, run)
    trainer.accelerator.end_training()
    return metrics


def _check_flags(argv: list[str], folder: Path, trained: dict[str, Any]) -> None:
    """ValueError for a flag that says another model than the one that is trained, which an evaluation cannot change.

    Numbers of nodes say what the data have, see `_check_nodes`. A configuration may be of other models, for its data.
    """
    flags = to_entries(list(itertools.dropwhile(lambda word: not word.startswith("--"), argv)))
    for name in (field.name for field in fields(ModelArguments) if field.name not in NODE_NUMBERS):
        if name in flags and normal(flags[name]) != normal(trained.get(name)):
            received = f"received {flags[name]!r}. Leave it out, or train a model with it."
            raise ValueError(f"--{name}: expected what {folder} was trained with, {trained.get(name)!r}, {received}")


def _check_nodes(config: Any, model_args: ModelArguments, posts: datasets.DatasetDict) -> None:
    """ValueError if the data have none of the objects or phrases that the model learned from, unless a flag says 0."""
    sees_regions = config.visual_feature_size > 0
    learned = {name: getattr(config, name) for name in NODE_NUMBERS if sees_regions or name != "num_objects"}
    node_numbers(learned | model_args.config_fields(), posts, learned, sees_regions=sees_regions)
