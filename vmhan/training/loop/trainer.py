"""transformers.Trainer for posts: two learning rates, logged loss parts, scores over pairs."""

import contextlib
import json
import logging
import math
import os
import shutil
from collections import defaultdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import rotate_checkpoints, seed_worker

from model_cards.files import write_json
from modeling_vmhan.decision import UNFITTED, DecisionRule
from modeling_vmhan.frozen import fast_dtype
from vmhan.scoring.calibration import softmax
from vmhan.scoring.scorer import score
from vmhan.training.arguments import RunArguments
from vmhan.training.checkpoints import ASIDE, STATE, TRAIN_DATA, choose_checkpoint
from vmhan.training.loop.averaging import WeightAveraging, check_averaging
from vmhan.training.loop.batching import TokenBudgetSampler
from vmhan.training.loop.callbacks import BestCheckpoint, EpochClock, EpochSetter
from vmhan.training.loop.loss_shares import loss_shares
from vmhan.training.loop.train_data import check_train_data, record_of
from vmhan.training.posts.mapped_features import with_mapped_features


__all__ = [
    "DivergedError",
    "RelationTrainer",
    "gathered_weights",
    "posts_of_pairs",
    "real_pairs",
    "score_evaluation",
    "train",
]

logger = logging.getLogger(__name__)

