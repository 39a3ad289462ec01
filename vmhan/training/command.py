"""One training run from flags to a finished folder: what `run_mmre.py` and `vmhan train` do, in its order."""

import logging
import sys
from pathlib import Path
from typing import Any

import datasets
import transformers
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import CONFIG_NAME

from datasets_scripts.leaks import leak_record
from model_cards.publishing import check_access
from vmhan.scoring.calibration import calibrate
from vmhan.training.arguments import ModelArguments, RunArguments, parse_arguments
from vmhan.training.data import load_posts, make_collator, with_lengths, without_images
from vmhan.training.models import build_model
from vmhan.training.results import complete, describe, write_results
from vmhan.training.search import search
from vmhan.training.trainer import RelationTrainer, callbacks, gathered_weights, real_pairs, score_evaluation, train


__all__ = ["main"]

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Train, evaluate, write; returns the metrics, or with --hyperparameter_search the trials."""
    argv = sys.argv[1:] if argv is None else argv
    model_args, data_args, run_args = parse_arguments(argv)
    set_up_logging(run_args)
    if run_args.publish and run_args.process_index == 0:
        check_access(run_args.hub_token)
    check_output(model_args, run_args)
    set_seed(run_args.seed)
    if run_args.hyperparameter_search is not None:
        return search(argv, model_args, data_args, run_args)
    reads = {"with_features": not model_args.reads_pixels, "needs_features": model_args.reads_features}
    posts = load_posts(data_args, run_args, **reads)
    adapt_to_splits(run_args, posts)
    model, processor = build_model(model_args, data_args, posts)
    if not model_args.reads_pixels and model.config.vision_encoder is None:
        posts = without_images(posts, data_args)
    posts = with_lengths(posts, processor, run_args)
    labels = model.config.labels
    trainer = RelationTrainer(
        model=model,
        args=run_args,
        train_dataset=posts.get("train"),
        eval_dataset=posts.get("validation"),
        data_collator=make_collator(processor, model.config.label2id, data_args.visual_share),
        compute_metrics=lambda evaluation: score_evaluation(evaluation, labels, model.config.none_label),
        callbacks=callbacks(run_args),
    )
    metrics: dict[str, Any] = {"seed": run_args.seed, **leak_record(posts)}
    if run_args.do_train:
        metrics |= train(trainer, run_args)
    output_dir = Path(run_args.output_dir)
    results = {s: trainer.predict(posts[s], metric_key_prefix=s) for s in ("validation", "test") if s in posts}
    for result in results.values():
        metrics |= result.metrics
    temperature = None if model_args.trained_model is None else model.config.calibration_temperature
    metrics |= calibrate({s: real_pairs(result) for s, result in results.items()}, temperature=temperature)
    model.config.calibration_temperature = metrics["temperature"]
    weights = gathered_weights(trainer)
    if trainer.is_world_process_zero():
        model.save_pretrained(output_dir, state_dict=weights)
        processor.save_pretrained(output_dir)
        write_results(output_dir, metrics, results, posts, model.config)
        run = describe(argv, model_args, data_args, run_args)
        is_repository = model_args.baseline is None and model_args.trained_model is None
        complete(run_args, run, posts, is_repository=is_repository)
    trainer.accelerator.end_training()
    return metrics


def check_output(model_args: ModelArguments, run_args: RunArguments) -> None:
    """ValueError where nothing is trained and --output_dir already holds a model, which would be written over.

    Without --trained_model nothing but the text encoder is pretrained, which is warned of.
    """
    if run_args.do_train or run_args.hyperparameter_search is not None:
        return
    if (Path(run_args.output_dir) / CONFIG_NAME).exists():
        raise ValueError(
            f"--do_train false would write over the model in --output_dir {run_args.output_dir}. To evaluate it, pass "
            f"--trained_model {run_args.output_dir} and another --output_dir."
        )
    if model_args.trained_model is None and run_args.process_index == 0:
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
