"""The pictures of postcards: stickers of a colour and a shape on grained paper."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


__all__ = ["GRID", "MIN_IMAGE_SIZE", "POSTCARDS_COLOURS", "POSTCARDS_SHAPES", "Sticker", "draw_picture"]

GRID = 3  # stickers sit in different cells of a GRID x GRID grid, so that they cannot overlap
MIN_IMAGE_SIZE = 96

POSTCARDS_COLOURS = {
    "red": (215, 25, 30),
    "green": (20, 150, 55),
    "blue": (30, 65, 215),
    "yellow": (250, 215, 20),
    "purple": (140, 40, 165),
    "orange": (250, 130, 15),
    "turquoise": (40, 200, 205),
    "black": (25, 25, 28),
}
POSTCARDS_SHAPES = ("square", "heart", "ring", "star")


@dataclass(frozen=True)
class Sticker:
    """One object of the picture. `box` is xyxy in pixels; of a hidden one a disk of its colour is seen."""

    colour: str
    shape: str
    box: tuple[int, int, int, int]
    is_hidden: bool


def _shape_mask(shape: str, side: int) -> Image.Image:
    """The shape in white on black, (side, side) pixels, smoothed by drawing it four times as large."""
    large = side * 4
    mask, centre = Image.new("L", (large, large), 0), large / 2
    draw = ImageDraw.Draw(mask)
    if shape == "square":
        draw.rectangle((0.06 * large, 0.06 * large, 0.94 * large, 0.94 * large), fill=255)
    elif shape == "slip":  # a disk: what a hidden sticker looks like, whatever its shape
        draw.ellipse((0.06 * large, 0.06 * large, 0.94 * large, 0.94 * large), fill=255)
    elif shape == "ring":
        draw.ellipse((0, 0, large - 1, large - 1), fill=255)
        draw.ellipse((0.28 * large, 0.28 * large, 0.72 * large, 0.72 * large), fill=0)
    elif shape == "star":
        radii = [centre if corner % 2 == 0 else 0.42 * centre for corner in range(10)]
        angles = [corner * math.pi / 5 for corner in range(10)]
        draw.polygon([(centre + r * math.sin(a), centre - r * math.cos(a)) for r, a in zip(radii, angles)], fill=255)
    elif shape == "heart":
        turns = [2 * math.pi * step / 80 for step in range(80)]
        across = [16 * math.sin(t) ** 3 for t in turns]
        up = [13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in turns]
        draw.polygon([(centre * (1 + x / 17), centre * (1 - (y + 2.5) / 15)) for x, y in zip(across, up)], fill=255)
    return mask.resize((side, side), Image.Resampling.LANCZOS)


def draw_picture(
    rng: random.Random, image_size: int, looks: Sequence[tuple[str, str, bool]]
) -> tuple[Image.Image, list[Sticker]]:
    """Draws (colour, shape, is_hidden) `looks` on pale, grained paper, each in a random cell of the grid."""
    noise = np.random.default_rng(rng.getrandbits(64))
    tone = np.array([226, 217, 198]) + noise.integers(-12, 13, size=3)
    grain = noise.normal(0, 4, size=(image_size, image_size, 1))
    image = Image.fromarray(np.clip(tone + grain, 0, 255).astype(np.uint8))
    stickers, cell = [], image_size / GRID
    margin = round(0.05 * cell)  # between the shape and its box
    for (colour, shape, is_hidden), place in zip(looks, rng.sample(range(GRID**2), len(looks)), strict=True):
        side = rng.randint(round(0.66 * cell), round(0.80 * cell))
        slack = int(cell) - side - 2 * margin
        left = math.ceil(place % GRID * cell) + rng.randint(0, max(0, slack - 1))
        top = math.ceil(place // GRID * cell) + rng.randint(0, max(0, slack - 1))
        shade = tuple(min(255, max(0, channel + rng.randint(-10, 10))) for channel in POSTCARDS_COLOURS[colour])
        image.paste(shade, (left + margin, top + margin), _shape_mask("slip" if is_hidden else shape, side))
        box = (left, top, left + side + 2 * margin, top + side + 2 * margin)
        stickers.append(Sticker(colour, shape, box, is_hidden))
    return image, stickers
