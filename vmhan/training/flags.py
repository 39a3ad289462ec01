"""Flags of `vmhan train`, `--name value` words, as a mapping. Imports nothing heavy."""

from collections.abc import Sequence
from typing import Any


__all__ = ["split_at_dashes", "to_entries"]


def split_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first "--", which are a command's own, and those behind it, flags of run_mmre.py."""
    argv = list(argv)
    return (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])


def to_entries(words: Sequence[str]) -> dict[str, Any]:
    """The inverse of `datasets_scripts.configs.flags_of`; a flag without value is True, one with several a list, and
    the last one wins.

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
