"""From logits to the probabilities that an answer is made of: the temperature, and the bias of the none label."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


__all__ = ["UNFITTED", "DecisionRule"]


class DecisionRule(NamedTuple):
    """softmax((logits + none_bias * [the none label]) / temperature), of which the likeliest label is the answer.

    Logits and losses are without both. This is the one place where they are applied: scores, precision tables,
    pipeline, Monte Carlo samples and exported graphs all ask it. Both are fitted on a validation split.
    """

    none_id: int = 0
    temperature: float = 1.0
    none_bias: float = 0.0

    @classmethod
    def of(cls, config: Any) -> "DecisionRule":
        """The rule that the config of a model or of a baseline has."""
        return cls(config.label2id[config.none_label], config.calibration_temperature, config.none_bias)

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (..., R) -> probabilities (..., R), in at least float32."""
        logits = logits if logits.element_size() >= 4 else logits.float()
        if self.none_bias:
            is_none = torch.arange(logits.shape[-1], device=logits.device) == self.none_id  # (R,)
            logits = logits + self.none_bias * is_none
        return (logits / self.temperature).softmax(dim=-1)


UNFITTED = DecisionRule()
