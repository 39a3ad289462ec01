"""What chose the objects and phrases of a data set, so that a model trained on it can choose alike: its recipe.

It is a line of `DatasetInfo.description`, as the marks of `leaks` are, and survives as they do. The keys, those of
`modeling_vmhan.recipe`, are there where something was used.
"""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import datasets

from datasets_scripts.leaks import info_of
from model_cards.secrets import without_secrets


__all__ = ["mark_recipe", "recipe_of", "recorded_name", "recorded_selector"]

MARK = "recipe: "


def mark_recipe(info: datasets.DatasetInfo, **used: Any) -> None:
    """Say in `info.description` what was used, beside what it says already; None was not."""
    lines = [line for line in (info.description or "").splitlines() if not line.startswith(MARK)]
    recipe = {**(recipe_of(info) or {}), **{name: value for name, value in used.items() if value is not None}}
    info.description = "\n".join([*lines, MARK + json.dumps(recipe)] if recipe else lines)


def recipe_of(source: Any) -> dict[str, Any] | None:
    """The recipe of a data set, of the first of several splits that has one, or of an info; None without one."""
    if isinstance(source, Mapping):
        return next(filter(None, map(recipe_of, source.values())), None)
    lines = (info_of(source).description or "").splitlines()
    found = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    return json.loads(found[0]) if found else None


def recorded_name(spec: str) -> str:
    """A detector's "ADAPTER:MODEL?options", or one of a selector's models, without secrets and folders of this
    machine.
    """
    kind, colon, model = without_secrets(spec).partition(":")
    return kind + colon + (PurePath(model).name if PurePath(model).is_absolute() else model)


def recorded_selector(spec: str) -> str:
    """How a recipe calls a selector: "heuristic" and "spacy:PIPELINE" as they are, models as "llm:TEXT_MODEL,VLM"."""
    kind, _, models = spec.partition(":")
    if kind in ("heuristic", "spacy"):
        return recorded_name(spec)
    names = (name.partition("@http")[0] for name in models.split(","))
    return "llm:" + ",".join(recorded_name(f":{name}")[1:] for name in names)
