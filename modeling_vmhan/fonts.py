"""Text of any script in a picture, with the fonts that are on the machine: a crossed box is never drawn.

A character is drawn with the first of `FONTS` that has it, a word with one font where one has it all. What none has
becomes "?", and `missing_note` says so. Words stand in the order in which they are read, see `visual_order`.
"""

import functools
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import regex
from PIL import Image, ImageDraw, ImageFont, features
from transformers.utils import logging


__all__ = [
    "LEFT_TO_RIGHT",
    "draw_text",
    "is_right_to_left",
    "missing_note",
    "reading_parts",
    "text_length",
    "visual_order",
]

logger = logging.get_logger(__name__)

# File names that Pillow looks for where the system keeps fonts; "" is its own. {script} is as in the Unicode name.
FONTS = (
    "", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSans{script}-Regular.ttf", "NotoSerif{script}-Regular.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansSymbols-Regular.ttf", "NotoSansSymbols2-Regular.ttf",
    "NotoSansMath-Regular.ttf", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf",  # Linux
    "Arial Unicode.ttf", "PingFang.ttc", "AppleSDGothicNeo.ttc", "Kohinoor.ttc", "Apple Symbols.ttf",  # macOS
    "segoeui.ttf", "msyh.ttc", "YuGothM.ttc", "malgun.ttf", "Nirmala.ttc", "Nirmala.ttf", "LeelawUI.ttf",
    "ebrima.ttf", "seguisym.ttf",  # Windows
)  # fmt: skip
EMOJI_FONTS = ("NotoColorEmoji.ttf", "Apple Color Emoji.ttc", "seguiemj.ttf", "NotoEmoji-Regular.ttf", "Symbola.ttf")
PACKAGES = "fonts-noto-core, fonts-noto-cjk and fonts-noto-color-emoji (as Debian and Ubuntu name them)"
BITMAP_SIZES = (109, 160, 136, 96, 64)  # of fonts that hold pictures in one size only, which are then shrunk
LISTED = 8  # missing characters that the note names

LEFT_TO_RIGHT = "\u200e"  # unseen: what stands beside it is not drawn into a neighbour of the other direction
STAND_IN = "?"
NO_CHARACTER = "\U0010ffff"  # which no font has: it shows what a font draws instead
EMOJI = regex.compile(r"\p{Emoji_Presentation}|\p{Emoji}\uFE0F")
# What has no glyph of its own: controls, joiners, spaces, variation selectors.
INVISIBLE = regex.compile(r"[\p{Cf}\p{Cc}\p{Z}\uFE00-\uFE0F\U000E0100-\U000E01EF]+")


class _Run(NamedTuple):
    text: str
    font: ImageFont.FreeTypeFont
    scale: float  # of a font that has one size only


def draw_text(
    image: Image.Image,
    place: tuple[float, float],
    text: str,
    colour: str | tuple[int, ...],
    size: int,
    *,
    middle: bool = False,
    rtl: bool = False,
) -> None:
    """Write one line into an RGB image, its left end at `place`, whose y is the line's top or (`middle`) its middle.

    rtl says that it is a line, or a part of one, that runs from right to left.
    """
    ascent, descent = _font("", size).getmetrics()
    x, baseline = place[0], place[1] + ((ascent - descent) / 2 if middle else ascent)
    for run, is_left in _line(text, size, rtl):
        _draw_run(image, (x, baseline), run, colour, is_left)
        x += run.font.getlength(run.text) * run.scale


def text_length(text: str, size: int) -> float:
    """The width in pixels of what `draw_text` writes."""
    return sum(run.font.getlength(run.text) * run.scale for run, _ in _line(text, size, False))


def missing_note(texts: Sequence[str]) -> str:
    """Which characters of the texts no font here has and what to install; "" where all are drawn as they should.

    It is also a warning, each note once.
    """
    clusters = dict.fromkeys(cluster for text in texts for cluster in _clusters(text) if _font_of(cluster) is None)
    missing = list(dict.fromkeys(f"U+{ord(one):04X}" for cluster in clusters for one in INVISIBLE.sub("", cluster)))
    notes = []
    if missing:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        named = ", ".join(missing[:LISTED]) + more
        notes.append(
            f"No font here has {named}, drawn as {STAND_IN} or without accents. "
            f"Install fonts that do, such as {PACKAGES}."
        )
    if not features.check("raqm") and regex.search(r"[\p{Arabic}\p{Mc}]", "".join(texts)):
        notes.append("Pillow finds no raqm here, so that letters are not joined. Install libfribidi0 and libraqm0.")
    for note in notes:
        logger.warning_once(note)
    return " ".join(notes)


def reading_parts(text: str) -> list[tuple[int, int]]:
    """Where words, the spaces between them and, where some run from right to left, the signs around them are."""
    signs = r"(?:(?![@#%&*])\p{P})+" if _runs_left(text) else r"(?!)"
    pattern = rf"(?P<part>\s+|(?<!\S){signs}|{signs}(?!\S)|(?:(?!{signs}(?!\S))\S)+)"
    return [match.span() for match in regex.finditer(pattern, text)]


