"""Images of every kind come in as upright RGB, or are refused by name."""

import io
import re
import warnings

import numpy as np
import pytest
from paths import MNRE_DATA
from PIL import Image, ImageFile, ImageOps

from modeling_vmhan.images import ORIENTATION, image_size, load_image


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation, form="JPEG"):
    """The file of a 40 x 20 picture whose metadata ask for a turn."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, form, exif=exif)


def pixels(image):
    return image.size, image.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "PA", "YCbCr", "RGBX"])
@pytest.mark.parametrize("max_side", [None, 10])
def test_white_is_white_in_every_mode(mode, max_side):
    white = Image.new("RGB", (20, 10), "white")
    image = load_image(white.convert("P" if mode == "PA" else mode).convert(mode), max_side=max_side)
    assert image.mode == "RGB" and image.size == ((20, 10) if max_side is None else (10, 5))
    assert image.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
@pytest.mark.parametrize("max_side", [None, 4])
def test_transparent_pixels_become_white(mode, max_side):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (8, 8), 0)
        image.putpalette([255, 0, 0])
        image = Image.open(io.BytesIO(encoded(image, transparency=0)))
    elif mode != "RGBA":
        image = image.convert(mode)
    assert load_image(image, max_side=max_side).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bit_grey_is_scaled_and_not_cut_off(mode):
    image = load_image(encoded(Image.new(mode, (4, 4), 32768), "TIFF"))
    assert image.getpixel((0, 0)) == (128, 128, 128)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(form, orientation):
    data = turned(orientation, form)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert pixels(load_image(data)) == pixels(expected)
    assert pixels(load_image(Image.open(io.BytesIO(data)))) == pixels(expected)
    assert image_size(data) == image_size(Image.open(io.BytesIO(data))) == expected.size
    for source in (data, Image.open(io.BytesIO(data))):
        small = load_image(source, max_side=20)
        assert small.size == (expected.width // 2, expected.height // 2)
        corners = [small.getpixel((x, y)) for x in (1, small.width - 2) for y in (1, small.height - 2)]
        large = [expected.getpixel((x, y)) for x in (1, expected.width - 2) for y in (1, expected.height - 2)]
        assert [red > blue for red, _, blue in corners] == [red > blue for red, _, blue in large]


@pytest.mark.parametrize("orientation", [1, 6])
def test_reading_twice_changes_nothing(orientation):
    once = load_image(turned(orientation))
    assert load_image(once) is once


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"])
def test_damaged_metadata_do_not_spoil_a_good_picture(exif):
    data = encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(data).size == image_size(data) == (40, 20)


def test_path_string_bytes_and_image_are_the_same(tmp_path):
    data = turned(6)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    sources = [path, str(path), data, Image.open(path), Image.open(io.BytesIO(data))]
    assert len({pixels(load_image(source)) for source in sources}) == 1
    assert {image_size(source) for source in sources} == {(20, 40)}


@pytest.mark.parametrize("max_side", [None, 10])
def test_the_callers_image_is_left_alone(max_side):
    opened = Image.open(io.BytesIO(turned(6)))
    load_image(opened, max_side=max_side)
    assert opened.size == (40, 20) and opened.getexif()[ORIENTATION] == 6
    assert opened.getpixel((39, 19)) == load_image(opened).getpixel((0, 39))


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [((40, 20), 40, (40, 20)), ((40, 20), 10, (10, 5)), ((20, 40), 10, (5, 10)), ((5000, 1), 100, (100, 1))],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_max_side(size, max_side, expected, form):
    assert load_image(encoded(Image.new("RGB", size), form), max_side=max_side).size == expected


def test_shrinking_averages_and_does_not_pick():
    stripes = Image.new("1", (64, 64))
    stripes.paste(1, (0, 0, 32, 64))
    stripes = stripes.resize((512, 512)).convert("P")
    small = load_image(stripes, max_side=3)
    assert 40 < small.getpixel((1, 1))[0] < 215


def test_a_picture_of_12_000_pixels_a_side_is_read_without_a_warning_and_shrunk():
    data = encoded(Image.new("L", (12_000, 12_000), 90), "JPEG", quality=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(data) == (12_000, 12_000)
        small = load_image(data, max_side=1000)
    assert small.size == (1000, 1000) and abs(small.getpixel((500, 500))[0] - 90) <= 3


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("BMP", "RGB"), ("TIFF", "L"), ("GIF", "L")]
)
@pytest.mark.parametrize("max_side", [None, 5])
def test_too_many_pixels_are_refused_before_one_is_decoded(form, mode, max_side, monkeypatch, tmp_path):
    path = tmp_path / f"large.{form.lower()}"
    path.write_bytes(encoded(Image.new(mode, (21, 10)), form))
    assert load_image(path, max_pixels=210).size == (21, 10)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    for source in (path, path.read_bytes(), Image.open(path)):
        with pytest.raises(ValueError, match=r"max_pixels=209, received 21 x 10 = 210 pixels"):
            load_image(source, max_side=max_side, max_pixels=209)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_an_image_that_the_caller_has_decoded_is_below_the_limit_but_one_only_opened_is_not(form):
    data = encoded(Image.new("RGB", (21, 10), "red"), form)
    assert load_image(load_image(data), max_pixels=1).size == (21, 10)
    with pytest.raises(ValueError, match="max_pixels=209"):
        load_image(Image.open(io.BytesIO(data)), max_pixels=209)


@pytest.mark.parametrize(("max_pixels", "fits"), [(20_000, True), (5_000, True), (1_300, True), (1_200, False)])
def test_a_jpeg_above_the_limit_is_decoded_at_a_fraction(max_pixels, fits):
    data = encoded(Image.new("RGB", (400, 200), "red"), "JPEG")
    assert image_size(data, max_pixels=1) == (400, 200)
    if fits:
        assert load_image(data, max_side=50, max_pixels=max_pixels).size == (50, 25)
    else:
        with pytest.raises(ValueError, match="max_pixels=1,200, received 400 x 200 = 80,000"):
            load_image(data, max_side=50, max_pixels=max_pixels)


@pytest.mark.parametrize("read", [load_image, image_size])
def test_a_missing_file(read, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot read the image .*check the path: '.*gone.jpg'"):
        read(tmp_path / "gone.jpg")


@pytest.mark.parametrize("read", [load_image, image_size])
@pytest.mark.parametrize("path", ["/dev/zero", "a\0b.png"])
def test_a_path_that_is_no_file_s(read, path):
    with pytest.raises(ValueError, match=f"image {path!r}: expected the path of a file".replace("\\", r"\\")):
        read(path)


@pytest.mark.parametrize("read", [load_image, image_size])
@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"\xff\xd8\xff\xe0 junk", b"\x89PNG\r\n\x1a\n junk"])
def test_a_file_that_is_no_image(read, content, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="image '.*a.jpg': .*can open"):
        read(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("max_side", [None, 20])
def test_a_truncated_file(form, max_side, tmp_path):
    path = tmp_path / "cut"
    data = encoded(Image.effect_noise((60, 40), 90).convert("RGB"), form)
    path.write_bytes(data[: len(data) // 2])
    message = "cut.*: .*to its end .*truncated"
    for source in (path, Image.open(path)):
        with pytest.raises(ValueError, match=message):
            load_image(source, max_side=max_side)
    assert image_size(path) == (60, 40)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (Image.new("F", (4, 4)), r"mode 'F' of \(4, 4\)"),
        (Image.new("RGB", (0, 5)), r"\(0, 5\)"),
        (None, "a path, bytes, a Pillow image or an array, received NoneType"),
    ],
)
def test_what_is_no_picture(source, match):
    with pytest.raises(ValueError, match=match):
        load_image(source)


@pytest.mark.skipif(not MNRE_DATA.is_dir(), reason=f"the real images of MNRE are not at {MNRE_DATA}")
def test_real_pictures():
    paths = sorted(MNRE_DATA.glob("img_org/*/*.jpg"))
    assert paths
    for path in paths:
        image = load_image(path, max_side=300)
        width, height = image_size(path)
        scale = min(300 / max(width, height), 1)
        assert image.mode == "RGB" and image.size == pytest.approx((width * scale, height * scale), abs=1)


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6)])
def test_an_array_of_pixels(shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    right = array if len(shape) == 3 else np.repeat(array[..., None], 3, axis=-1)
    for source in (array, np.asfortranarray(array), array[::-1][::-1]):
        image = load_image(source)
        assert image.mode == "RGB" and image.size == image_size(source) == (6, 4)
        assert (np.asarray(image) == right).all()
    image.putpixel((0, 0), (9, 9, 9))
    assert array.flat[0] == 0  # which is its own


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((4, 6, 3)),
        np.zeros((4, 6, 3), bool),
        np.zeros((0, 6, 3), np.uint8),
        np.zeros((2, 4, 6, 3), np.uint8),
        np.array(None),
    ],
)
def test_an_array_of_another_form_is_named(array):
    with pytest.raises(
        ValueError, match=f"of uint8.*height, width.*received {array.dtype} of {re.escape(str(array.shape))}"
    ):
        load_image(array)
