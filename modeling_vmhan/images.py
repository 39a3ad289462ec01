"""Files, bytes and Pillow images as upright RGB: the one way in which images are read. Sizes are (width, height)."""

import functools
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, UnidentifiedImageError

from .addresses import is_url, shown_url


__all__ = ["FORMATS", "MAX_PIXELS", "image_size", "load_image", "open_image", "stored_image"]

# What posts have. Pillow knows more: EPS starts Ghostscript, others start programs, ask servers or are no pictures.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM")
MAX_PIXELS = 1 << 26  # 8192 x 8192, more than the cameras of 64 megapixels give: 256 MiB in memory, twice while read

# EXIF tag 274 (Exif 2.32, 4.6.4 A): how the stored picture must be turned to stand upright. ImageOps.exif_transpose
# knows it too, but also writes the metadata anew, which fails on damaged metadata of good pictures.
ORIENTATION = 0x0112
UPRIGHT = dict(zip(range(2, 9), (Image.Transpose[name] for name in (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
))))  # fmt: skip
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height

# A PNG of few bits has its transparent colour in these bits, while Pillow spreads the pixels over 0 to 255.
PNG_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "RGB": 8}
STRIP = 1 << 20  # pixels that are converted at a time

Source = (
    str | Path | bytes | Mapping[str, Any] | Image.Image | Any
)  # Any: an array of numpy, which nothing here imports


def load_image(source: Source, *, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image as every other part of the package wants it: RGB, upright, read completely.

    EXIF orientation is applied; transparent pixels become white; palette, grey (16 bits too) and CMYK are converted;
    of an animation the first frame is taken. What already is so comes back as it is; `source` is never changed.

    Args:
        source: path, the bytes of a file, a Pillow image, or what else `stored_image` takes.
        max_side: an image with a longer side, in pixels, is shrunk to it while it is read, keeping its aspect.
        max_pixels: the most that is decoded, width times height; a JPEG that is shrunk is decoded at 1/2, 1/4 or 1/8.

    A file that cannot be read is an OSError. A ValueError is what is of none of `FORMATS`, damaged, truncated, empty,
    of more than `max_pixels` or twice `Image.MAX_IMAGE_PIXELS` (known before any is decoded), or of pixels whose
    range is unknown: float, 32 bits.
    """
    source = stored_image(source)
    image = open_image(source)
    _check_pixels(image, source, max_side, max_pixels)
    try:
        raw = str(image.tile[0][3]) if image.format == "PNG" and image.tile else ""  # as stored, of one not yet read
        orientation = _orientation(image)  # before any copy is made, which may lose it
        if max_side is not None and max(image.size) > max_side:
            if image.mode not in ("RGB", "L", "CMYK") or image.has_transparency_data:  # else it may be a JPEG
                image = _to_rgb(image, raw, source)
            image = image.copy() if image is source else image
            image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        image.load()
        if image.mode != "RGB" or image.has_transparency_data:
            image = _to_rgb(image, raw, source)
        if orientation in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
            image.info = {}  # the orientation has been used up
        return image
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ... on damaged files
        message = f"{_name(source)}: expected an image that Pillow can read to its end ({error})."
        raise ValueError(message) from error


def stored_image(source: Any) -> Any:
    """What `datasets.Image(decode=False)` gives, {"bytes": ..., "path": ...}, as its bytes or else its path; an array
    of uint8, (height, width, 3) or grey (height, width), as a Pillow image; anything else as it is. A ValueError says
    that a dict has neither, or that an array is another one.
    """
    if _is_array(source):
        shape, kind = tuple(source.shape), str(source.dtype)
        if kind != "uint8" or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or 0 in shape:
            rule = "of uint8, from 0 to 255, and of the shape (height, width, 3) or (height, width)"
            raise ValueError(f"an image that is an array must be {rule}, received {kind} of {shape}.")
        return Image.fromarray(source)
    if not isinstance(source, Mapping):
        return source
    content, path = source.get("bytes"), source.get("path")
    if isinstance(content, bytes) or (content is None and isinstance(path, (str, Path)) and str(path).strip()):
        return path if content is None else content
    shown = {name: type(value).__name__ for name, value in source.items()}
    raise ValueError(f"an image must be bytes or a path, in a dict under these names, received {shown}.")


def _is_array(source: Any) -> bool:
    """Whether it is an array of numpy, or of a library that shares memory with it."""
    return not isinstance(source, Image.Image) and hasattr(type(source), "__array_interface__")


def image_size(source: Source, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) that `load_image(source)` will have, from the header alone; errors are those of `open_image`."""
    source = stored_image(source)
    image = open_image(source)
    if image.format == "PNG":  # it may have its orientation after its pixels
        _check_pixels(image, source, None, max_pixels)
    width, height = image.size
    return (height, width) if _orientation(image) in SIDEWAYS else (width, height)


def open_image(source: Source) -> Image.Image:
    """Opened, its pixels not yet read, its size not yet judged; errors name the file."""
    source = image = stored_image(source)
    if is_url(source):
        received = f"{shown_url(source)!r}, which only the pipeline fetches"
        raise ValueError(
            f"an image must be a path, bytes, a Pillow image or an array here, received the address {received}."
        )
    name = _name(source)
    if isinstance(source, (str, Path)):
        try:
            if Path(source).exists() and not (Path(source).is_file() or Path(source).is_dir()):
                raise ValueError("a device or a pipe")
            source = Path(source).read_bytes()
        except ValueError as error:  # or with a zero byte
            raise ValueError(f"{name}: expected the path of a file ({error}).") from error
        except OSError as error:
            reason = f"cannot read the image ({error.strerror}), check the path"
            raise type(error)(error.errno, reason, str(source)) from error
    if isinstance(source, bytes):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # large, or with damaged metadata: neither matters here
                image = Image.open(io.BytesIO(source), formats=FORMATS)
        except Exception as error:  # what Pillow cannot open, decompression bombs, what damaged headers raise
            received = repr(source[:16]) if isinstance(error, UnidentifiedImageError) else error
            known = ", ".join(FORMATS)
            raise ValueError(f"{name}: expected an image that Pillow can open, of {known} ({received}).") from error
    if not isinstance(image, Image.Image):
        raise ValueError(
            f"an image must be a path, bytes, a Pillow image or an array, received {type(image).__name__}."
        )
    if image.format not in (None, "MPO", *FORMATS) and image._im is None:  # opened only
        raise ValueError(f"{name}: expected an image of {', '.join(FORMATS)}, received format {image.format!r}.")
    if 0 in image.size or image.mode == "F":
        raise ValueError(f"{name}: expected pixels of 8 bits a channel, received mode {image.mode!r} of {image.size}.")
    return image


def _check_pixels(image: Image.Image, source: Source, max_side: int | None, max_pixels: int) -> None:
    """ValueError for a picture of too many pixels to decode; a JPEG that will be shrunk is set to decode fewer."""
    width, height = image.size
    if width * height <= max_pixels or (image is source and image._im is not None):  # the caller has decoded it
        return
    if max_side is not None and image is not source and image.format in ("JPEG", "MPO"):
        scale = min(max_side / max(width, height), 1)
        image.draft(image.mode, (int(width * scale), int(height * scale)))
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{_name(source)}: expected at most max_pixels={max_pixels:,}, received {width} x {height} = "
            f"{width * height:,} pixels. Shrink the picture, or raise max_pixels (about 8 bytes of memory a pixel)."
        )


