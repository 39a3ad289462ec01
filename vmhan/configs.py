"""What settings of older runs are called today, and when two values are the same. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any


__all__ = ["current_settings", "normal"]

_MODEL_KWARGS = ("word_vectors", "pyramid", "pyramid_size_px")


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run as flags are called today: before --visual and --model_kwargs others did their work.

    Example:
        >>> current_settings({"num_train": 5, "no_visual": True, "images": False})
        {'num_train': 5, 'visual': 'none'}
    """
    found = dict(settings)
    older = {name: str(found.pop(name, None)).lower() for name in ("images", "vision_in_model", "no_visual")}
    for name, visual in (("vision_in_model", "pixels"), ("no_visual", "none")):
        if older[name] == "true":
            found["visual"] = visual
    kwargs = {name: found.pop(name) for name in _MODEL_KWARGS if name in found}
    return found | ({"model_kwargs": kwargs} if kwargs else {})


def normal(value: Any) -> Any:
    """A value of a flag in the one form that all ways of writing it have, so that equal ones mean the same.

    Example:
        >>> normal("1e-4") == normal(0.0001), normal(True) == normal("true"), normal("gcn") == normal("gat")
        (True, True, False)
    """
    if isinstance(value, (list, tuple)):
        return [normal(item) for item in value]
    text = str(value)
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        return float(text)
    except ValueError:
        return text
