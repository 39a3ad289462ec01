"""Losses that read a pair's relation: of the relation itself, and of the types of its arguments.

Shapes: P pairs, R relations, Y types.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .argument_types import argument_types
from .mention_head import mean_over_known
from .mentions import IGNORED


__all__ = ["relation_loss", "type_loss", "type_table"]


def relation_loss(logits: Tensor, labels: Tensor, *, none_id: int, none_smoothing: float = 0.0) -> Tensor:
    """Equation 9: the mean cross-entropy of the pairs' relations. logits (P, R), labels (P,).

    Departure from the paper: of a pair with the none label the target is (1 - none_smoothing) on that label and
    none_smoothing / R on each, since annotators overlook relations more often than they invent them. Smoothing is
    about as good against wrong labels as losses made for them (https://proceedings.mlr.press/v119/lukasik20a.html).
    """
    losses = nn.functional.cross_entropy(logits.float(), labels, reduction="none")  # (P,)
    if none_smoothing:
        options = {"reduction": "none", "label_smoothing": none_smoothing}
        smoothed = nn.functional.cross_entropy(logits.float(), labels, **options)
        losses = torch.where(labels == none_id, smoothed, losses)
    return losses.mean()


def type_table(labels: Iterable[str], types: Sequence[str]) -> list[list[int]]:
    """Of each label the ids of the types of head and tail, in the order of its mentions; `IGNORED` where its name
    tells none of `types`.
    """
    known = (argument_types(label) or (None, None) for label in labels)
    return [[types.index(of) if of in types else IGNORED for of in pair] for pair in known]


def type_loss(logits: Tensor, labels: Tensor, table: list[list[int]]) -> Tensor:
    """Mean cross-entropy of the types of heads and tails, by the names of their relations; 0 without a known one.

    logits (P, 2, Y), labels (P,), table of `type_table`, by which pairs without a relation have no types.
    """
    of_labels = torch.tensor(table).to(labels.device, non_blocking=True)  # (R, 2); the host waits for no device
    return mean_over_known(logits.float(), of_labels[labels])
