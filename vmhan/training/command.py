"""`vmhan train`, which run_mmre.py starts, too: from flags to a folder with the model, its scores and its predictions.

`vmhan evaluate` and `vmhan search` end here as well.
"""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import datasets
import transformers
from accelerate import PartialState
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import CONFIG_NAME

from datasets_scripts.splits import count_filled
from model_cards.locks import lock_inside, locked_by_main
from model_cards.processes import end_forks_with_this_process, end_with_launcher
from model_cards.publishing import check_access, check_repo_id
from modeling_vmhan import VMHANProcessor
from modeling_vmhan.decision import DecisionRule
from vmhan.scoring.calibration import calibrate, temperature_of
from vmhan.scoring.none_bias import fit_none_bias
from vmhan.training.arguments import DataArguments, ModelArguments, RunArguments, parse_arguments
from vmhan.training.building.models import Model, build_model, how_to_take_pictures
from vmhan.training.environment import peak_memory
from vmhan.training.loop.callbacks import callbacks
from vmhan.training.loop.trainer import (
    RelationTrainer,
    gathered_weights,
    posts_of_pairs,
    real_pairs,
    score_evaluation,
    train,
)
from vmhan.training.measures.attention import attention_accuracy
from vmhan.training.measures.pair_uncertainty import pair_uncertainties
from vmhan.training.measures.raw_posts import precision_tables
from vmhan.training.output_folder import check_output_dir, clear_run
from vmhan.training.own_data import next_commands, own_data, settle_pictures
from vmhan.training.posts.data import data_record, load_posts, make_collator, with_lengths
from vmhan.training.results import complete, describe, save_folder, write_results


