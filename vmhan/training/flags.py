"""Flags of `vmhan train` as a mapping and back: a YAML file's entries, `--name value` words. Imports nothing heavy."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


__all__ = ["flags_of", "normal", "read_entries", "to_entries"]


def read_entries(path: str | Path) -> dict[str, Any]:
    """The `name: value` entries of a YAML file; ValueError if it holds no mapping."""
    entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(entries, dict):
        raise ValueError(f"{path} must hold 'name: value' lines, received {type(entries).__name__}.")
    return entries


def flags_of(entries: Mapping[str, Any]) -> list[str]:
    """`{"learning_rate": 0.1}` -> `["--learning_rate", "0.1"]`; a field left at None is no flag, a mapping is JSON.

    Example:
        >>> flags_of({"seed": 1, "label_names": ["a", "b"]})
        ['--seed', '1', '--label_names', 'a', 'b']
    """
    words: list[str] = []
    for name, value in entries.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    return words


def to_entries(words: Sequence[str]) -> dict[str, Any]:
    """The inverse of `flags_of`; a flag without value is True, one with several a list, and the last one wins.

    ValueError if a value stands before the first flag.

    Example:
        >>> to_entries(["--seed", "1", "--streaming", "--preset=gcn"])
        {'seed': '1', 'streaming': True, 'preset': 'gcn'}
    """
    entries: dict[str, Any] = {}
    name = None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            entries[name] = [value] if equals else []
        elif name is None:
            raise ValueError(f"expected flags of vmhan train (--name value), received {word!r} before any --name.")
        else:
            entries[name].append(word)
    one_or_all = {1: lambda values: values[0], 0: lambda values: True}
    return {name: one_or_all.get(len(values), list)(values) for name, values in entries.items()}


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
