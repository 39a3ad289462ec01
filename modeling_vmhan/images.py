"""Files, bytes and Pillow images as upright RGB: the one way in which images are read. Sizes are (width, height)."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .addresses import is_url, shown_url


__all__ = ["image_size", "load_image", "stored_image"]

# EXIF tag 274 (Exif 2.32, 4.6.4 A): how the stored picture must be turned to stand upright. ImageOps.exif_transpose
# knows it too, but also writes the metadata anew, which fails on damaged metadata of good pictures.
ORIENTATION = 0x0112
UPRIGHT = dict(zip(range(2, 9), (Image.Transpose[name] for name in (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
))))  # fmt: skip
SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


def load_image(source: str | Path | bytes | Image.Image, *, max_side: int | None = None) -> Image.Image:
    """An image as every other part of the package wants it: RGB, upright, read completely.

    EXIF orientation is applied; transparent pixels become white; palette, grey (16 bits too) and CMYK are converted;
    of an animation the first frame is taken. What already is so comes back as it is; `source` is never changed.

    Args:
        source: path, the bytes of a file, a Pillow image, or what `stored_image` takes.
        max_side: an image with a longer side, in pixels, is shrunk to it while it is read, keeping its aspect.

    A file that cannot be read is an OSError. A ValueError is what is no image, damaged, truncated, empty, of more than
    twice `Image.MAX_IMAGE_PIXELS` (perhaps a decompression bomb), or of float pixels, whose range is unknown.
    """
    image = _open(source)
    try:
        orientation = _orientation(image)  # before any copy is made, which may lose it
        if max_side is not None and max(image.size) > max_side:
            if image.mode not in ("RGB", "L", "CMYK"):  # what a JPEG can be: it is decoded at 1/2, 1/4 or 1/8
                image = _to_rgb(image)
            image = image.copy() if image is source else image
            image.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        image.load()
        if image.mode == "RGB" and orientation not in UPRIGHT and "transparency" not in image.info:
            return image
        rgb = _to_rgb(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image)
        rgb.info = {}  # the orientation has been used up, as has the transparency
        return rgb
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ... on damaged files
        raise ValueError(f"{_name(source)}: expected an image that Pillow can read to its end ({error}).") from error


def stored_image(source: Any) -> Any:
    """What `datasets.Image(decode=False)` gives, {"bytes": ..., "path": ...}, as its bytes or else its path; anything
    else as it is. A ValueError says that it has neither.
    """
    if not isinstance(source, Mapping):
        return source
    content, path = source.get("bytes"), source.get("path")
    if isinstance(content, bytes) or (content is None and isinstance(path, (str, Path))):
        return path if content is None else content
    shown = {name: type(value).__name__ for name, value in source.items()}
    raise ValueError(f"an image must be bytes or a path, in a dict under these names, received {shown}.")


def image_size(source: str | Path | bytes | Image.Image) -> tuple[int, int]:
    """(width, height) that `load_image(source)` will have, from the header alone; errors are those of `load_image`."""
    image = _open(source)
    width, height = image.size
    return (height, width) if _orientation(image) in SIDEWAYS else (width, height)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB of the same size; transparent pixels become white instead of whatever colour they hide."""
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits; Pillow itself would cut them off at 255
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def _open(source: str | Path | bytes | Image.Image) -> Image.Image:
    """Opened, its pixels not yet read; errors name the file."""
    source = image = stored_image(source)
    if is_url(source):
        received = f"{shown_url(source)!r}, which only the pipeline fetches"
        raise ValueError(f"an image must be a path, bytes or a Pillow image here, received the address {received}.")
    name = _name(source)
    if isinstance(source, (str, Path)):
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            reason = f"cannot read the image ({error.strerror}), check the path"
            raise type(error)(error.errno, reason, str(source)) from error
    if isinstance(source, bytes):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # large, or with damaged metadata: neither matters here
                image = Image.open(io.BytesIO(source))
        except Exception as error:  # what Pillow cannot open, decompression bombs, what damaged headers raise
            limit = f"of at most {2 * Image.MAX_IMAGE_PIXELS:,} pixels"
            raise ValueError(f"{name}: expected an image that Pillow can open, {limit} ({error}).") from error
    if not isinstance(image, Image.Image):
        raise ValueError(f"an image must be a path, bytes or a Pillow image, received {type(image).__name__}.")
    if 0 in image.size or image.mode == "F":
        raise ValueError(f"{name}: expected pixels of 8 bits a channel, received mode {image.mode!r} of {image.size}.")
    return image


def _name(source: str | Path | bytes | Image.Image) -> str:
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
