"""Where the configurations and sweeps are: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

from datasets_scripts.commands import nearest


__all__ = ["CONFIGS", "find_config"]

_INSTALLED = Path(__file__).with_name("configs")
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[1] / "configs"


def find_config(name: str | Path, kind: str = "") -> Path:
    """The YAML file `name`: a path, or the name of a file that comes with the package, such as `demo` or `table2`.

    Args:
        kind: folder of `CONFIGS` that names are looked for in, such as "sweeps"; "" is that of training.

    Raises:
        ValueError: there is no such file; the message has the names that there are.
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
