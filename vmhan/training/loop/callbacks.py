"""What happens at the borders of epochs and of a training: clock, early stopping, the best checkpoint of before."""

import logging
import time
from pathlib import Path

import numpy as np
import transformers
from transformers import EarlyStoppingCallback

from vmhan.training.arguments import RunArguments
from vmhan.training.checkpoints import weights_fault
from vmhan.training.loop.batching import TokenBudgetSampler


__all__ = ["BestCheckpoint", "EpochClock", "EpochSetter", "callbacks"]

logger = logging.getLogger(__name__)


class EpochSetter(transformers.TrainerCallback):
    """Tells a sampler the epoch: accelerate does not, when several processes resume in the midst of one."""

    def __init__(self, sampler: TokenBudgetSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))


class BestCheckpoint(transformers.TrainerCallback):
    """After a resume, finds the best checkpoint so far again: beside the one resumed from, or where it was saved."""

    def __init__(self, resume: Path):
        self.resume = resume

    def on_train_begin(self, args, state, control, **kwargs):
        if not args.load_best_model_at_end or state.best_metric is None:
            return
        name = f"checkpoint-{state.best_global_step}"
        places = [self.resume.parent / name, state.best_model_checkpoint, Path(args.output_dir) / name]
        faults = {str(place): weights_fault(place) for place in places if place is not None}
        whole = [place for place, fault in faults.items() if fault is None]
        state.best_model_checkpoint = whole[0] if whole else None
        if not whole:
            said = "the best checkpoint, %s with %s %.4f, is not whole (%s): the best after %s is taken in its place"
            fault = next(iter(faults.values()))
            logger.warning(said, name, args.metric_for_best_model, state.best_metric, fault, self.resume.name)
            state.best_metric = state.best_global_step = None


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
