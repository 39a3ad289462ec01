"""Fonts of matplotlib's figures for names in any script: a figure has these families, as far as they are there."""

import contextlib
from collections.abc import Iterator


__all__ = ["FAMILIES", "figure_fonts"]

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

    known = set(fontManager.get_font_names())
    with matplotlib.rc_context({"font.family": [family for family in FAMILIES if family in known]}):
        yield
