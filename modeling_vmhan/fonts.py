"""Text of any script in a picture, with the fonts that are on the machine: a crossed box is never drawn.

A word is drawn with the first of `FONTS` that has all of it, or each of its characters with the first that has that.
What none has becomes "?", and `missing_note` says so.
"""

import functools
import logging
import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import regex
from PIL import Image, ImageDraw, ImageFont, features

from .once import warn_once


__all__ = ["LEFT_TO_RIGHT", "draw_text", "is_right_to_left", "missing_note", "text_length", "visual_order"]

logger = logging.getLogger(__name__)

# File names that Pillow looks for where the system keeps fonts; "" is its own. {script} is as in the Unicode name.
FONTS = (
    "", "NotoColorEmoji.ttf", "Apple Color Emoji.ttc", "seguiemj.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf",
    "NotoSans{script}-Regular.ttf", "NotoSans{script}[wght].ttf", "NotoSerif{script}-Regular.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansCJK-VF.ttc",
    "NotoSansSymbols2-Regular.ttf", "NotoSansMath-Regular.ttf", "wqy-microhei.ttc",
    "Arial Unicode.ttf", "PingFang.ttc", "segoeui.ttf", "msyh.ttc", "malgun.ttf", "Nirmala.ttc", "Nirmala.ttf",
)  # fmt: skip
PACKAGES = "fonts-noto-core, fonts-noto-cjk and fonts-noto-color-emoji (as Debian and Ubuntu name them)"
BITMAP_SIZES = (109, 160)  # of Noto's and Apple's emoji, which are pictures of one size, and are then shrunk
LISTED = 8  # missing characters that the note names

LEFT_TO_RIGHT = "\u200e"  # unseen: what stands beside it is not drawn into a neighbour of the other direction
STAND_IN = "?"
PICTURE = regex.compile(r"[\p{Emoji_Presentation}\uFE0F]")
NO_CHARACTER = "\U0010ffff"  # which no font has: it shows what a font draws instead
# What has no glyph of its own: controls, joiners, spaces, variation selectors.
INVISIBLE = regex.compile(r"[\p{Cf}\p{Cc}\p{Z}\uFE00-\uFE0F\U000E0100-\U000E01EF]+")


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

    rtl says that it is of a line that runs from right to left.
    """
    ascent, descent = _font("", size)[0].getmetrics()
    x, baseline = place[0], place[1] + ((ascent - descent) / 2 if middle else ascent)
    turned = rtl and is_right_to_left(text) is not False
    for run, font, scale in _runs(text, size)[:: -1 if turned else 1]:
        options = {"anchor": "ls", "embedded_color": True}
        if font.layout_engine == ImageFont.Layout.RAQM:
            options["direction"] = "rtl" if rtl else "ltr"
        if scale == 1:
            ImageDraw.Draw(image).text((x, baseline), run, colour, font, **options)
        else:
            left, top, right, bottom = font.getbbox(run, anchor="ls")
            large = Image.new("RGBA", (max(1, int(right - left)), max(1, int(bottom - top))))
            ImageDraw.Draw(large).text((-left, -top), run, "black", font, **options)
            small = large.resize([max(1, round(side * scale)) for side in large.size], Image.Resampling.LANCZOS)
            image.paste(small, (round(x + left * scale), round(baseline + top * scale)), small)
        x += font.getlength(run) * scale


def text_length(text: str, size: int) -> float:
    """The width in pixels of what `draw_text` writes."""
    return sum(font.getlength(run) * scale for run, font, scale in _runs(text, size))


def missing_note(texts: Sequence[str]) -> str:
    """Which characters of the texts no font here has and what to install; "" where all are drawn as they should.

    It is also a warning, each note once.
    """
    clusters = dict.fromkeys(cluster for text in texts for cluster in _clusters(text) if _font_of(cluster) is None)
    missing = list(dict.fromkeys(f"U+{ord(one):04X}" for cluster in clusters for one in INVISIBLE.sub("", cluster)))
    notes = []
    if missing:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        drawn = f"No font here has {', '.join(missing[:LISTED])}{more}, drawn as {STAND_IN} or without accents."
        notes.append(f"{drawn} Install fonts that do, such as {PACKAGES}.")
    if not features.check("raqm") and regex.search(r"[\p{Arabic}\p{Mc}]", "".join(texts)):
        notes.append("Pillow finds no raqm here, so that letters are not joined. Install libfribidi0 and libraqm0.")
    for note in notes:
        warn_once(logger, note)
    return " ".join(notes)


def is_right_to_left(text: str) -> bool | None:
    """Whether the first letter that has a direction runs from right to left; None where none has one."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    return next((kind != "L" for kind in kinds if kind in ("L", "R", "AL")), None)