PADDING = -100
LOSS_TERMS = ("relation_loss", "reconstruction_loss", "kl_loss", "mention_loss", "type_loss")
OF_ONE_SESSION = ("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class DivergedError(ValueError):
    """Weights or scores are not finite: a run that ends so has no result."""


class RelationTrainer(Trainer):
    """Trainer with two learning rates, logged loss parts, and evaluation that keeps a post's pairs together.

    A checkpoint gets its name when all of it is written. Diverged weights are an error, and are never saved.
    """

    def __init__(self, *args, **kwargs):
        self._aside: str | None = None  # where a checkpoint is written
        super().__init__(*args, **kwargs)
        if not isinstance(self.args, RunArguments):
            expected = "args must be vmhan.training.run_arguments.RunArguments, with the options of TrainingArguments"
            raise ValueError(f"{expected}, received {type(self.args).__name__}.")
        self._loss_parts: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.averaging = WeightAveraging(lambda: self.model)
        self.add_callback(self.averaging)
        if self.args.weight_averaging is not None:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                received = f"{self.args.weight_averaging} with {'FSDP' if self.is_fsdp_enabled else 'DeepSpeed'}"
                raise ValueError(f"--weight_averaging: expected whole weights in each process, received {received}.")

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
        with self.averaging.in_place():
            if self.args.world_size > 1:
                for buffer in self.model.buffers():
                    torch.distributed.broadcast(buffer, src=0)
            output = super().evaluation_loop(*args, **kwargs)
        if output.predictions is not None:
            wrong = np.flatnonzero(~np.isfinite(output.predictions).all(axis=(1, 2)))
            if len(wrong):
                self.check_weights()
                raise DivergedError(
                    f"{len(wrong)} of {len(output.predictions)} posts have scores that are not finite though the "
                    f"weights are finite; the first is post {wrong[0]} of the split, counted from 0. Look there for "
                    "features of very large values, or pass --bf16 false --fp16 false."
                )
            logits, gold = map(torch.from_numpy, real_pairs(output))
            loss = torch.nn.functional.cross_entropy(logits.double(), gold).item()
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
        needs_images = getattr(self.model, "reads_image_size", False)
        if {"image", "image_features"} <= set(dataset.column_names) and not needs_images:
            images, features = (dataset.data[name].null_count for name in ("image", "image_features"))
            dataset = dataset.remove_columns("image") if features <= images else dataset
        return with_mapped_features(dataset)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler | None:
        """By the lengths that the posts have as a column; their views have none."""
        return super()._get_train_sampler(self.train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if model.training:
            terms = {name: outputs[name] for name in LOSS_TERMS if outputs.get(name) is not None}
            parts = {name: term.detach() for name, term in terms.items()}
            if self.args.log_loss_shares and (self.state.global_step + 1) % self.state.logging_steps == 0:
                config, shared = self.model.config, self.model.base_model.parameters()
                weighted = {name: getattr(config, f"{name}_weight") * term for name, term in terms.items()}
                parts |= loss_shares(weighted, shared)
            for name, part in parts.items():
                self._loss_parts[name].append(part)
        return (loss, outputs) if return_outputs else loss

    def check_weights(self) -> None:
        """DivergedError where a weight or running statistic is not finite. It waits for the device: not in a step."""
        values = [value for value in (*self.model.parameters(), *self.model.buffers()) if value.is_floating_point()]
        values = [value.to_local() if hasattr(value, "to_local") else value for value in values]  # FSDP's: a part each
        wrong = sum((~value.detach().isfinite().all()).to(self.args.device) for value in values)
        if self.accelerator.reduce(torch.as_tensor(wrong, device=self.args.device), "sum").item():
            self._loss_parts.clear()  # a search goes on with another trial
            if not self.args.do_train:
                raise DivergedError("the weights of this model are not finite: train it again, with lower rates.")
            rates = [(name, getattr(self.args, name)) for name in ("learning_rate", "head_learning_rate")]
            said = " and ".join(f"--{name} {rate:g}" for name, rate in rates if rate is not None)
            raise DivergedError(
                f"training diverged: at step {self.state.global_step}, epoch {self.state.epoch or 0:.2f}, the weights "
                f"are not finite any more, with {said}. Pass lower rates, --warmup_steps, or a lower --max_grad_norm "
                f"(now {self.args.max_grad_norm:g}); these weights are not saved."
            )

    @cached_property
    def train_data(self) -> dict[str, Any] | None:
        """What a checkpoint says of the posts that it has learned from (see `record_of`)."""
        return record_of(self.train_dataset)

    def _get_output_dir(self, trial) -> str:
        return self._aside or super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        """Write it in a folder aside, and give it its name when every process has written its part."""
        self.check_weights()
        folder = self._get_output_dir(trial)
        aside = os.path.join(folder, ASIDE)
        self._aside = aside
        try:
            with self.averaging.in_place():
                super()._save_checkpoint(model, trial)
                if self.args.weight_averaging is not None and self.args.should_save:
                    self.averaging.save_unaveraged(os.path.join(aside, f"checkpoint-{self.state.global_step}"))
        finally:
            self._aside = None
        written, final = (os.path.join(place, f"checkpoint-{self.state.global_step}") for place in (aside, folder))
        if self.state.best_model_checkpoint == written:
            self.state.best_model_checkpoint = final
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(os.path.join(written, STATE))
            if self.train_data is not None:
                write_json(os.path.join(written, TRAIN_DATA), self.train_data)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(written, final)
            with contextlib.suppress(OSError):
                os.rmdir(aside)
            rotate_checkpoints(folder, self.args.save_total_limit, self.state.best_model_checkpoint, use_mtime=True)
        self.accelerator.wait_for_everyone()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each loss part since the last training log, over all processes.

        A loss that is not finite may be a step that fp16 skips; it is an error where the weights are not finite.
        """
        if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm")):
            self.check_weights()
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


def train(trainer: RelationTrainer, run_args: RunArguments) -> dict[str, float]:
    """Train, from the last checkpoint with --resume_from_checkpoint true; returns the training metrics, after a resume
    those of the whole training only, or those that the folder's metrics.json has where nothing was left to train.
    """
    resume = _resume(trainer, run_args)
    logger.info("training starts from %s", resume or "the beginning")
    # emulated, a step takes three times float32's with AVX-512, and about ten times without
    is_bf16_on_cpu = trainer.accelerator.mixed_precision == "bf16" and run_args.device.type == "cpu"
    if is_bf16_on_cpu and fast_dtype(run_args.device) != torch.bfloat16:
        logger.warning("bf16 is many times slower than float32 on this CPU, which emulates it: pass --bf16 false")
    clock = EpochClock()
    trainer.add_callback(clock)
    metrics = trainer.train(resume_from_checkpoint=None if resume is None else str(resume)).metrics
    trainer.check_weights()
    if not math.isfinite(metrics.get("train_loss", 0.0)):  # a step that fp16 skipped
        del metrics["train_loss"]
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


def _resume(trainer: RelationTrainer, run_args: RunArguments) -> Path | None:
    """The checkpoint to go on from, which the first process chooses for all; prepares the trainer for it."""
    chosen: list = [None, None]
    if trainer.is_world_process_zero():
        shutil.rmtree(Path(run_args.output_dir) / ASIDE, ignore_errors=True)  # of a run that was killed
        try:
            chosen[0] = choose_checkpoint(run_args.resume_from_checkpoint, run_args.output_dir, run_args.world_size)
            if chosen[0] is not None:
                check_averaging(chosen[0], run_args.weight_averaging)
                check_train_data(chosen[0], trainer.train_data)
        except ValueError as error:
            chosen[1] = error
    resume, error = broadcast_object_list(chosen)
    if error is not None:
        raise error
    if resume is not None:
        trainer.add_callback(BestCheckpoint(resume))
        trainer.averaging.resume = resume
        _go_on_waiting(trainer, run_args, resume)
    return resume


def _go_on_waiting(trainer: RelationTrainer, run_args: RunArguments, resume: Path) -> None:
    """Early stopping counts on where the checkpoint was; nothing is left to train where it had come to its end."""
    state = json.loads((resume / STATE).read_text(encoding="utf-8"))
    saved = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {}).get("attributes", {})
    waited = saved.get("early_stopping_patience_counter", 0)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, EarlyStoppingCallback):
            callback.early_stopping_patience_counter = waited
            if waited >= callback.early_stopping_patience:
                logger.info("training had stopped early at %s: nothing is left to train", resume.name)
                run_args.max_steps = state["global_step"]


def gathered_weights(trainer: RelationTrainer) -> dict[str, torch.Tensor] | None:
    """Under FSDP the whole weights, which every process must ask for together; None: the model has them itself."""
    return trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None


def score_evaluation(
    evaluation, labels: list[str], none_label: str, rule: DecisionRule = UNFITTED
) -> dict[str, float]:
    """The official scores over the pairs of padded (posts, pairs) predictions, answered by the rule."""
    logits, ids = real_pairs(evaluation)
    gold, predicted = [labels[i] for i in ids], [labels[i] for i in softmax(logits, rule).argmax(axis=-1)]
    return score(gold, predicted, labels=labels, none_label=none_label)


def real_pairs(evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Logits (pairs, R) and relation ids (pairs,) out of padded (posts, pairs) predictions."""
    real = evaluation.label_ids != PADDING
    return evaluation.predictions[real], evaluation.label_ids[real]


def posts_of_pairs(evaluation) -> np.ndarray:
    """Of each of `real_pairs` the number of its post, (pairs,)."""
    return np.nonzero(evaluation.label_ids != PADDING)[0]