def _to_rgb(image: Image.Image, raw: str, source: Source) -> Image.Image:
    """RGB of the same size; transparent pixels become white instead of whatever colour they hide.

    raw is how the pixels of a PNG are stored, "" of any other. Strips are converted, one after the other, so that
    what takes more memory than the result is small.
    """
    if image.mode == "I" and ((extrema := image.getextrema())[0] < 0 or extrema[1] >= 1 << 16):
        raise ValueError(f"expected integers of 16 bits, received values from {extrema[0]} to {extrema[1]}")
    low = None
    if raw == "RGB;16B" and "transparency" in image.info and image is not source:
        low = open_image(source)  # Pillow keeps the upper 8 bits: read the lower ones
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
    rgb = Image.new("RGB", image.size, "white")
    for top in range(0, image.height, rows := max(1, STRIP // image.width)):
        box = (0, top, image.width, min(top + rows, image.height))
        rgb.paste(*_visible(image.crop(box), raw, low and low.crop(box), box))
    return rgb


def _visible(strip: Image.Image, raw: str, low: Image.Image | None, box: Any) -> tuple[Image.Image, Any, Any]:
    """What `paste` takes: the strip in RGB, its place and, where it has transparent pixels, how much of each shows."""
    key = strip.info.pop("transparency", None) if strip.mode != "P" else None
    if strip.mode == "I" or strip.mode.startswith("I;16"):  # 16 bits; Pillow itself would cut them off at 255
        table = [255 if value == key else value >> 8 for value in range(1 << 16)]
        return strip.convert("I").point(table, "L").convert("RGB"), box, None
    if key is not None and strip.mode in ("1", "L", "RGB"):
        shown = ImageChops.invert(_equals(strip, low, key, raw))
        return strip.convert("RGB"), box, shown
    if strip.has_transparency_data:
        strip = strip.convert("LA" if strip.mode == "La" else "RGBA").convert("RGBA")
        return strip, box, strip
    return strip.convert("RGB"), box, None


def _equals(strip: Image.Image, low: Image.Image | None, colour: int | tuple[int, ...], raw: str) -> Image.Image:
    """255 where a pixel has the colour, as the PNG's tRNS states it (11.3.1.1): in as many bits as are stored."""
    values = list(colour) if isinstance(colour, tuple) else [colour]
    bands = [strip.convert("L")] if len(values) == 1 else list(strip.split())
    if raw == "RGB;16B" or (strip.mode == "RGB" and max(values) > 255):
        bands += low.split() if low else []
        values = [value >> 8 for value in values] + [value & 255 for value in values]
    else:
        most = (1 << PNG_BITS.get(raw or strip.mode, 8)) - 1
        values = [(value & most) * 255 // most for value in values]
    same = [band.point([255 * (i == value) for i in range(256)]) for band, value in zip(bands, values)]
    return functools.reduce(ImageChops.darker, same)


def _name(source: Source) -> str:
    if isinstance(source, bytes):
        return f"image of {len(source)} bytes"
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "image"
    return f"image {str(source)!r}"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the metadata is damaged."""
    if image.format == "TIFF":  # Pillow turns these itself while reading the pixels
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Corrupt EXIF data"
            return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a parser's errors on damaged metadata are of many kinds, and the picture may be good
        return 1
