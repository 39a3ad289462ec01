"""Where the configurations and sweeps are, and what settings of older runs are called today. Imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets_scripts.commands import nearest


__all__ = ["CONFIGS", "current_settings", "find_config"]

_INSTALLED = Path(__file__).with_name("configs")  # in a wheel; in a checkout they are beside the package
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[1] / "configs"
_MODEL_KWARGS = ("word_vectors", "pyramid", "pyramid_size_px")


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
