"""Names that people and files give, where they become parts of paths: none leads out of the folder that it is for."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any


__all__ = ["check_name", "inner_file", "is_inner"]

NAME = re.compile(r"\w[\w.-]*")
LONGEST = 100  # bytes: a file's name has at most 255, and other words stand beside the name in it


def check_name(argument: str, name: Any) -> None:
    """ValueError unless `name`, the value of `argument`, can be the name of a folder or a part of a file's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name.encode()) > LONGEST:
        raise ValueError(
            f"{argument}: expected a name of letters, digits, '.', '_' and '-', with neither '.' nor '-' first, of "
            f"at most {LONGEST} bytes, received {name!r}"
        )


def is_inner(name: str) -> bool:
    """Whether a path is relative, and stays in its folder by what is written."""
    return not PurePosixPath(name).is_absolute() and ".." not in re.split(r"[/\\]", name) and "\0" not in name


def inner_file(argument: str, name: str, places: Sequence[Path], *, inside: Path) -> Path | None:
    """The file that a row calls `name`, in the first of `places` that has it; None if none has.

    `places` are `inside` or folders below it. These may be links, to a larger disk for instance, as they are the
    user's; what a row names may be none that leaves them. ValueError, which begins with `argument`, if it does.
    """
    if not is_inner(name):
        raise ValueError(f"{argument}: expected a path inside the data folder {inside}, received {name!r}")
    found = next((place / name for place in places if os.path.isfile(place / name)), None)
    if found is None:
        return None
    layout = {folder for place in places for folder in (place, *place.parents) if folder.is_relative_to(inside)}
    target = Path(os.path.realpath(found))
    if not any(target.is_relative_to(os.path.realpath(folder)) for folder in layout | {inside}):
        raise ValueError(
            f"{argument}: expected a file inside the data folder {inside}, received {found}, a link that leads to "
            f"{target}. Put a copy of the file there (cp -L)"
        )
    return found
