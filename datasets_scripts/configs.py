"""Files of settings: where those that come with the package are, and how one becomes flags. Imports nothing heavy."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datasets_scripts.commands import nearest


__all__ = ["CONFIGS", "find_config", "flags_of", "read_entries", "with_config"]

_ROOT = Path(__file__).resolve().parents[1]
_INSTALLED = _ROOT / "vmhan" / "configs"  # in a wheel; in a checkout they are beside the packages
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else _ROOT / "configs"


def find_config(name: str | Path, kind: str = "") -> Path:
    """The YAML file `name`: a path, or the name of one that comes with the package, such as `demo`, in the folder
    `kind` of `CONFIGS`, such as "sweeps" ("" is that of training). ValueError, with the names that there are, if there
    is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {file.stem: file for file in sorted((CONFIGS / kind).glob("*.yaml"))}
    place = Path(*path.parts[:-1]) in (Path(), Path("configs") / kind)
    if place and path.suffix in ("", ".yaml") and path.stem in known:
        return known[path.stem]
    raise ValueError(
        f"There is no configuration {str(name)!r}: expected a YAML file or one of {list(known)}"
        f"{nearest(path.stem, known)}"
    )


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


def with_config(argv: Sequence[str], kind: str = "") -> list[str]:
    """The words of a command line that may begin with a configuration, `find_config`'s: its entries as flags come
    first, so that a flag of the command line wins.
    """
    if not argv or argv[0].startswith("-"):
        return list(argv)
    return [*flags_of(read_entries(find_config(argv[0], kind))), *argv[1:]]
