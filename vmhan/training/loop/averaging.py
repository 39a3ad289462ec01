"""An exponential moving average of the weights, which evaluation, checkpoints and the final model have.

Training goes on with its own weights, which a checkpoint has in a file beside the averaged ones.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vmhan.training.checkpoints import UNAVERAGED


__all__ = ["WeightAveraging", "check_averaging"]


class WeightAveraging(transformers.TrainerCallback):
    """average = d average + (1 - d) weights after each step t, where d = min(--weight_averaging, (1 + t) / (10 + t)).

    The first weights, which are random in part, are so forgotten in a short training too. The running statistics are
    averaged as the weights are. It holds a second copy of all that is learned. Without the flag, and outside of a
    training, it changes nothing.
    """

    def __init__(self, get_model: Callable[[], nn.Module]):
        self.get_model = get_model  # a search has another model, and may have another decay, in each trial
        self.resume: Path | None = None  # the checkpoint that a training goes on from
        self._weights: dict[str, Tensor] = {}  # the model's own; empty outside of training
        self._average: dict[str, Tensor] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        self._weights, self._average = {}, {}
        if args.weight_averaging is None:
            return
        model = self.get_model()
        learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
        learned |= {name: value for name, value in model.named_buffers() if value.is_floating_point()}
        self._weights = {name: value.detach() for name, value in learned.items()}
        self._average = {name: value.clone() for name, value in self._weights.items()}
        if self.resume is not None:  # whose model is the average
            saved = load_file(self.resume / UNAVERAGED)
            for name, value in self._weights.items():
                value.copy_(saved[name])

    def on_step_end(self, args, state, control, **kwargs):
        if args.weight_averaging is None:
            return
        decay = min(args.weight_averaging, (1 + state.global_step) / (10 + state.global_step))
        get_ema_multi_avg_fn(decay)([*self._average.values()], [*self._weights.values()], None)

    def on_train_end(self, args, state, control, **kwargs):
        if not args.load_best_model_at_end or state.best_model_checkpoint is None:  # else it is a checkpoint's average
            self._exchange()
        self._weights, self._average = {}, {}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def save_unaveraged(self, folder: str) -> None:
        """While the average is in place: the other weights, into a checkpoint's folder."""
        save_file({name: value.contiguous() for name, value in self._average.items()}, Path(folder) / UNAVERAGED)

    def _exchange(self) -> None:
        for name, value in self._weights.items():
            kept = value.clone()
            value.copy_(self._average[name])
            self._average[name].copy_(kept)


def check_averaging(checkpoint: Path, decay: float | None) -> None:
    """ValueError for a checkpoint that was saved with weight averaging, where it is now without, or the reverse."""
    has = (checkpoint / UNAVERAGED).exists()
    if has != (decay is not None):
        said = f"--weight_averaging: received {decay}, and {checkpoint} was saved {'with' if has else 'without'} it"
        raise ValueError(f"{said}: pass the flag as at its start, or train anew with --overwrite true.")
