"""The none label, which says that two entities stand in no relation, is found by its name and never by its id."""

from collections.abc import Iterable


__all__ = ["NONE_LABELS", "find_none_label"]

NONE_LABELS = ("None", "none", "NA", "no_relation", "Other")


def find_none_label(labels: Iterable[str], none_label: str | None = None) -> str:
    """The label of `labels` that means "no relation": `none_label`, or the one that is in `NONE_LABELS`.

    Raises:
        ValueError: `none_label` is not among the labels; without it, none or several of `NONE_LABELS` are.
    """
    labels = list(labels)
    if none_label is not None:
        if none_label in labels:
            return none_label
        raise ValueError(f"none_label must be one of the labels {labels}, received {none_label!r}.")
    found = [label for label in labels if label in NONE_LABELS]
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"The labels must have exactly one of {list(NONE_LABELS)} as none label, received {labels}, of which {found} "
        "fit. A label set without a none label cannot be scored; pass none_label=NAME if it has another name."
    )
