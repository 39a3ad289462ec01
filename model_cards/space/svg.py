"""Pictures that the browser draws, with the fonts of its reader: the facts as a graph, the image with its boxes."""

import html
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from PIL import Image
from rendering import image_url


__all__ = ["boxed_image", "fact_graph"]

SIZE, CHIP, PADDING = 16, 32, 10  # of letters, height of a chip, room beside its words
STEP = 150  # between neighbours on the circle, at least
LONGEST = 28  # characters of a name
WIDTH, SIDE = 760, 480  # of the graph, at least; the longer side of the image, in the page's pixels
BOX = "#464646"
ALONG = (0.4, 0.5, 0.3, 0.6, 0.25, 0.7)  # parts of the way from head to tail where a fact's words may stand

Point = tuple[float, float]


def fact_graph(facts: Sequence[dict[str, Any]], colours: dict[str | None, str]) -> str:
    """An SVG: a chip for each mention on an ellipse, and an arrow with the relation for each fact; "" without facts.

    Mentions of one name are one chip. Arrows between the same two bend away from each other.
    """
    nodes: dict[str, tuple[str, str | None]] = {}  # name without case -> name and type
    for fact in facts:
        for role in ("head", "tail"):
            name = str(fact[role])
            nodes.setdefault(name.casefold(), (name, fact.get(f"{role}_type")))
    if not nodes:
        return ""
    widths = {key: _width(_short(name)) + 2 * PADDING for key, (name, _) in nodes.items()}
    places, (width, height) = _on_ellipse(list(nodes), widths)
    drawn, bends, taken = [], {}, []
    for fact in facts:
        ends = [str(fact[role]).casefold() for role in ("head", "tail")]
        count = bends[frozenset(ends)] = bends.get(frozenset(ends), -1) + 1
        line, middles = _arrow(places[ends[0]], places[ends[1]], widths[ends[1]], count)
        drawn.append((line, _words(_short(_last(fact["relation"])), middles, taken)))
    chips = "".join(
        f"<rect x='{x - widths[key] / 2:.1f}' y='{y - CHIP / 2:.1f}' width='{widths[key]:.1f}' height='{CHIP}' rx='8' "
        f"fill='{colours.get(type_, '#dddddd')}'/><text class='node' x='{x:.1f}' y='{y:.1f}' fill='#222' "
        f"dominant-baseline='central'>{html.escape(_short(name))}</text>"
        for key, (x, y) in places.items()
        for name, type_ in [nodes[key]]
    )
    lines, words = ("".join(part) for part in zip(*drawn))
    title = f"{len(nodes)} mentions, {len(facts)} facts"
    return (
        f"<svg viewBox='0 0 {width:.0f} {height:.0f}' style='max-width: {width:.0f}px' role='img' "
        f"aria-label='{title}' "
        f"font-size='{SIZE}' text-anchor='middle' fill='currentColor'>"
        "<defs><marker id='arrow' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' "
        "orient='auto'><path d='M0 0 L10 5 L0 10 z' fill='#888'/></marker></defs>"
        f"{lines}{words}{chips}</svg>"
    )


def _on_ellipse(keys: list[str], widths: dict[str, float]) -> tuple[dict[str, Point], Point]:
    """The middle of each chip, and the size of the picture."""
    widest, count = max(widths.values()), len(keys)
    tall = 0 if count < 3 else max(110, STEP * count / 5)
    wide = max(WIDTH / 2 - widest / 2 - 4, tall * 1.4)
    middle = (wide + widest / 2 + 4, tall + 60)
    places = {}
    for i, key in enumerate(keys):
        angle = math.pi + 2 * math.pi * i / count
        places[key] = (middle[0] + wide * math.cos(angle), middle[1] + tall * math.sin(angle))
    return places, (2 * middle[0], 2 * middle[1])


