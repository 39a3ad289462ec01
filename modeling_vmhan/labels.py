"""What numbers, choices and labels must be; the none label is found by its name and never by its id."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from .values import shown


__all__ = ["NONE_LABELS", "check_choice", "check_number", "find_none_label"]

NONE_LABELS = ("None", "none", "NA", "no_relation", "Other")


def find_none_label(labels: Iterable[str], none_label: str | None = None) -> str:
    """The label of `labels` that means "no relation": `none_label`, or the one of them that is in `NONE_LABELS`."""
    labels = list(labels)
    if none_label is not None and none_label not in labels:
        raise ValueError(f"none_label must be one of the labels {labels}, received {none_label!r}.")
    found = [label for label in labels if (label in NONE_LABELS if none_label is None else label == none_label)]
    if len(found) == 1:
        return found[0]
    rule = f"The labels must have exactly one of {list(NONE_LABELS)} as none label, or pass none_label=NAME"
    raise ValueError(f"{rule}, received {labels}, of which {found} fit.")


def check_choice(name: str, value: Any, choices: tuple) -> None:
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {list(choices)}, received {shown(value)}.")


def check_number(
    name: str, value: Any, *, low: float, whole: bool = False, below: float = math.inf, low_allowed: bool = True
) -> int | float:
    """`value` as a number of Python, which JSON can hold: numpy's are accepted too."""
    is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not is_number or not (value >= low if low_allowed else value > low) or not value < below:
        rule = f"{'a whole' if whole else 'a'} number {'>=' if low_allowed else '>'} {low}"
        rule += f" and < {below}" if below < math.inf else ""
        raise ValueError(f"{name} must be {rule}, received {shown(value)}.")
    return int(value) if isinstance(value, Integral) else float(value)