def visual_order(words: Sequence[str], rtl: bool) -> list[int]:
    """The indices of a line's words and spaces from left to right; `rtl` says how the line runs.

    As in UAX #9, for words instead of characters: a number goes with the word before it, signs and spaces with their
    neighbours where these agree and else with the line, and words that run against the line change places.
    """
    before, ways = rtl, []
    for word in words:
        way = is_right_to_left(word)
        ways.append(before if way is None and any(map(str.isdigit, word)) else way)
        before = before if way is None else way
    for i, way in enumerate(ways):
        if way is None:
            after = next((way for way in ways[i:] if way is not None), rtl)
            ways[i] = after if after == (ways[i - 1] if i else rtl) else rtl
    groups = [list(group) for _, group in groupby(range(len(words)), ways.__getitem__)]
    turned = [group[::-1] if ways[group[0]] else group for group in groups]
    return sum(turned[:: -1 if rtl else 1], [])


def _runs(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont, float]]:
    """Neighbours that one font draws together, with it and by how much it is enlarged; in the order of the text."""
    named: list[tuple[str, str]] = []  # (cluster, font)
    for word in regex.findall(r"\s+|\S+", text):
        of_word = _font_of(unicodedata.normalize("NFC", word))
        if named and word.isspace():  # goes on in the font before it, but for emoji, whose spaces are very wide
            of_word = "" if PICTURE.search(named[-1][0]) else named[-1][1]
        for cluster in _clusters(word):
            name = _font_of(cluster) if of_word is None else of_word
            named.append((_stand_in(cluster), "") if name is None else (cluster, name))
    runs = []
    for name, group in groupby(named, lambda pair: pair[1]):
        part, (font, scale) = [cluster for cluster, _ in group], _font(name, size)
        if font.layout_engine != ImageFont.Layout.RAQM:  # which would do this itself
            part = [INVISIBLE.sub("", cluster) or " " * cluster.isspace() for cluster in part]
            part = part[::-1] if is_right_to_left("".join(part)) else part
        runs.append(("".join(part), font, scale))
    return runs


def _stand_in(cluster: str) -> str:
    """The letter without its accents, where Pillow's own font has that."""
    letter = unicodedata.normalize("NFKD", cluster)[0]
    return letter if _has("", letter) else STAND_IN


def _clusters(text: str) -> list[str]:
    """What a reader takes for one character, with its accents; composed where Unicode has a character for it."""
    return regex.findall(r"\X", unicodedata.normalize("NFC", regex.sub(r"\s", " ", text)))


def _font_of(text: str) -> str | None:
    """The first font that has all of the text; None where there is none."""
    letters = INVISIBLE.sub("", text)
    script = unicodedata.name(max(letters or " "), "").partition(" ")[0].title()
    names = (name.format(script=script) for name in FONTS)
    return next((name for name in names if all(_has(name, letter) for letter in letters)), None)


@functools.lru_cache(maxsize=65_536)
def _has(name: str, letter: str) -> bool:
    """Whether a font draws something else for the letter than for one that no font has."""
    found = None if unicodedata.category(letter) == "Cs" else _font(name, 20, ImageFont.Layout.BASIC)
    return found is not None and _drawn(found[0], letter) != _drawn(found[0], NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, text: str) -> tuple[tuple[int, int], bytes]:
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGBA", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(image).text((-left, -top), text, "black", font, embedded_color=True)
    return image.size, image.tobytes()


@functools.lru_cache(maxsize=1024)
def _font(name: str, size: int, layout: Any = None) -> tuple[ImageFont.FreeTypeFont, float] | None:
    """A font and the factor that makes it as large as wanted; None where it is not on the machine."""
    if not name:
        return ImageFont.load_default(size), 1
    for has_size in (size, *BITMAP_SIZES):
        try:
            return ImageFont.truetype(name, has_size, layout_engine=layout), size / has_size
        except OSError:  # not there, or not in this size
            continue
    return None
