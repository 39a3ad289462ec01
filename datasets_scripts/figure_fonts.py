"""Fonts of matplotlib's figures for names in any script: a figure has these families, as far as they are there.

What none of them has becomes "?", and a warning names it: matplotlib would draw an empty box.
"""

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterator


__all__ = ["FAMILIES", "figure_fonts"]

logger = logging.getLogger(__name__)

FAMILIES = (
    "DejaVu Sans", "Noto Sans", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Bengali",
    "Noto Sans Thai", "WenQuanYi Micro Hei", "Arial Unicode MS", "PingFang SC", "Apple SD Gothic Neo",
    "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Leelawadee UI",
)  # fmt: skip


@contextlib.contextmanager
def figure_fonts() -> Iterator[None]:
    """While a figure is drawn; also a decorator. The first family that has a character draws it."""
    import matplotlib
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    known = set(fontManager.get_font_names())
    families = tuple(family for family in FAMILIES if family in known)
    set_text = Text.set_text
    with matplotlib.rc_context({"font.family": list(families)}):
        Text.set_text = lambda self, text: set_text(self, _drawable(text, families))
        try:
            yield
        finally:
            Text.set_text = set_text


def _drawable(text: object, families: tuple[str, ...]) -> object:
    """The text without what no family has; what is no string, such as a number, as it is."""
    if not isinstance(text, str) or text.isascii():
        return text
    missing = [letter for letter in dict.fromkeys(text) if not (letter.isspace() or _has(families, letter))]
    if missing:
        _warn(", ".join(f"U+{ord(letter):04X}" for letter in missing))
    return text.translate({ord(letter): "?" for letter in missing})


@functools.lru_cache
def _warn(names: str) -> None:
    """Once for each text."""
    from modeling_vmhan.fonts import PACKAGES  # which imports torch: late

    logger.warning("no font of figures has %s, drawn as ?. Install some, such as %s.", names, PACKAGES)


@functools.lru_cache(maxsize=65_536)
def _has(families: tuple[str, ...], letter: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    is_unseen = unicodedata.category(letter) in ("Cc", "Cf") or "\ufe00" <= letter <= "\ufe0f"
    return is_unseen or any(get_font(findfont(family)).get_char_index(ord(letter)) for family in families)