def _arrow(start: Point, end: Point, end_width: float, count: int) -> tuple[str, list[Point]]:
    """The line of the `count`th fact between two mentions, and where its words may stand."""
    across, down = end[0] - start[0], end[1] - start[1]
    length = math.hypot(across, down) or 1.0
    bend = (count + 1) // 2 * (1 if count % 2 else -1) * 70 if count else 0
    bend = bend if start < end else -bend  # to the same side, whichever is the head
    turn = ((start[0] + end[0]) / 2 - down / length * bend, (start[1] + end[1]) / 2 + across / length * bend)
    back = (turn[0] - end[0], turn[1] - end[1])
    share = min((end_width / 2 + 3) / max(abs(back[0]), 1e-6), (CHIP / 2 + 3) / max(abs(back[1]), 1e-6), 1)
    tip = (end[0] + back[0] * share, end[1] + back[1] * share)
    middles = []
    for t in ALONG:  # of a quadratic curve
        shares = ((1 - t) ** 2, 2 * (1 - t) * t, t**2)
        x, y = (sum(share * point[i] for share, point in zip(shares, (start, turn, end))) for i in range(2))
        middles.append((x, y))
    line = (
        f"<path d='M{start[0]:.1f} {start[1]:.1f} Q{turn[0]:.1f} {turn[1]:.1f} {tip[0]:.1f} {tip[1]:.1f}' fill='none' "
        "stroke='#888' stroke-width='2' marker-end='url(#arrow)'/>"
    )
    return line, middles


def _words(words: str, middles: list[Point], taken: list[tuple[float, float, float]]) -> str:
    """The words of a fact, at the first of the places where they hide none of `taken`, to which it is added."""
    width = _width(words)

    def is_free(x: float, y: float) -> bool:
        return all(abs(x - left) > (width + wide) / 2 or abs(y - top) > 1.3 * SIZE for left, top, wide in taken)

    x, y = next((middle for middle in middles if is_free(*middle)), middles[0])
    taken.append((x, y, width))
    halo = "stroke='var(--background-fill-primary, white)' stroke-width='6' paint-order='stroke'"
    return f"<text class='fact' x='{x:.1f}' y='{y - 4:.1f}' {halo}>{html.escape(words)}</text>"


def boxed_image(image: Image.Image, boxes: Sequence[tuple[Sequence[float], str]]) -> str:
    """The image with its boxes, (x1, y1, x2, y2) in its pixels and a name each, as a figure."""
    width, height = image.size
    small = image.convert("RGB")
    small.thumbnail((2 * SIDE, 2 * SIDE))  # sharp on fine screens too
    scale = max(width, height) / SIDE  # pixels of the image in a pixel of the page
    drawn = []
    for (x1, y1, x2, y2), name in boxes:
        place = f"x='{x1:.1f}' y='{y1:.1f}' width='{max(x2 - x1, 0):.1f}' height='{max(y2 - y1, 0):.1f}'"
        below = max(y1, SIZE * scale)
        drawn += [
            f"<rect {place} fill='none' stroke='white' stroke-width='{5 * scale:.2f}'/>",
            f"<rect {place} fill='none' stroke='{BOX}' stroke-width='{3 * scale:.2f}'/>",
            f"<text x='{x1 + 4 * scale:.1f}' y='{below - 5 * scale:.1f}' fill='{BOX}' stroke='white' "
            f"font-weight='600' stroke-width='{4 * scale:.2f}' paint-order='stroke' font-size='{SIZE * scale:.1f}'>"
            f"{html.escape(_short(name))}</text>",
        ]
    caption = "The image with its objects" if boxes else "The image; no objects of it were given or found"
    return (
        f"<figure><figcaption>{caption}</figcaption><svg class='boxes' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{caption}' style='max-width: {width / scale:.0f}px'>"
        f"<image href='{image_url(small, 'JPEG')}' width='{width}' height='{height}'/>{''.join(drawn)}</svg></figure>"
    )


def _last(relation: str) -> str:
    """What is said of a relation in the graph: of `/per/per/couple` the last part."""
    return relation.rstrip("/").rsplit("/", 1)[-1]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _width(text: str) -> float:
    """At most so wide a browser draws it, whatever its font: the reader's fonts are not known here."""
    return sum(_width_of(letter) for letter in text)


def _width_of(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if letter in "MWmw@%" or unicodedata.east_asian_width(letter) in "WF":
        return SIZE
    if letter.isupper() or not (letter.isascii() or "LATIN" in unicodedata.name(letter, "")):
        return 0.8 * SIZE
    return 0.64 * SIZE
