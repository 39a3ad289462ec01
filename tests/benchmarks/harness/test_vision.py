"""Pictures of a folder or drawn ones, their boxes, and turns in which none is known."""

from types import SimpleNamespace

import pytest

from benchmarks.harness.vision import anew, load_pictures, three_boxes
from modeling_vmhan.images import image_size


def test_as_many_pictures_as_are_asked_for_and_their_boxes_lie_in_them(tmp_path):
    first, second = drawn = load_pictures(None, 2)
    assert first != second
    for i, picture in enumerate(drawn):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}" / "one.jpg").write_bytes(picture)
    assert load_pictures(tmp_path, 1) == [first] and load_pictures(tmp_path, None) == drawn
    width, height = image_size(first)
    assert all(0 <= x < right <= width and 0 <= y < low <= height for x, y, right, low in three_boxes(first))
    with pytest.raises(ValueError, match=r"--images: .*at least 3.*with 2"):
        load_pictures(tmp_path, 3)


def test_a_task_that_is_done_anew_finds_nothing_remembered():
    vision = SimpleNamespace(remembered={"a": 1})
    assert anew(vision, lambda: len(vision.remembered)) == 0