__all__ = ["main", "make_trainer", "measure", "only_here", "set_up_logging"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, evaluate, write; returns the metrics."""
    argv = sys.argv[1:] if argv is None else argv
    own = own_data(argv)
    model_args, data_args, run_args = parse_arguments(argv, before=own.flags if own else [])
    set_up_logging(run_args)
    if own is not None:
        settle_pictures(own, model_args, data_args)
    with only_here(run_args):
        return _run(argv, model_args, data_args, run_args)


def only_here(run_args: RunArguments) -> AbstractContextManager:
    """No other process writes to --output_dir meanwhile; BusyError if one does, in all that were launched together."""
    end_with_launcher()
    end_forks_with_this_process()
    output = f"--output_dir {run_args.output_dir}"
    return locked_by_main(lock_inside(run_args.output_dir), output, PartialState())


def _run(
    argv: list[str], model_args: ModelArguments, data_args: DataArguments, run_args: RunArguments
) -> dict[str, Any]:
    if run_args.publish and run_args.process_index == 0:
        check_repo_id("--hub_model_id", run_args.hub_model_id or Path(run_args.output_dir).absolute().name)
        check_access(run_args.hub_token)
    if not run_args.do_train:
        check_untrained(run_args)
    check_output_dir(run_args)
    began = time.monotonic()
    set_seed(run_args.seed)
    posts = load_posts(data_args, run_args, model_args.reads)
    adapt_to_splits(run_args, posts)
    model, processor = build_model(model_args, data_args, posts)
    posts = with_lengths(posts, processor, run_args)
    trainer = make_trainer(model, processor, posts, data_args, run_args)
    metrics: dict[str, Any] = {"seed": run_args.seed, **data_record(data_args, posts)}
    if trainer.is_world_process_zero():
        clear_run(run_args)
    if run_args.do_train:
        metrics |= train(trainer, run_args)
    results = measure(trainer, posts, metrics)
    weights = gathered_weights(trainer)
    if trainer.is_world_process_zero():
        if "validation" in posts and model_args.baseline is None:
            asked = None if weights is not None else posts["validation"]  # sharded weights answer no single process
            tables = precision_tables(model, processor, results["validation"], asked)
            model.config.precision_table = tables
            metrics |= {} if tables is None else {"precision_table": tables}
        uncertainties = pair_uncertainties(trainer, {split: posts[split] for split in results})
        output_dir = Path(run_args.output_dir)
        save_folder(output_dir, model, processor, weights)
        write_results(output_dir, metrics, results, posts, model.config, uncertainties)
        run = describe(argv, model_args, data_args, run_args)
        complete(run_args, run, posts, is_repository=model_args.baseline is None)
        if model_args.baseline is None and (advice := how_to_take_pictures(model.config, data_args, posts)):
            logger.warning(advice)
        say_what_it_took(posts, time.monotonic() - began)
        if data_args.data is not None and model_args.baseline is None:
            print(next_commands(output_dir), flush=True)
    trainer.accelerator.end_training()
    return metrics


def say_what_it_took(posts: datasets.DatasetDict, seconds: float) -> None:
    """One line: minutes of loading, training and evaluating, posts and pairs, memory."""
    counts = [f"{split} {len(rows)}" for split, rows in posts.items() if isinstance(rows, datasets.Dataset)]
    tables = [rows.data.table for rows in posts.values() if isinstance(rows, datasets.Dataset)]
    pairs = sum(count_filled(table, "pairs.head")[1] for table in tables)
    said = "%.1f minutes; posts: %s, with %d pairs; peak memory %s"
    logger.info(said, seconds / 60, ", ".join(counts), pairs, peak_memory())


def make_trainer(
    model: Model,
    processor: VMHANProcessor,
    posts: datasets.DatasetDict,
    data_args: DataArguments,
    run_args: RunArguments,
    model_init: Callable | None = None,
) -> RelationTrainer:
    """The Trainer of these posts, whose model is `model` or, for a search, what `model_init` makes like it."""
    labels, none_label = model.config.labels, model.config.none_label
    return RelationTrainer(
        model=model if model_init is None else None,
        model_init=model_init,
        args=run_args,
        train_dataset=posts.get("train"),
        eval_dataset=posts.get("validation"),
        data_collator=make_collator(processor, model.config.label2id, data_args.visual_share),
        compute_metrics=lambda evaluation: score_evaluation(evaluation, labels, none_label),
        callbacks=callbacks(run_args),
    )


def measure(
    trainer: RelationTrainer, posts: datasets.DatasetDict, metrics: dict[str, Any], rule: DecisionRule | None = None
) -> dict[str, Any]:
    """Predictions on validation and test; adds their scores and calibration to `metrics`, how often the attention
    finds the right object, where the data have it, and which input of a baseline the data do not have.

    A rule of None is fitted on the validation split, and set in the model's config; with a none_bias the scores are
    with it, and SPLIT_f1_without_none_bias is not.
    """
    config = trainer.model.config
    if getattr(config, "without", None):
        metrics["without"] = config.without
    results = {s: trainer.predict(posts[s], metric_key_prefix=s) for s in ("validation", "test") if s in posts}
    for result in results.values():
        metrics |= result.metrics
    if rule is None:
        rule = _fitted_rule(config, results.get("validation"), metrics, fits_bias=trainer.args.fit_none_bias)
    if rule.none_bias:
        for split, result in results.items():
            metrics[f"{split}_f1_without_none_bias"] = metrics[f"{split}_f1"]
            scores = score_evaluation(result, config.labels, config.none_label, rule)
            metrics |= {f"{split}_{name}": value for name, value in scores.items()}
    metrics |= calibrate({s: real_pairs(result) for s, result in results.items()}, rule)
    found = {f"{split}_attention_accuracy": attention_accuracy(trainer, posts[split]) for split in results}
    metrics |= {name: accuracy for name, accuracy in found.items() if accuracy is not None}
    return results


def _fitted_rule(config: Any, validation: Any, metrics: dict[str, Any], *, fits_bias: bool) -> DecisionRule:
    """Temperature and, if asked for, bias by the predictions of the validation split (None: there is none), which are
    put into the config; `metrics` gets the bias and its cross-validated F1.
    """
    config.calibration_temperature, config.none_bias = 1.0, 0.0
    if validation is not None:
        logits, gold = real_pairs(validation)
        config.calibration_temperature = temperature_of(logits, gold)
        found = None
        if fits_bias:
            found = fit_none_bias(logits, gold, posts_of_pairs(validation), DecisionRule.of(config))
        if found is not None:
            metrics["validation_f1_cross_validated_none_bias"] = found.f1_cross_validated
            metrics["validation_f1_without_none_bias"] = found.f1_without
            config.none_bias = found.value
    if fits_bias:
        metrics["none_bias"] = config.none_bias
    return DecisionRule.of(config)


def check_untrained(run_args: RunArguments) -> None:
    """Warns that only the text encoder is pretrained; ValueError where a finished model would be written over."""
    if (Path(run_args.output_dir) / CONFIG_NAME).exists():
        raise ValueError(
            f"--do_train false would write over the model in --output_dir {run_args.output_dir}. `vmhan evaluate "
            f"{run_args.output_dir}` evaluates it."
        )
    if run_args.process_index == 0:
        logger.warning("nothing is trained: what is evaluated has fresh weights behind its text encoder")


def adapt_to_splits(run_args: RunArguments, posts: datasets.DatasetDict) -> None:
    """Without a validation split nothing is evaluated while training; with a warning."""
    evaluates = run_args.eval_strategy != IntervalStrategy.NO or run_args.eval_on_start
    if evaluates and "validation" not in posts:
        logger.warning("there is no validation split: no epoch is selected, the last one is saved")
        run_args.evaluate_at_the_end_only()


def set_up_logging(run_args: RunArguments) -> None:
    level = logging.INFO if run_args.process_index == 0 else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level, force=True)
    transformers.utils.logging.set_verbosity(run_args.get_process_log_level())
    logging.getLogger("httpx").setLevel(logging.WARNING)
