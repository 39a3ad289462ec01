"""Boxes on images and contact sheets: what is where, by its colour."""

import pytest
from PIL import Image

from datasets_scripts.detection.base import Detection
from datasets_scripts.detection.drawing import COLOURS, GREY, contact_sheet, draw_detections


DETECTIONS = [Detection((20, 60, 80, 100), 0.9, "cat"), Detection((100, 110, 180, 150), 0.5, "dog")]
FIRST, SECOND = list(COLOURS)[:2]


def rgb(colour):
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


@pytest.fixture
def image():
    return Image.new("RGB", (200, 160), "white")


def test_every_box_has_its_colour_on_its_border_and_those_not_chosen_are_grey(image):
    drawn = draw_detections(image, DETECTIONS)
    assert drawn.size == image.size and image.getcolors() == [(200 * 160, (255, 255, 255))]  # the image is untouched
    for x, y in [(20, 80), (79, 80), (50, 99)]:
        assert drawn.getpixel((x, y)) == rgb(FIRST)
    assert drawn.getpixel((100, 130)) == drawn.getpixel((179, 130)) == rgb(SECOND)
    assert drawn.getpixel((50, 80)) == (255, 255, 255)
    drawn = draw_detections(image, DETECTIONS, chosen=[1])
    assert drawn.getpixel((20, 80)) == rgb(GREY) and drawn.getpixel((100, 130)) == rgb(FIRST)
    drawn = draw_detections(image, DETECTIONS, side=400)
    assert drawn.size == (400, 320) and drawn.getpixel((40, 160)) == rgb(FIRST)


def test_labels_do_not_cover_each_other_and_may_have_no_score(image):
    drawn = draw_detections(image, [Detection((20, 60, 80, 100), 0.9 - index / 10, "cat") for index in range(3)])
    for colour in list(COLOURS)[1:3]:  # their boxes are below the first one's, their labels are not
        assert rgb(colour) in {pixel for _, pixel in drawn.getcolors(maxcolors=10**6)}
    scored, unscored = (draw_detections(image, [Detection((20, 60, 80, 100), score, "cat")]) for score in (1.0, None))
    assert scored.tobytes() != unscored.tobytes() and unscored.getpixel((20, 80)) == rgb(FIRST)


def test_any_image_and_sheets_in_columns(image):
    for mode, size in [("RGB", (1, 1)), ("L", (3, 2)), ("RGB", (500, 3))]:
        one = Image.new(mode, size)
        whole = Detection((0.0, 0.0, *map(float, size)), 1.0, "a label that is far longer than the image is wide")
        assert draw_detections(one, [whole]).mode == "RGB"
        contact_sheet([(one, [whole], None, "")])
    for columns, width in [(1, 116), (2, 224), (4, 332)]:
        sheet = contact_sheet([(image, DETECTIONS, [0], "a title " * 9)] * 3, columns=columns, side=100)
        assert sheet.size == (width, -(-3 // columns) * (80 + 20 + 8) + 8)
