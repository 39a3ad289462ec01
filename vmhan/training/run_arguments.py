"""The flags of a run's training: those of transformers and ours."""

import logging
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy


__all__ = ["RunArguments", "described"]

logger = logging.getLogger(__name__)


def described(text: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class RunArguments(TrainingArguments):
    """transformers.TrainingArguments and what this script adds."""

    head_learning_rate: float | None = described("Learning rate of everything but the text encoder; None: the same.")
    early_stopping_patience: int | None = described("Stop after so many evaluations without a better validation F1.")
    tokens_per_batch: int | None = described(
        "Instead of --per_device_train_batch_size posts, as many of like lengths as have so many encoder tokens, "
        "padding included. The loss is a mean over a batch's pairs, so that a pair among few weighs more. One process "
        "evaluates so, too, in the data's order; several by --per_device_eval_batch_size."
    )
    fit_none_bias: bool = described(
        "After training, fit on the validation split what to add to the logit of no relation for the best F1, by "
        "cross-validation over posts; it is saved with the model, and scores without it are in metrics.json, too.",
        False,
    )
    weight_averaging: float | None = described(
        "Evaluate, save and end with an exponential moving average of the weights: 0.999 is over about 1000 steps."
    )
    log_loss_shares: bool = described(
        "Log which share of the gradient's norm each weighted term of the loss has, in the steps that are logged.",
        False,
    )
    logging_nan_inf_filter: bool = described(
        "It hides steps whose loss is not finite, and waits for the device in each.", False
    )
    remove_unused_columns: bool = described("Must stay false: a post's columns are no arguments of the model.", False)
    overwrite: bool = described("Replace the run that --output_dir holds.", False)
    show_example: bool = described("Predict one test post with the saved folder.", False)
    hub_license: str = described("Licence of the weights, for the card.", "apache-2.0")
    hub_predictions: bool = described("Publish predictions.jsonl, too: it quotes the entities of the data.", False)

    def __post_init__(self):
        """Takes --push_to_hub away from Trainer, which would create the repository first and push checkpoints;
        ValueError for a flag with one of the `refused` values.
        """
        super().__post_init__()
        self.publish, self.push_to_hub = self.push_to_hub, False
        patience, tokens, decay = self.early_stopping_patience, self.tokens_per_batch, self.weight_averaging
        averages = decay is None or (self.do_train and 0 < decay < 1)
        shares = not self.log_loss_shares or (self.logging_strategy == IntervalStrategy.STEPS and self.do_train)
        refused = (  # flag, whether it is wrong, what is expected
            ("overwrite", self.overwrite and self.resumes, "false, or no --resume_from_checkpoint: one of both"),
            ("label_smoothing_factor", self.label_smoothing_factor != 0, "0: it would replace the loss, equation 12"),
            ("early_stopping_patience", patience is not None and patience < 1, "at least 1 evaluation"),
            ("tokens_per_batch", tokens is not None and tokens < 1, "a positive number: 2048 are 16 rows of 128"),
            ("weight_averaging", not averages, "a number between 0 and 1, with --do_train true"),
            ("log_loss_shares", not shares, "false, or --do_train true and --logging_strategy steps"),
            ("log_loss_shares", self.log_loss_shares and self.torch_compile, "false with --torch_compile true"),
            ("hub_revision", self.publish and self.hub_revision is not None, "none: the main branch is published to"),
            ("hub_strategy", self.publish and "checkpoint" in self.hub_strategy, "end: publishing comes at the end"),
        )
        for flag, is_wrong, expected in refused:
            if is_wrong:
                raise ValueError(f"--{flag}: received {getattr(self, flag)!r}, expected {expected}.")
        if not self.do_train:
            self.evaluate_at_the_end_only()
        if self.n_gpu > 1:
            logger.warning("one of %d GPUs is used: start with `accelerate launch` to use all", self.n_gpu)
            self._n_gpu = 1  # DataParallel would cut a batch, whose pairs point into the whole of it
        if self.accelerator_config.dispatch_batches is None:
            self.accelerator_config.dispatch_batches = False  # a batch has rows of posts and of pairs: no slicing it

    @property
    def resumes(self) -> bool:
        """Whether --resume_from_checkpoint says true or names a checkpoint."""
        return str(self.resume_from_checkpoint or "").lower() not in ("", "false", "none")

    def __getstate__(self) -> dict[str, Any]:
        """Without the token, since Trainer pickles its arguments into each checkpoint."""
        return {**self.__dict__, "hub_token": None}

    def evaluate_at_the_end_only(self) -> None:
        """No epoch is selected, the last one counts, and there need be no validation split."""
        self.eval_strategy, self.eval_on_start = IntervalStrategy.NO, False
        self.load_best_model_at_end, self.early_stopping_patience = False, None
