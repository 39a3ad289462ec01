"""The seconds that each part of a training step takes.

A step is cut at the text encoder's states: the head's backward pass ends there and the encoder's begins there, which
changes no gradient. The parts are the encoder forward, all that follows it forward (`head`), both backward, and AdamW.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from benchmarks.competitors import Batch, Competitor
from benchmarks.timing import wait_for


__all__ = ["PARTS", "step_in_parts"]

PARTS = ("encoder forward", "head forward", "head backward", "encoder backward", "optimizer")


def step_in_parts(
    competitor: Competitor, batch: Batch, encoder: nn.Module, now: Callable[[], float], device: str = "cpu"
) -> dict[str, float]:
    """One training step, and the seconds of each of `PARTS` by the clock `now`; weights change as by
    `Competitor.turns`.
    """
    marks: list[float] = []
    states: list[Tensor] = []  # as the encoder made them, and as the head reads them

    def mark(*_: Any) -> None:
        wait_for(device)
        marks.append(now())

    def cut(module: nn.Module, inputs: Any, output: Any) -> Any:
        mark()
        states.extend([output.last_hidden_state, output.last_hidden_state.detach().requires_grad_()])
        output.last_hidden_state = states[1]
        return output

    hooks = [encoder.register_forward_pre_hook(mark), encoder.register_forward_hook(cut)]
    try:
        mark()
        loss = competitor.model(**batch).loss
        mark()
    finally:
        for hook in hooks:
            hook.remove()
    loss.backward()
    mark()
    states[0].backward(states[1].grad)
    mark()
    competitor.update()
    mark()
    start, encoder_starts, encoder_ends, forward, head_backward, backward, done = marks
    encoding = encoder_ends - encoder_starts
    seconds = encoding, forward - start - encoding, head_backward - forward, backward - head_backward, done - backward
    return dict(zip(PARTS, seconds, strict=True))
