"""Detections drawn on their image, and many such images on one sheet, to be looked at."""

from collections.abc import Sequence

import regex
from PIL import Image, ImageDraw

from datasets_scripts.detection.base import Detection
from modeling_vmhan.fonts import LEFT_TO_RIGHT, draw_text, missing_note, text_length


__all__ = ["contact_sheet", "draw_detections"]

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart; the text on each is black or white.
COLOURS = dict.fromkeys(("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"), "black")
COLOURS |= dict.fromkeys(("#009E73", "#0072B2", "#D55E00"), "white")
GREY = "#9A9A9A"
MARGIN = 8
TITLE_HEIGHT = 20

FONT_SIZE, LINE_HEIGHT = 13, 17

Box = tuple[float, float, float, float]


def draw_detections(
    image: Image.Image,
    detections: Sequence[Detection],
    chosen: Sequence[int] | None = None,
    *,
    side: int | None = None,
) -> Image.Image:
    """A copy of `image`, in RGB, with a box (in pixels of `image`), its number, label and score for each detection.

    `chosen` are indices of those that were kept, best first: they are drawn in colour and numbered from 1 in this
    order, the others thin and grey; None draws all in colour, in the order given. `side` is the copy's longer side in
    pixels; None keeps the size. Lines and text have the same width at any size.
    """
    missing_note([detection.label for detection in detections])
    order = list(range(len(detections))) if chosen is None else list(chosen)
    colours = [list(COLOURS)[rank % len(COLOURS)] for rank in range(len(order))]
    scale = 1.0 if side is None else side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(canvas)
    boxes = [_on_canvas(detection.box, scale, size) for detection in detections]
    for index in set(range(len(detections))) - set(order):
        draw.rectangle(boxes[index], outline=GREY)
    for rank in reversed(range(len(order))):  # the best on top
        draw.rectangle(boxes[order[rank]], outline=colours[rank], width=3)
    placed: list[Box] = []
    for rank, index in enumerate(order):
        score = detections[index].score
        text = f"{rank + 1} {detections[index].label}" + ("" if score is None else f" {LEFT_TO_RIGHT}{score:.2f}")
        placed.append(_draw_label(canvas, text, boxes[index], colours[rank], placed))
    return canvas


def _on_canvas(box: Box, scale: float, size: tuple[int, int]) -> Box:
    """The border's pixels of a box, inside the canvas."""
    x1, y1, x2, y2 = (value * scale for value in box)
    left, top = min(x1, size[0] - 1), min(y1, size[1] - 1)
    return left, top, max(left, min(x2, size[0]) - 1), max(top, min(y2, size[1]) - 1)


def _draw_label(canvas: Image.Image, text: str, box: Box, colour: str, placed: Sequence[Box]) -> Box:
    """Draw text on top of the box, or where there is no room inside it, and below the labels placed before it."""
    canvas_width, canvas_height = canvas.size
    text = _fitted(text, canvas_width - 6)
    width, height = text_length(text, FONT_SIZE) + 4, LINE_HEIGHT
    left = max(0, min(box[0], canvas_width - width))
    top = max(0, min(box[1] - height if box[1] >= height else box[1], canvas_height - height))

    def is_covered() -> bool:
        return any(left < x2 and x1 < left + width and top < y2 and y1 < top + height for x1, y1, x2, y2 in placed)

    while is_covered() and top + 2 * height <= canvas_height:
        top += height
    ImageDraw.Draw(canvas).rectangle((left, top, left + width, top + height), fill=colour)
    draw_text(canvas, (left + 2, top + 1), text, COLOURS[colour], FONT_SIZE)
    return left, top, left + width, top + height


def contact_sheet(
    entries: Sequence[tuple[Image.Image, Sequence[Detection], Sequence[int] | None, str]],
    *,
    columns: int = 4,
    side: int = 360,
) -> Image.Image:
    """One picture of `entries`, at least one (image, detections, chosen, title), in rows of `columns` images.

    See `draw_detections`; `side` is the longer side of each image in pixels.
    """
    columns = min(columns, len(entries))
    missing_note([title for *_, title in entries])
    drawn = [draw_detections(image, detections, chosen, side=side) for image, detections, chosen, _ in entries]
    rows = [range(start, min(start + columns, len(drawn))) for start in range(0, len(drawn), columns)]
    heights = [max(drawn[index].height for index in row) + TITLE_HEIGHT + MARGIN for row in rows]
    sheet = Image.new("RGB", (columns * (side + MARGIN) + MARGIN, sum(heights) + MARGIN), "white")
    top = MARGIN
    for row, height in zip(rows, heights):
        for column, index in enumerate(row):
            left = MARGIN + column * (side + MARGIN)
            sheet.paste(drawn[index], (left, top))
            title = _fitted(entries[index][-1], side)
            draw_text(sheet, (left, top + drawn[index].height + 2), title, "black", FONT_SIZE)
        top += height
    return sheet


def _fitted(text: str, width: int) -> str:
    if text_length(text, FONT_SIZE) <= width:
        return text
    characters = regex.findall(r"\X", text[: 2 * width])
    while characters and text_length("".join(characters) + "...", FONT_SIZE) > width:
        characters.pop()
    return "".join(characters) + "..."
