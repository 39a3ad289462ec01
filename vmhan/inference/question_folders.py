"""A folder of raw posts as questions: NAME.txt is a text, in UTF-8, and NAME.jpg, .png or .webp beside it its image.

Rows are the names, in alphabetical order. An image without a text, and two images of one name, are errors of their
row. Other files and folders in it are left alone.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from model_cards.files import sha256_of


__all__ = ["folder_digest", "folder_rows"]

TEXT = ".txt"
IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def folder_rows(folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield for each row of the folder what gives the question, with the file's name as id, or a ValueError."""
    for name, files in _files_by_name(folder).items():
        yield partial(_question, folder, name, files)


def folder_digest(folder: Path) -> str:
    """The SHA-256 of what the questions are: the names of all files that count, and the contents of the texts."""
    digest = hashlib.sha256()
    for files in _files_by_name(folder).values():
        for file in files:
            content = sha256_of(folder / file) if _suffix(file) == TEXT else ""
            digest.update(f"{file}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _suffix(file: str) -> str:
    return Path(file).suffix.lower()


def _files_by_name(folder: Path) -> dict[str, list[str]]:
    """{name without suffix: its files}, both in alphabetical order."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.stem, path.suffix)):
        if _suffix(path.name) in (TEXT, *IMAGES) and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.stem, []).append(path.name)
    return found


def _question(folder: Path, name: str, files: list[str]) -> dict[str, Any]:
    texts, images = ([file for file in files if (_suffix(file) == TEXT) == is_text] for is_text in (True, False))
    if not texts:
        raise ValueError(f"{folder.name}: expected the text of {images[0]} in {name}{TEXT}, which is not there.")
    if len(texts) > 1 or len(images) > 1:
        several = texts if len(texts) > 1 else images
        raise ValueError(f"{folder.name}: expected one text and one image of a name, received {several}.")
    try:
        text = (folder / texts[0]).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        received = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"{folder.name}/{texts[0]}: expected text in UTF-8, received {received}.") from None
    except OSError as error:
        raise ValueError(f"{folder.name}/{texts[0]}: expected a file that can be read ({error.strerror}).") from None
    if not text.strip():
        raise ValueError(f"{folder.name}/{texts[0]}: expected a text, received an empty file.")
    return {"id": name, "text": text} | ({"image": images[0]} if images else {})