def is_right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction runs from right to left (UAX #9, P2)."""
    return _direction(text) == "R"


def visual_order(parts: Sequence[str], rtl: bool) -> list[tuple[int, bool]]:
    """The indices of a line's parts from left to right, each with whether it is drawn from right to left.

    As in UAX #9, for parts instead of characters: a number goes with the word before it (W7), signs and spaces with
    their neighbours where these agree and else with the line (N1, N2); parts that run against the line, whose own way
    is `rtl`, change places (L2).
    """
    line, ways = "R" if rtl else "L", [_direction(part) for part in parts]
    before = line
    for i, way in enumerate(ways):
        before = way if way in ("L", "R") else before
        ways[i] = before if way == "number" else way
    for i, way in enumerate(ways):
        if not way:
            after = next((way for way in ways[i:] if way), line)
            ways[i] = after if after == (ways[i - 1] if i else line) else line
    order: list[tuple[int, bool]] = []
    for way, group in groupby(range(len(parts)), ways.__getitem__):
        turned = [(i, way == "R") for i in group]
        turned = turned[::-1] if way == "R" else turned
        order = turned + order if line == "R" else order + turned
    return order


def _runs_left(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def _direction(text: str) -> str:
    """ "L" or "R" by the first letter that has a direction, else "number" or, of signs and spaces, ""."""
    kinds = [unicodedata.bidirectional(letter) for letter in text]
    strong = next((kind for kind in kinds if kind in ("L", "R", "AL")), "")
    return {"L": "L", "": "number" if {"EN", "AN"} & set(kinds) else ""}.get(strong, "R")


def _line(text: str, size: int, rtl: bool) -> list[tuple[_Run, bool]]:
    """The runs of a line from left to right, each with whether its letters run to the left."""
    text = regex.sub(r"\s", " ", text)
    if not rtl and not _runs_left(text):
        return [(run, False) for run in _runs(text, size)]
    parts = [text[start:end] for start, end in reading_parts(text)]
    runs = []
    for i, is_left in visual_order(parts, rtl):
        of_part = _runs(parts[i], size)
        runs += [(run, is_left) for run in (of_part[::-1] if is_left else of_part)]
    return runs


@functools.lru_cache(maxsize=4096)
def _runs(text: str, size: int) -> tuple[_Run, ...]:
    """Neighbours of one font together, in the order of the text."""
    named: list[tuple[str, str]] = []  # (cluster, font)
    for word in regex.findall(r"\s+|\S+", text):
        for _, group in groupby(_clusters(word), lambda cluster: bool(EMOJI.search(cluster))):
            part = list(group)
            of_part = _font_of("".join(part))
            for cluster in part:
                name = of_part or _font_of(cluster)
                named.append((cluster, name) if name is not None else (_stand_in(cluster), ""))
    runs = []
    for name, group in groupby(named, lambda pair: pair[1]):
        part, (font, scale) = [cluster for cluster, _ in group], _sized(name, size)
        if font.layout_engine != ImageFont.Layout.RAQM:  # which would do this itself
            part = [INVISIBLE.sub("", cluster) or " " * cluster.isspace() for cluster in part]
            part = part[::-1] if _direction("".join(part)) == "R" else part
        runs.append(_Run("".join(part), font, scale))
    return tuple(runs)


def _stand_in(cluster: str) -> str:
    """The letter without its accents, where Pillow's own font has that."""
    letter = unicodedata.normalize("NFKD", cluster)[0]
    return letter if _has("", letter) else STAND_IN


def _clusters(text: str) -> list[str]:
    """What a reader takes for one character, with its accents; composed where Unicode has a character for it."""
    return regex.findall(r"\X", unicodedata.normalize("NFC", text))


@functools.lru_cache(maxsize=65_536)
def _font_of(text: str) -> str | None:
    """The first font that has all of the text; None where there is none."""
    letters = INVISIBLE.sub("", text)
    beyond = next((letter for letter in letters if ord(letter) > 0x24F), "")  # the first that is not Latin
    script = unicodedata.name(beyond, "").partition(" ")[0].title() if beyond else ""
    names = (*EMOJI_FONTS, *FONTS) if EMOJI.search(text) else (*FONTS, *EMOJI_FONTS)
    for name in names:
        if "{script}" in name and not script:
            continue
        name = name.format(script=script)
        if all(_has(name, letter) for letter in letters):
            return name
    return None


@functools.lru_cache(maxsize=65_536)
def _has(name: str, letter: str) -> bool:
    """Whether a font draws something else for the letter than for one that no font has."""
    sized = None if unicodedata.category(letter) == "Cs" else _sized(name, 20, ImageFont.Layout.BASIC)
    return sized is not None and _drawn(sized[0], letter) != _drawn(sized[0], NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, text: str) -> tuple[tuple[int, int], bytes]:
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGBA", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(image).text((-left, -top), text, "black", font, embedded_color=True)
    return image.size, image.tobytes()


def _sized(name: str, size: int, layout: Any = None) -> tuple[ImageFont.FreeTypeFont, float] | None:
    """A font and the factor that makes it as large as wanted; None where it is not on the machine."""
    for has_size in (size, *(BITMAP_SIZES if name in EMOJI_FONTS else ())):
        if (font := _font(name, has_size, layout)) is not None:
            return font, size / has_size
    return None


@functools.lru_cache(maxsize=1024)
def _font(name: str, size: int, layout: Any = None) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size, layout_engine=layout) if name else ImageFont.load_default(size)
    except OSError:  # not there, or not in this size
        return None


def _draw_run(
    image: Image.Image, place: tuple[float, float], run: _Run, colour: str | tuple[int, ...], rtl: bool
) -> None:
    """Write a run with the left end of its base line at `place`."""
    options = {"anchor": "ls", "embedded_color": True}
    if run.font.layout_engine == ImageFont.Layout.RAQM:
        options["direction"] = "rtl" if rtl else "ltr"
    if run.scale == 1:
        ImageDraw.Draw(image).text(place, run.text, colour, run.font, **options)
        return
    left, top, right, bottom = run.font.getbbox(run.text, anchor="ls")
    large = Image.new("RGBA", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(large).text((-left, -top), run.text, "black", run.font, **options)
    small = large.resize([max(1, round(side * run.scale)) for side in large.size], Image.Resampling.LANCZOS)
    image.paste(small, (round(place[0] + left * run.scale), round(place[1] + top * run.scale)), small)
