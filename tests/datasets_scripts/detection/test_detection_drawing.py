"""Boxes on images and contact sheets: what is where, by its colour."""

import pytest
from PIL import Image

from datasets_scripts.detection.detectors import Detection
from datasets_scripts.detection.drawing import COLOURS, GREY, SheetEntry, contact_sheet, draw_detections


DETECTIONS = [Detection((20, 60, 80, 100), 0.9, "cat"), Detection((100, 110, 180, 150), 0.5, "dog")]
FIRST, SECOND = list(COLOURS)[:2]


def rgb(colour):
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


@pytest.fixture
def image():
    return Image.new("RGB", (200, 160), "white")


def test_every_box_has_its_colour_on_its_border(image):
    drawn = draw_detections(image, DETECTIONS)
    assert drawn.size == image.size and image.getcolors() == [(200 * 160, (255, 255, 255))]  # the image is untouched
    for x, y in [(20, 80), (79, 80), (50, 99)]:
        assert drawn.getpixel((x, y)) == rgb(FIRST)
    assert drawn.getpixel((100, 130)) == drawn.getpixel((179, 130)) == rgb(SECOND)
    assert drawn.getpixel((50, 80)) == (255, 255, 255)


def test_chosen_are_in_colour_and_the_others_grey(image):
    drawn = draw_detections(image, DETECTIONS, chosen=[1])
    assert drawn.getpixel((20, 80)) == rgb(GREY) and drawn.getpixel((100, 130)) == rgb(FIRST)
    assert draw_detections(image, DETECTIONS, chosen=[]).getpixel((100, 130)) == rgb(GREY)


def test_boxes_scale_with_the_image(image):
    drawn = draw_detections(image, DETECTIONS, side=400)
    assert drawn.size == (400, 320) and drawn.getpixel((40, 160)) == rgb(FIRST)


def test_labels_do_not_cover_each_other(image):
    here = [Detection((20, 60, 80, 100), 0.9 - index / 10, "cat") for index in range(3)]
    drawn = draw_detections(image, here)
    for colour in list(COLOURS)[1:3]:  # their boxes are below the first one's, their labels are not
        assert rgb(colour) in {pixel for _, pixel in drawn.getcolors(maxcolors=10**6)}


def test_a_box_that_nobody_scored_has_a_label_without_score(image):
    scored, unscored = (draw_detections(image, [Detection((20, 60, 80, 100), score, "cat")]) for score in (1.0, None))
    assert scored.tobytes() != unscored.tobytes() and unscored.getpixel((20, 80)) == rgb(FIRST)


def test_any_image(tmp_path):
    for mode, size in [("RGB", (1, 1)), ("L", (3, 2)), ("RGB", (500, 3))]:
        one = Image.new(mode, size)
        whole = Detection((0.0, 0.0, *map(float, size)), 1.0, "a label that is far longer than the image is wide")
        assert draw_detections(one, [whole]).mode == "RGB"
        contact_sheet([(one, [whole])], tmp_path / "sheet.png")


@pytest.mark.parametrize("chosen", [[2], [-1]])
def test_chosen_out_of_range(image, chosen):
    with pytest.raises(ValueError, match=r"chosen: expected indices below 2, the number of detections, received \["):
        draw_detections(image, DETECTIONS, chosen=chosen)


def test_side_out_of_range(image):
    with pytest.raises(ValueError, match="side: expected at least 1 pixel, received 0"):
        draw_detections(image, DETECTIONS, side=0)


@pytest.mark.parametrize(("columns", "width"), [(1, 116), (2, 224), (4, 332)])
def test_sheet_has_columns(image, tmp_path, columns, width):
    entries = [(image, DETECTIONS), (image, DETECTIONS, [0]), SheetEntry(image, DETECTIONS, [0], "a title " * 9)]
    contact_sheet(entries, tmp_path / "new" / "sheet.png", columns=columns, side=100)
    sheet = Image.open(tmp_path / "new" / "sheet.png")
    rows = -(-3 // columns)
    assert sheet.size == (width, rows * (80 + 20 + 8) + 8)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]


def test_a_sheet_that_fails_leaves_the_old_one(image, tmp_path):
    path = tmp_path / "sheet.unknown"
    path.write_text("old")
    with pytest.raises(ValueError, match="unknown file extension"):
        contact_sheet([(image, DETECTIONS)], path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_sheet_errors(image, tmp_path):
    with pytest.raises(ValueError, match="images_with_detections: expected at least one image, received none"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="columns: expected at least 1, received 0"):
        contact_sheet([(image, [])], tmp_path / "sheet.png", columns=0)
