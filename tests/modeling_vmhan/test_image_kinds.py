"""Every kind of pixels x transparency x EXIF orientation x size limit, against a picture that numpy works out alone.

The files and their right pictures are those of tests/helpers/picture_files.py.
"""

import io
import itertools

import numpy as np
import pytest
from picture_files import (
    COLOUR,
    GREY,
    HALF,
    ORIENTATION,
    TURNS,
    files_without_exif,
    hand_made_pngs,
    pillows_files,
    png,
    with_exif,
)  # fmt: skip
from PIL import Image, ImageCms

from modeling_vmhan.images import image_size, load_image


CASES = [
    *(
        (f"PNG {name} turned {n}", with_exif(data, n), right, n)
        for name, data, right in hand_made_pngs()
        for n in TURNS
    ),
    *((f"{name} turned {n}", data, right, n) for n in TURNS for name, data, right in pillows_files(n)),
    *((name, data, right, 1) for name, data, right in files_without_exif()),
]


def halves(picture):
    """The mean colour of 2 x 2 pixels: what the picture is when shrunk by 2, up to the filter at edges of colour."""
    height, width = picture.shape[:2]
    return picture.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("data", "right", "orientation"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_kind_is_what_its_pixels_are_on_white(data, right, orientation, tmp_path):
    right = TURNS[orientation](np.asarray(right, dtype=float))
    path = tmp_path / "picture"
    path.write_bytes(data)
    lossy = 12 if data[:2] == b"\xff\xd8" or b"ftypavi" in data[:16] else 1
    for source in (data, path, {"bytes": data, "path": None}, {"bytes": None, "path": str(path)}):
        image = load_image(source)
        assert image.mode == "RGB" and image.size == image_size(source) == right.shape[1::-1]
        assert np.abs(np.asarray(image, dtype=float) - right).max() <= lossy
        small = load_image(source, max_side=20)
        assert max(small.size) == 20
        # away from edges of colour, where any filter gives the colour itself
        inner = np.ptp(right.reshape(right.shape[0] // 4, 4, right.shape[1] // 4, 4, 3), axis=(1, 3)).max(axis=-1) == 0
        blocks = halves(halves(right))[inner]
        found = halves(np.asarray(small, dtype=float))[inner]
        assert inner.sum() > 10 and np.abs(found - blocks).max() <= 30
        assert np.median(np.abs(found - blocks)) <= lossy


MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "I;16B",
    "La",
    "RGBa",
)


@pytest.mark.parametrize(("mode", "orientation", "max_side"), [*itertools.product(MODES, (1, 6), (None, 20))])
def test_an_image_in_memory_of_every_mode(mode, orientation, max_side):
    """The left half is white, the right half grey, or black where there is one bit; with alpha the right is hidden."""
    value = 0 if mode == "1" else 60
    image = Image.fromarray(np.where(HALF, value, 255).astype(np.uint8))
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.applyTransform(image.convert("RGB"), ImageCms.buildTransform(*lab[::-1], "RGB", "LAB"))
    elif mode in ("I", "I;16", "I;16B"):
        image = image.convert("I").point(lambda v: v * 256.0).convert(mode)
    elif mode in ("La", "RGBa", "LA", "RGBA", "PA"):
        image = image.convert("LA" if mode[0] == "L" else "P" if mode == "PA" else "RGBA")
        image = image.convert(mode) if mode == "PA" else image
        image.putalpha(Image.fromarray(np.where(HALF, 0, 255).astype(np.uint8)))
        image, value = image.convert(mode), 255
    else:
        image = image.quantize(4) if mode == "P" else image.convert("1" if mode == "1" else "RGB").convert(mode)
    assert image.mode == mode
    before = image.tobytes()
    image.getexif()[ORIENTATION] = orientation
    loaded = load_image(image, max_side=max_side)
    assert image.tobytes() == before and loaded.mode == "RGB"
    found = np.asarray(loaded, dtype=int)
    found = found if orientation == 1 else np.rot90(found)
    assert np.abs(found[:, 0] - 255).max() <= 2 and np.abs(found[:, -1] - value).max() <= 2


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1", "I;16"])
@pytest.mark.parametrize("max_side", [None, 20])
def test_the_transparent_colour_of_an_image_in_memory(mode, max_side):
    """As `datasets` gives it: read completely, its transparency in `info`."""
    samples = np.where(HALF, 1, 0)
    data = {
        "P": png(samples, 8, 3, palette=[(240, 30, 30), (20, 40, 90)], alphas=[255, 0]),
        "L": png(GREY, 8, 0, key=[60]),
        "RGB": png(COLOUR, 8, 2, key=[20, 40, 90]),
        "1": png(samples, 1, 0, key=[1]),
        "I;16": png(GREY.astype(int) * 257, 16, 0, key=[60 * 257]),
    }[mode]
    image = Image.open(io.BytesIO(data))
    for loaded in (False, True):
        if loaded:
            image.load()
        assert image.mode == mode and "transparency" in image.info
        found = np.asarray(load_image(image, max_side=max_side))
        assert (found[:, -1] == 255).all() and (found[:, 0].min(axis=-1) < 255).all()


def test_sixteen_bit_colour_in_memory_hides_what_its_eight_bits_cannot_tell_apart():
    image = Image.open(io.BytesIO(png(COLOUR.astype(int) * 257, 16, 2, key=[20 * 257, 40 * 257, 90 * 257])))
    image.load()
    assert (np.asarray(load_image(image))[:, -1] == 255).all()


@pytest.mark.parametrize("values", [(-1, 5), (0, 1 << 16), (0, 2**31 - 1)])
def test_integers_of_an_unknown_range_are_an_error(values):
    image = Image.fromarray(np.array([values], dtype=np.int32))
    with pytest.raises(ValueError, match=f"16 bits, received values from {values[0]} to {values[1]}"):
        load_image(image)
