"""Files made to hurt: programs that a format starts, bombs, damage. Each is a ValueError that names the picture."""

import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib

import pytest
from picture_files import COLOUR, files_without_exif, hand_made_pngs, pillows_files, png, png_chunk
from PIL import EpsImagePlugin, Image

from modeling_vmhan.images import FORMATS, image_size, load_image, open_image


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
%%EndComments
newpath 0 0 10 10 rectfill
%%EOF
"""


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A `gs` that leaves a trace when it is started."""
    folder, trace = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    program = folder / "gs"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


@pytest.mark.skipif(os.name == "nt", reason="the program is a shell script")
def test_postscript_starts_no_program(ghostscript, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(EPS)
    for source in (EPS, path, {"bytes": EPS, "path": "photo.jpg"}):
        for read in (load_image, image_size, open_image):
            with pytest.raises(ValueError, match=r"of JPEG, PNG.*%!PS-Adobe"):
                read(source)
    with pytest.raises(ValueError, match="photo.jpg: expected .*JPEG, PNG.* format 'EPS'"):
        load_image(Image.open(path))
    assert not ghostscript.exists()
    with pytest.raises(OSError):  # what the trap catches
        Image.open(path).load()
    assert ghostscript.exists()


def others():
    """(name, bytes) of formats that Pillow would open and posts do not have."""
    picture = Image.fromarray(COLOUR)
    for form in ("EPS", "PDF", "PCX", "SGI", "TGA", "DDS", "IM", "MSP", "XBM", "ICNS", "ICO", "SPIDER", "QOI", "BLP"):
        buffer = io.BytesIO()
        mode = {"MSP": "1", "XBM": "1", "SPIDER": "F", "BLP": "P", "ICNS": "RGBA"}.get(form, "RGB")
        try:
            picture.convert(mode).save(buffer, form)
        except (OSError, KeyError):  # not built in, or not written by this version
            continue
        yield form, buffer.getvalue()
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "WMF", b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(40)
    yield "PSD", b"8BPS\0\x01" + bytes(40)
    yield "FITS", b"SIMPLE  =                    T".ljust(2880)
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(40)
    yield "FLI", bytes(4) + b"\x11\xaf" + bytes(200)


@pytest.mark.parametrize(("form", "data"), [pytest.param(*case, id=case[0]) for case in others()])
def test_formats_that_posts_do_not_have_are_named_with_those_that_they_do(form, data):
    with pytest.raises(ValueError, match=f"image of {len(data)} bytes: .*{', '.join(FORMATS)}"):
        load_image(data)


BOMB = "exceeds limit of 178956970 pixels"  # as Pillow says it


def bombs():
    """(name, file) of few bytes that would decode to gigabytes."""

    def header(width, height, colour_type=2):
        return b"\x89PNG\r\n\x1a\n" + png_chunk(
            b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
        )

    body = png_chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + png_chunk(b"IEND", b"")
    yield "PNG 13,000 x 13,700", header(13_000, 13_700) + body, "13000 x 13700"
    yield "PNG 2^31", header(2**31 - 1, 2**31 - 1) + body, BOMB
    yield "PNG one line", header(2**31 - 1, 1) + body, BOMB
    yield (
        "BMP",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
        BOMB,
    )
    yield (
        "GIF",
        b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
        + b"\x08\x01\x00\x00;",
        BOMB,
    )
    yield (
        "GIF frame beyond the screen",
        b"GIF89a"
        + struct.pack("<HHBBB", 5, 5, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
        + b"\x08\x01\x00\x00;",
        "",
    )
    yield "PPM", b"P6 99999 99999 255\n", BOMB
    entries = [
        (256, 4, 1, 60_000),
        (257, 4, 1, 60_000),
        (258, 3, 1, 8),
        (259, 3, 1, 5),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, 60_000),
        (279, 4, 1, 9),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    yield "TIFF", b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4), BOMB
    for side, size in ((12_000, "12000 x 12000"), (16_383, "")):  # Pillow itself refuses the second, by its pixels
        wide = io.BytesIO()
        Image.new("L", (side, side)).save(wide, "WEBP", lossless=True)
        yield f"WEBP {side}", wide.getvalue(), size


READ = """
import json, resource, sys
from modeling_vmhan.images import load_image
said, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    for max_side in (None, 32):
        try:
            said.append(f"read {load_image(path, max_side=max_side)}")
        except ValueError as error:
            said.append(str(error))
print(json.dumps([said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_bombs_are_named_from_their_headers_in_little_memory(tmp_path):
    named = list(bombs())
    paths = [tmp_path / str(number) for number in range(len(named))]
    for path, (_, data, _) in zip(paths, named):
        path.write_bytes(data)
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    said, kilobytes = json.loads(done.stdout.splitlines()[-1])
    for path, (name, _, size), lines in zip(paths, named, zip(said[::2], said[1::2]), strict=True):
        for line in lines:
            assert f"image '{path}'" in line and size in line, (name, line)
            assert size in ("", BOMB) or "max_pixels=67,108,864" in line, (name, line)
    assert kilobytes < 60_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_a_large_picture_with_transparency_is_in_memory_twice_and_not_more(mode, tmp_path):
    """Strips are converted: 4096 x 4096 pixels of 4 bytes are 64 MiB, as is the RGB picture that is made of them."""
    Image.new("RGBA", (4096, 4096), (9, 9, 9, 90)).convert(mode).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "a.png"], capture_output=True, text=True, timeout=120
    )
    said, kilobytes = json.loads(done.stdout.splitlines()[-1])
    assert [line.split()[0] for line in said] == ["read", "read"] and kilobytes < 175_000


def test_text_and_profiles_do_not_unpack_to_gigabytes():
    whole, large = png(COLOUR, 8, 2), zlib.compress(bytes(200 << 20), 9)
    heads = {b"zTXt": b"Comment\0\0", b"iCCP": b"icc\0\0", b"iTXt": b"a\0\1\0\0\0"}
    tracemalloc.start()
    try:
        for kind, head in heads.items():
            for place in (33, len(whole) - 12):  # before the pixels and after them
                assert is_handled(whole[:place] + png_chunk(kind, head + large) + whole[place:])[0]
        many = whole[:33] + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 200 + whole[33:]
        with pytest.raises(ValueError, match=f"image of {len(many)} bytes: .*MAX_TEXT_MEMORY"):
            load_image(many)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_thousands_of_frames_one_is_read(form):
    frames = [Image.new("L", (300, 300), i % 256) for i in range(400)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    start = time.monotonic()
    assert load_image(buffer.getvalue()).size == (300, 300)
    assert time.monotonic() - start < 2


def absurd_tiffs():
    """A TIFF of 8 x 8 in which one field after the other has an absurd value."""
    fields = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 8, 279: 64, 274: 1, 317: 1, 339: 1}
    for tag in fields:
        for value in (0, 2, 65_535, 2**31, 2**32 - 1):
            for count in (1, 0, 2**32 - 1):
                entries = [(t, 4, count if t == tag else 1, value if t == tag else v) for t, v in fields.items()]
                table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
                head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + bytes(4)
                yield head.ljust(200, b"\0") + bytes(range(64))


def is_handled(data):
    """Whether a file is a picture of its own size or an error that names it; and how long that took."""
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = load_image(data, max_pixels=1 << 20)
        handled = image.mode == "RGB" and image.width * image.height <= 1 << 20
    except ValueError as error:
        handled = str(error).startswith(f"image of {len(data)} bytes: ")
    return handled, time.monotonic() - start


def test_absurd_tiffs():
    results = [is_handled(data) for data in absurd_tiffs()]
    assert len(results) == 180 and all(handled for handled, _ in results)
    assert max(seconds for _, seconds in results) < 5


def damaged(rng, data):
    """A file cut, with bytes changed, taken out or put in, and often with the PNG's checksums made right again."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        place = min(int(rng.expovariate(1 / 60)) if rng.random() < 0.6 else rng.randrange(len(data)), len(data) - 1)
        kind = rng.randrange(5)
        if kind == 0:
            data[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 1:
            del data[place : place + rng.randrange(1, 9)]
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            data[place : place + 4] = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**16, 2**31, 2**32 - 1)))
        else:
            data = data[: max(place, 20)]
        data = data or bytearray(b"x")
    return bytes(data)


def all_files():
    yield from (data for _, data, _ in hand_made_pngs())
    yield from (data for _, data, _ in pillows_files(6))
    yield from (data for _, data, _ in files_without_exif())


def test_damaged_files_are_pictures_or_errors_that_name_them():
    rng, files = random.Random(17), list(all_files())
    failures, slowest = [], 0.0
    for number in range(3_000):
        data = damaged(rng, files[number % len(files)])
        handled, seconds = is_handled(data)
        slowest = max(slowest, seconds)
        if not handled:
            failures.append(data[:40])
    assert not failures and slowest < 5


def test_every_file_cut_anywhere():
    for data in all_files():
        for end in range(0, len(data) - 1, max(1, len(data) // 40)):
            assert is_handled(data[:end])[0], data[:end]
