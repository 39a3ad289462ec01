"""Detections drawn on their image, and many such images on one sheet, to be looked at."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from datasets_scripts.detection.detectors import Detection


__all__ = ["SheetEntry", "contact_sheet", "draw_detections"]

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart; the text on each is black or white.
COLOURS = {
    "#E69F00": "black",
    "#56B4E9": "black",
    "#009E73": "white",
    "#F0E442": "black",
    "#0072B2": "white",
    "#D55E00": "white",
    "#CC79A7": "black",
}
GREY = "#9A9A9A"
MARGIN = 8


class SheetEntry(NamedTuple):
    """One image of a contact sheet; a plain tuple (image, detections) or longer does as well."""

    image: Image.Image
    detections: Sequence[Detection]
    chosen: Sequence[int] | None = None
    title: str = ""


def draw_detections(
    image: Image.Image,
    detections: Sequence[Detection],
    chosen: Sequence[int] | None = None,
    *,
    side: int | None = None,
) -> Image.Image:
    """A copy of `image` with a box, its number, label and score for each detection.

    Args:
        image: any mode; the copy is RGB.
        detections: boxes in pixels of `image`.
        chosen: indices of the detections that were kept, best first: they are drawn in colour and numbered from 1 in
            this order, the others thin and grey. None draws all in colour, in the order given.
        side: the copy's longer side in pixels; None keeps the size. Lines and text have the same width at any size.

    Raises:
        ValueError: `chosen` has an index of no detection; `side` is below 1.
    """
    if side is not None and side < 1:
        raise ValueError(f"side: expected at least 1 pixel, received {side}")
    order = list(range(len(detections))) if chosen is None else list(chosen)
    wrong = [index for index in order if not 0 <= index < len(detections)]
    if wrong:
        raise ValueError(
            f"chosen: expected indices below {len(detections)}, the number of detections, received {wrong}"
        )
    scale = 1.0 if side is None else side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(canvas)
    for index in sorted(set(range(len(detections))) - set(order)):
        draw.rectangle(_on_canvas(detections[index].box, scale, size), outline=GREY)
    colours = list(COLOURS)
    placed: list[tuple[float, ...]] = []
    for rank in reversed(range(len(order))):  # the best on top
        draw.rectangle(
            _on_canvas(detections[order[rank]].box, scale, size), outline=colours[rank % len(colours)], width=3
        )
    for rank, index in enumerate(order):
        box = _on_canvas(detections[index].box, scale, size)
        _draw_label(draw, detections[index], box, number=rank + 1, colour=colours[rank % len(colours)], placed=placed)
    return canvas


def _on_canvas(box: Sequence[float], scale: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The border's pixels of a box, inside the canvas."""
    x1, y1, x2, y2 = (value * scale for value in box)
    left, top = min(x1, size[0] - 1), min(y1, size[1] - 1)
    return left, top, max(left, min(x2, size[0]) - 1), max(top, min(y2, size[1]) - 1)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    detection: Detection,
    box: tuple[float, ...],
    *,
    number: int,
    colour: str,
    placed: list[tuple[float, ...]],
) -> None:
    """The text on top of the box, or where there is no room inside it, and below the labels placed before it."""
    font = ImageFont.load_default(size=13)
    canvas_width, canvas_height = draw.im.size
    score = "" if detection.score is None else f" {detection.score:.2f}"  # a source's own boxes have none
    text = _fitted(f"{number} {detection.label}{score}", font, canvas_width - 6)
    _, _, width, height = font.getbbox(text)
    left = max(0, min(box[0], canvas_width - width - 6))
    above = box[1] - height - 4
    top = max(0, min(above if above >= 0 else box[1], canvas_height - height - 4))
    area = (left, top, left + width + 6, top + height + 4)
    while any(_overlap(area, other) for other in placed) and area[3] + height + 4 <= canvas_height:
        area = (area[0], area[1] + height + 4, area[2], area[3] + height + 4)
    placed.append(area)
    draw.rectangle(area, fill=colour)
    draw.text((area[0] + 3, area[1] + 1), text, font=font, fill=COLOURS[colour])


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contact_sheet(
    images_with_detections: Iterable[SheetEntry | tuple], path: str | Path, *, columns: int = 4, side: int = 360
) -> None:
    """Write one picture with all images in rows, each with its boxes, and its title below.

    Args:
        images_with_detections: `SheetEntry`s, or plain tuples of the same order.
        path: where to write; the suffix says the format (.png, .jpg). The file is there whole or not at all.
        columns: images a row.
        side: longer side in pixels of each image on the sheet.

    Raises:
        ValueError: no image, or `columns` below 1; whatever `draw_detections` finds wrong.
    """
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, received {columns}")
    entries = [SheetEntry(*entry) for entry in images_with_detections]
    if not entries:
        raise ValueError("images_with_detections: expected at least one image, received none")
    columns = min(columns, len(entries))
    title_height = 20 if any(entry.title for entry in entries) else 0
    drawn = [draw_detections(entry.image, entry.detections, entry.chosen, side=side) for entry in entries]
    rows = [range(start, min(start + columns, len(drawn))) for start in range(0, len(drawn), columns)]
    heights = [max(drawn[index].height for index in row) + title_height + MARGIN for row in rows]
    sheet = Image.new("RGB", (columns * (side + MARGIN) + MARGIN, sum(heights) + MARGIN), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    top = MARGIN
    for row, height in zip(rows, heights):
        for column, index in enumerate(row):
            left = MARGIN + column * (side + MARGIN)
            sheet.paste(drawn[index], (left, top))
            title = _fitted(entries[index].title, font, side)
            draw.text((left, top + drawn[index].height + 2), title, font=font, fill="black")
        top += height
    _write(sheet, Path(path))


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        image.save(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
