"""Image files as a data set keeps them: upright RGB of bounded size, the file's own bytes wherever they are that.

Boxes always refer to the upright image, EXIF orientation applied.
"""

import io
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image


__all__ = ["as_png", "image_content", "is_kept"]

KEPT_FORMATS = ("JPEG", "PNG", "WEBP")  # every viewer shows them


def image_content(image: dict[str, Any]) -> bytes:
    """The file's bytes of an undecoded cell {"bytes", "path"} of an image column."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def is_kept(content: bytes, *, max_side: int) -> bool:
    """Whether an image file decodes, as it is, to what `load_image(content, max_side=max_side)` gives.

    One whose EXIF data are damaged does not count as such, good as its picture may be.
    """
    with Image.open(io.BytesIO(content)) as image:
        try:
            is_upright = _orientation(image) in (None, 1) and max(image.size) <= max_side
        except Exception:  # Pillow raises many kinds, SyntaxError among them
            return False
        is_plain = image.mode == "RGB" and "transparency" not in image.info and getattr(image, "n_frames", 1) == 1
        return image.format in KEPT_FORMATS and is_upright and is_plain


def as_png(image: Image.Image) -> bytes:
    """The bytes of a PNG file, which loses nothing."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _orientation(image: Image.Image) -> int | None:
    return image.getexif().get(ExifTags.Base.Orientation)
