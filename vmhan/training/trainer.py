"""transformers.Trainer for posts: two learning rates, logged loss parts, scores over pairs."""

import json
import logging
import os
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import get_last_checkpoint, seed_worker

from vmhan.scoring.scorer import score
from vmhan.training.arguments import RunArguments
from vmhan.training.batching import TokenBudgetSampler
from vmhan.training.mapped_features import with_mapped_features


__all__ = ["RelationTrainer", "callbacks", "gathered_weights", "real_pairs", "score_evaluation", "train"]

logger = logging.getLogger(__name__)

PADDING = -100
OF_ONE_SESSION = ("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class RelationTrainer(Trainer):
    """Trainer with two learning rates, logged loss parts, and evaluation that keeps a post's pairs together."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._loss_parts: dict[str, list[torch.Tensor]] = defaultdict(list)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """The encoder learns at `learning_rate`, the rest at `head_learning_rate`; biases and norms do not decay."""
        if self.optimizer is not None:
            return self.optimizer
        model = model or self.model
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_encoder = "text_encoder." in name or self.args.head_learning_rate is None
                rate = self.args.learning_rate if is_encoder else self.args.head_learning_rate
                groups[rate, self.args.weight_decay if name in decayed else 0.0].append(parameter)
        optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = optimizer_class(
            [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()],
            **options,
        )
        return self.optimizer

    def evaluation_loop(self, *args, **kwargs):
        """Every process asks the model that is saved, the first one's: running statistics are each one's own.

        The loss is equation 9's alone, a mean over all pairs: Trainer's mean of means depends on what shares a batch.
        """
        if self.args.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        output = super().evaluation_loop(*args, **kwargs)
        if output.predictions is not None:
            loss = torch.nn.functional.cross_entropy(*map(torch.from_numpy, real_pairs(output))).item()
            output.metrics.update({name: loss for name in output.metrics if name.endswith("_loss")})
        return output

    def _get_eval_sampler(self, eval_dataset):
        """In the data's order: Trainer's group_by_length would shuffle the predictions."""
        return torch.utils.data.SequentialSampler(eval_dataset)

    def _get_dataloader(self, dataset, description, *, is_training=False, **options) -> DataLoader:
        """Trainer's own, or with --tokens_per_batch one of the budget.

        Several processes evaluate by Trainer's own, because what they gather must be of one size.
        """
        args = self.args
        if args.tokens_per_batch is None or (args.world_size > 1 and not is_training):
            return super()._get_dataloader(dataset, description, is_training=is_training, **options)
        seed = args.seed if args.data_seed is None else args.data_seed
        options = {"shuffle": is_training, "seed": seed, "num_processes": args.world_size}
        sampler = TokenBudgetSampler(dataset["length"], args.tokens_per_batch, **options)
        if is_training:
            self.add_callback(EpochSetter(sampler))
        loader = DataLoader(
            self._remove_unused_columns(dataset, description),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers and is_training,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
        )
        return self.accelerator.prepare(loader)

    def _remove_unused_columns(self, dataset: datasets.Dataset, description: str | None = None) -> Dataset:
        """Also the pictures, where every one has its features: none need be decoded. Features become views."""
        dataset = super()._remove_unused_columns(dataset, description)
        if {"image", "image_features"} <= set(dataset.column_names):
            images, features = (dataset.data[name].null_count for name in ("image", "image_features"))
            dataset = dataset.remove_columns("image") if features <= images else dataset
        return with_mapped_features(dataset)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        """By the lengths that the posts have as a column; their views have none."""
        return super()._get_train_sampler(self.train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            for name in ("relation_loss", "reconstruction_loss", "kl_loss"):
                if outputs.get(name) is not None:
                    self._loss_parts[name].append(outputs[name])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss part since the last training log, over all processes."""
        if "loss" in logs:
            for name, values in sorted(self._loss_parts.items()):
                logs[name] = round(self.accelerator.reduce(torch.stack(values).mean(), "mean").item(), 6)
            self._loss_parts.clear()
        super().log(logs, start_time)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Logits and labels as (B, pairs of the longest post, ...), filled up with -100.

        Trainer gathers and truncates along the first axis, across processes too: it must count posts, not pairs.
        """
        pair_to_example = inputs["pair_to_example"]
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None:
            return loss, None, None
        counts = torch.bincount(pair_to_example).tolist()
        pad = torch.nn.utils.rnn.pad_sequence
        logits = pad(logits.float().split(counts), batch_first=True, padding_value=PADDING)
        return loss, logits, pad(labels.split(counts), batch_first=True, padding_value=PADDING)


class EpochSetter(transformers.TrainerCallback):
    """Tells a sampler the epoch: accelerate does not, when several processes resume in the midst of one."""

    def __init__(self, sampler: TokenBudgetSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))


class EpochClock(transformers.TrainerCallback):
    """How long the epochs of training took, without the evaluation and the checkpoint after each."""

    def __init__(self):
        self.seconds: list[tuple[float, float]] = []  # of each whole epoch: wall clock; this process, all threads
        self.has_trained, self._start = False, None

    def on_epoch_begin(self, args, state, control, **kwargs):
        epoch = state.epoch or 0
        is_whole = abs(epoch - round(epoch)) < 1e-6  # not resumed in the midst of it
        self.has_trained, self._start = True, (time.perf_counter(), time.process_time()) if is_whole else None

    def on_epoch_end(self, args, state, control, **kwargs):
        if self._start is not None:
            self.seconds.append((time.perf_counter() - self._start[0], time.process_time() - self._start[1]))

    def metrics(self) -> dict[str, float]:
        """Means over the epochs."""
        names = ("train_seconds_per_epoch", "train_processor_seconds_per_epoch")
        return dict(zip(names, np.mean(self.seconds, axis=0).tolist(), strict=True)) if self.seconds else {}


def callbacks(run_args: RunArguments) -> list[transformers.TrainerCallback]:
    if run_args.early_stopping_patience is None:
        return []
    if not run_args.load_best_model_at_end:
        logger.warning("no early stopping: it needs --load_best_model_at_end true and --eval_strategy epoch or steps")
        return []
    return [EarlyStoppingCallback(early_stopping_patience=run_args.early_stopping_patience)]


def train(trainer: RelationTrainer, run_args: RunArguments) -> dict[str, float]:
    """Train, from the last checkpoint with --resume_from_checkpoint true; returns the training metrics, after a resume
    those of the whole training only, or those that the folder's metrics.json has where nothing was left to train.
    """
    resume: str | None = run_args.resume_from_checkpoint
    if resume is not None and resume.lower() in ("true", "false"):
        is_wanted = resume.lower() == "true" and os.path.isdir(run_args.output_dir)
        resume = get_last_checkpoint(run_args.output_dir) if is_wanted else None
    logger.info("training starts from %s", resume or "the beginning")
    # PyTorch has no fast bfloat16 product for an x86 CPU without AVX-512: a step takes about ten times float32's
    capability = torch.backends.cpu.get_cpu_capability()
    is_bf16_on_cpu = trainer.accelerator.mixed_precision == "bf16" and run_args.device.type == "cpu"
    if is_bf16_on_cpu and capability in ("AVX2", "NO AVX"):
        logger.warning("bf16 is many times slower than float32 on this CPU (%s): pass --bf16 false", capability)
    clock = EpochClock()
    trainer.add_callback(clock)
    metrics = trainer.train(resume_from_checkpoint=resume).metrics
    if trainer.state.global_step < trainer.state.max_steps:
        said = "training stopped early, after epoch %.1f: no better validation F1 (--early_stopping_patience %s)"
        logger.info(said, trainer.state.epoch, run_args.early_stopping_patience)
    if resume is not None:
        metrics = {name: value for name, value in metrics.items() if name not in OF_ONE_SESSION}
        file = Path(run_args.output_dir) / "metrics.json"
        if not clock.has_trained and file.is_file():
            before = json.loads(file.read_text(encoding="utf-8"))
            metrics |= {name: value for name, value in before.items() if name.startswith("train_")}
    return metrics | clock.metrics()


def gathered_weights(trainer: RelationTrainer) -> dict[str, torch.Tensor] | None:
    """Under FSDP the whole weights, which every process must ask for together; None: the model has them itself."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None


def score_evaluation(evaluation, labels: list[str], none_label: str) -> dict[str, float]:
    """The official scores over the pairs of padded (posts, pairs) predictions."""
    logits, ids = real_pairs(evaluation)
    gold, predicted = [labels[i] for i in ids], [labels[i] for i in logits.argmax(axis=-1)]
    return score(gold, predicted, labels=labels, none_label=none_label)


def real_pairs(evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Logits (pairs, R) and relation ids (pairs,) out of padded (posts, pairs) predictions."""
    real = evaluation.label_ids != PADDING
    return evaluation.predictions[real], evaluation.label_ids[real]
