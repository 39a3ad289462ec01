"""Small pictures in every kind of file, each with what numpy alone says that it looks like on white.

A case is (name, file, right picture before turning), the last one (height, width, 3).
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, features


__all__ = [
    "COLOUR", "GREY", "HALF", "HEIGHT", "ORIENTATION", "TURNS", "WIDTH", "files_without_exif", "grey",
    "hand_made_pngs", "pillows_files", "png", "png_chunk", "with_exif",
]  # fmt: skip

ORIENTATION = 0x0112
HEIGHT, WIDTH = 24, 40
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
HALF = COLUMNS >= WIDTH // 2  # the right half is the transparent one, where there is one
GREY = np.where(HALF, 60, 200).astype(np.uint8)
COLOUR = np.where(HALF[..., None], (20, 40, 90), np.where(ROWS[..., None] < 8, (240, 30, 30), (30, 200, 60)))
COLOUR = COLOUR.astype(np.uint8)
ALPHA = np.where(HALF, np.where(ROWS < 12, 0, 128), 255).astype(np.uint8)

# How numpy turns an array so that what EXIF orientation n describes stands upright (Exif 2.32, 4.6.4 A).
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def on_white(colour, alpha):
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def grey(values):
    return np.repeat(np.asarray(values)[..., None], 3, axis=2).astype(float)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Where the seven passes of an interlaced PNG begin (row, column), and their steps (PNG, 8.2).
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(samples, bits, colour_type, key=None, palette=None, alphas=None, interlaced=False):
    """A PNG by hand: samples are (H, W) or (H, W, channels), key the numbers of its tRNS chunk."""

    def packed(line):
        if bits >= 8:
            return line.astype(">u2" if bits == 16 else np.uint8).tobytes()
        return np.packbits((line[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).ravel()).tobytes()

    height, width = samples.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    lines = [packed(line) for row, column, down, right in passes for line in samples[row::down, column::right]]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    chunks = [png_chunk(b"IHDR", header)]
    if palette is not None:
        chunks.append(png_chunk(b"PLTE", bytes(np.asarray(palette, np.uint8).ravel())))
    if key is not None or alphas is not None:
        chunks.append(png_chunk(b"tRNS", bytes(alphas) if alphas else struct.pack(f">{len(key)}H", *key)))
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, png_chunk(b"IDAT", body), png_chunk(b"IEND", b"")])


def with_exif(data, orientation):
    """A PNG with an eXIf chunk after its header; what Pillow wrote has its own."""
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", ORIENTATION, 3, 1, orientation, 0, 0)
    return data[:33] + png_chunk(b"eXIf", exif) + data[33:]


def saved(image, form, orientation, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


def hand_made_pngs():
    """(name, PNG, right picture); the lower rows of the transparent half differ by little from its colour."""
    close = HALF & (ROWS >= 12)  # and may not become transparent
    for bits, shown, hidden, near in ((1, 0, 1, 1), (2, 2, 1, 3), (4, 9, 5, 6), (8, 200, 60, 61)):
        samples = np.where(HALF, np.where(close, near, hidden), shown)
        seen = grey(samples * 255 // (2**bits - 1))
        yield f"grey {bits}", png(samples, bits, 0), seen
        yield (
            f"grey {bits} tRNS",
            png(samples, bits, 0, key=[hidden]),
            np.where((samples == hidden)[..., None], 255, seen),
        )
    wide = np.where(HALF, np.where(close, 0x3CFF, 0x3C01), 0xC812)  # equal in their upper 8 bits
    yield "grey 16", png(wide, 16, 0), grey(wide >> 8)
    yield "grey 16 tRNS", png(wide, 16, 0, key=[0x3C01]), np.where((wide == 0x3C01)[..., None], 255, grey(wide >> 8))
    yield "grey 8 tRNS of 16 bits", png(GREY, 8, 0, key=[0xFF00 | 60]), grey(np.where(HALF, 255, 200))

    near = np.where(close[..., None], COLOUR + np.uint8([0, 0, 1]), COLOUR)
    key = [int(value) for value in COLOUR[0, -1]]
    hidden = (near == key).all(axis=-1, keepdims=True)
    yield "RGB 8", png(near, 8, 2), near
    yield "RGB 8 tRNS", png(near, 8, 2, key=key), np.where(hidden, 255, near)
    wide = COLOUR.astype(int) * 256 + np.where(close, 7, 1)[..., None]
    hidden = HALF[..., None] & ~close[..., None]
    yield "RGB 16", png(wide, 16, 2), COLOUR
    key = [value * 256 + 1 for value in key]
    for name, interlaced in (("RGB 16 tRNS", False), ("RGB 16 tRNS interlaced", True)):
        yield name, png(wide, 16, 2, key=key, interlaced=interlaced), np.where(hidden, 255, COLOUR)

    alpha16 = ALPHA[..., None].astype(int) * 257
    yield "grey alpha 8", png(np.dstack([GREY, ALPHA]), 8, 4), on_white(grey(GREY), ALPHA)
    yield "grey alpha 16", png(np.dstack([GREY.astype(int) * 257, alpha16]), 16, 4), on_white(grey(GREY), ALPHA)
    yield "RGBA 8", png(np.dstack([COLOUR, ALPHA]), 8, 6), on_white(COLOUR, ALPHA)
    yield "RGBA 16", png(np.dstack([COLOUR.astype(int) * 257, alpha16]), 16, 6), on_white(COLOUR, ALPHA)

    index = np.where(HALF, np.where(close, 2, 1), 0)
    palette = np.array([(240, 30, 30), (20, 40, 90), (30, 200, 60)])
    for bits in (2, 4, 8):
        yield f"palette {bits}", png(index, bits, 3, palette=palette), palette[index]
        one = np.where((index == 1)[..., None], 255, palette[index])
        yield f"palette {bits} one transparent", png(index, bits, 3, palette=palette, alphas=[255, 0]), one
        many = on_white(palette[index], np.array([255, 0, 128])[index])
        yield f"palette {bits} alphas", png(index, bits, 3, palette=palette, alphas=[255, 0, 128]), many


def pillows_files(orientation):
    """(name, file, right picture) in the forms that Pillow writes without loss, but for JPEG."""
    rgb, rgba = Image.fromarray(COLOUR), Image.fromarray(np.dstack([COLOUR, ALPHA]))
    la = Image.fromarray(np.dstack([GREY, ALPHA]), "LA")
    seen = on_white(COLOUR, ALPHA)
    big_endian = Image.frombytes("I;16B", (WIDTH, HEIGHT), (GREY * 256.0).astype(">u2").tobytes())
    for name, form, image, right, options in (
        ("TIFF RGB", "TIFF", rgb, COLOUR, {}),
        ("TIFF RGB deflate", "TIFF", rgb, COLOUR, {"compression": "tiff_adobe_deflate"}),
        ("TIFF RGBA", "TIFF", rgba, seen, {}),
        ("TIFF LA", "TIFF", la, on_white(grey(GREY), ALPHA), {}),
        ("TIFF RGBX", "TIFF", rgb.convert("RGBX"), COLOUR, {}),
        ("TIFF CMYK", "TIFF", rgb.convert("CMYK"), COLOUR, {}),
        ("TIFF L", "TIFF", Image.fromarray(GREY), grey(GREY), {}),
        ("TIFF 1", "TIFF", Image.fromarray(~HALF), grey(255 * ~HALF), {}),
        ("TIFF P", "TIFF", rgb.quantize(8), COLOUR, {}),
        ("TIFF 16", "TIFF", Image.fromarray(GREY.astype(np.uint16) * 256 + 9), grey(GREY), {}),
        ("TIFF 16 big endian", "TIFF", big_endian, grey(GREY), {}),
        ("TIFF 32", "TIFF", Image.fromarray(GREY.astype(np.int32) * 256 + 9), grey(GREY), {}),
        ("WEBP RGB", "WEBP", rgb, COLOUR, {"lossless": True}),
        ("WEBP RGBA", "WEBP", rgba, seen, {"lossless": True, "exact": True}),
        ("JPEG RGB", "JPEG", rgb, COLOUR, {"quality": 100, "subsampling": 0}),
        ("JPEG L", "JPEG", Image.fromarray(GREY), grey(GREY), {"quality": 100}),
        ("JPEG CMYK", "JPEG", rgb.convert("CMYK"), COLOUR, {"quality": 100}),
        ("MPO", "MPO", rgb, COLOUR, {"quality": 100, "subsampling": 0, "save_all": True, "append_images": [rgb]}),
        ("AVIF RGB", "AVIF", rgb, COLOUR, {"quality": 100, "subsampling": "4:4:4"}),
        ("AVIF RGBA", "AVIF", rgba, seen, {"quality": 100, "subsampling": "4:4:4"}),
    ):  # fmt: skip
        if form != "AVIF" or features.check("avif"):
            yield name, saved(image, form, orientation, **options), right


def files_without_exif():
    def plain(image, form, **options):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    rgb, rgba = Image.fromarray(COLOUR), Image.fromarray(np.dstack([COLOUR, ALPHA]))
    palette = Image.fromarray(np.where(HALF, 1, 0).astype(np.uint8), "P")
    palette.putpalette([240, 30, 30, 20, 40, 90])
    flat = np.where(HALF[..., None], (20, 40, 90), (240, 30, 30))
    gone = np.where(HALF[..., None], 255, flat)
    yield "GIF", plain(palette, "GIF"), flat
    yield "GIF transparent", plain(palette, "GIF", transparency=1), gone
    frames = {"save_all": True, "append_images": [Image.new("P", (WIDTH, HEIGHT))], "transparency": 1}
    yield "GIF animation", plain(palette, "GIF", **frames), gone
    yield "GIF grey transparent", plain(Image.fromarray(GREY), "GIF", transparency=60), grey(np.where(HALF, 255, 200))
    yield "BMP", plain(rgb, "BMP"), COLOUR
    yield "PPM", plain(rgb, "PPM"), COLOUR
    yield "PPM 16", plain(Image.fromarray(GREY.astype(np.int32) * 257), "PPM"), grey(GREY)
    yield "PBM", plain(Image.fromarray(~HALF), "PPM"), grey(255 * ~HALF)
    if features.check("jpg_2000"):
        yield "JPEG 2000", plain(rgb, "JPEG2000"), COLOUR
        yield "JPEG 2000 RGBA", plain(rgba, "JPEG2000"), on_white(COLOUR, ALPHA)
        yield "JPEG 2000 16", plain(Image.fromarray(GREY.astype(np.uint16) * 257), "JPEG2000"), grey(GREY)
