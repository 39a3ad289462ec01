"""Text in pictures: no crossed boxes, words in the order in which they are read, and a note on what is missing.

Fonts are those that a test lists: matplotlib ships DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and Hebrew
letters and some emoji, but no Chinese, Hindi or Thai ones.
"""

import importlib.util
import io
import re
from pathlib import Path

import numpy as np
import pytest
import regex
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont, features

from modeling_vmhan import fonts
from modeling_vmhan.drawing import FONT_SIZE, NODE_COLOURS, WIDTH, _wrapped, draw_explanation
from modeling_vmhan.fonts import draw_text, is_right_to_left, missing_note, text_length, visual_order


MATPLOTLIB = importlib.util.find_spec("matplotlib")
DEJAVU = MATPLOTLIB and Path(MATPLOTLIB.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
ARABIC, HEBREW, CHINESE, HINDI = "أحمد علي", "דוד", "王芳出生在上海", "कमला दिल्ली में"


@pytest.fixture
def only(monkeypatch):
    """Make these font files the only ones on the machine."""

    def make(*names):
        monkeypatch.setattr(fonts, "FONTS", ("", *map(str, names)))
        for cached in (fonts._has, fonts._font):
            cached.cache_clear()

    yield make
    for cached in (fonts._has, fonts._font):
        cached.cache_clear()


@pytest.fixture(params=["Pillow's font", "DejaVu"])
def with_fonts(request, only):
    if request.param == "DejaVu" and not DEJAVU:
        pytest.skip("matplotlib is not installed")
    only(*([DEJAVU] if request.param == "DejaVu" else []))


@pytest.fixture(params=[True, False], ids=["raqm", "no raqm"])
def shaping(request, monkeypatch):
    if request.param and not features.check("raqm"):
        pytest.skip("Pillow has no raqm here")
    if not request.param:
        check, truetype = features.check, ImageFont.truetype

        def basic(name, size, layout_engine=None):
            return truetype(name, size, layout_engine=ImageFont.Layout.BASIC)

        monkeypatch.setattr(features, "check", lambda name: name != "raqm" and check(name))
        monkeypatch.setattr(ImageFont, "truetype", basic)
    return request.param


def written(text, size=30, **options):
    image = Image.new("RGB", (max(1, round(text_length(text, size))) + 40, 60), "white")
    draw_text(image, (10, 5), text, "black", size, **options)
    return np.asarray(image)


def letters_of(font):
    """What a font has, by its own table."""
    source = io.BytesIO(font.font_bytes) if hasattr(font, "font_bytes") else font.path
    return set(TTFont(source, fontNumber=0).getBestCmap())


@pytest.fixture
def drawn(monkeypatch):
    """The (text, font) pairs that are given to Pillow."""
    given, write = [], ImageDraw.ImageDraw.text

    def text(self, xy, text, fill=None, font=None, *args, **options):
        given.append((text, font))
        return write(self, xy, text, fill, font, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return given


HOSTILE = (
    "Ann", "José Müller", "Cafe\u0301", "Łukasz Żółć", "Ωmega", "Жанна", ARABIC, HEBREW, CHINESE, HINDI, "สมชาย",
    "田中 김민수",
    "😀", "👨‍👩‍👧", "🇪🇸", "❤️", "1️⃣", "a\u200db", "a\u200eb", "\ufe0f", "\u0301", "\x07", "a\u00a0b", "\u2028", "\u3000",
    "\ud83d", "\ue000", "\U0010ffff", "\ufffe", "“quoted” — … •", "½ € ™ ²", "→ ➜", "", " ",
    "A\u0301\u0302\u0303" * 20,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_font_is_asked_for_what_it_does_not_have(text, with_fonts, shaping, drawn):
    """Which it would draw as a crossed box."""
    missing_note([text])  # so that what `_has` draws to find out is not among what is drawn below
    text_length(text, 30)
    drawn.clear()
    for rtl in (False, True):
        written(text, rtl=rtl)
    for part, font in drawn:
        unseen = fonts.INVISIBLE if font.layout_engine == ImageFont.Layout.RAQM else regex.compile(" ")
        assert {ord(letter) for letter in unseen.sub("", part)} <= letters_of(font)
    assert drawn or not text.strip()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_is_missing_is_named_and_nothing_else(text, with_fonts):
    note = missing_note([text])
    found = [cluster for cluster in fonts._clusters(text) if fonts._font_of(cluster) is None]
    assert bool(note) == bool(found)
    for cluster in found[:1]:
        assert f"U+{ord(fonts.INVISIBLE.sub('', cluster)[0]):04X}" in note and "fonts-noto-cjk" in note


@pytest.mark.skipif(not DEJAVU, reason="matplotlib is not installed")
def test_accents_and_scripts_that_a_font_has_are_drawn_by_it(only):
    texts = ["José", "Łukasz", "Жанна", ARABIC, HEBREW, "😀"]
    only()
    assert all(f"U+{ord(text[-1]):04X}" in missing_note([text]) for text in ("José", "Жанна", HEBREW, "😀"))
    assert (written("José") == written("Jose")).all()  # without its accent, which the note says
    assert (written("王") == written("?")).all()
    only(DEJAVU)
    assert missing_note(texts) == "" and "U+738B" in missing_note([CHINESE])
    font = ImageFont.truetype(str(DEJAVU), 30)
    assert text_length("José", 30) == font.getlength("José")  # the whole word by one font
    assert text_length("Jose\u0301", 30) == text_length("José", 30)
    assert text_length("Ann", 30) == ImageFont.load_default(30).getlength("Ann")


def test_a_missing_character_is_warned_of_once(only, monkeypatch):
    only()
    said = []
    monkeypatch.setattr(fonts, "warn_once", lambda logger, message: said.append(message))
    note = missing_note([CHINESE, "Ann"])
    assert said == [note] and note.count("U+") == 7
    many = missing_note(["".join(map(chr, range(0x4E00, 0x4E64)))])
    assert many.count("U+") == fonts.LISTED and f"and {100 - fonts.LISTED} more" in many


def test_a_font_that_has_pictures_in_one_size_is_shrunk(only, monkeypatch):
    """As Noto Color Emoji, which opens in size 109 alone."""
    truetype = ImageFont.truetype

    def only_109(name, size, **options):
        if name == "pictures" and size != 109:
            raise OSError("invalid pixel size")
        return truetype(str(DEJAVU), size, **options) if name == "pictures" else truetype(name, size, **options)

    if not DEJAVU:
        pytest.skip("matplotlib is not installed")
    only("pictures")
    monkeypatch.setattr(ImageFont, "truetype", only_109)
    assert missing_note(["😀"]) == ""
    assert text_length("😀", 30) == pytest.approx(truetype(str(DEJAVU), 109).getlength("😀") * 30 / 109)
    rows, columns = np.nonzero(written("😀").min(axis=-1) < 128)
    assert 8 < np.ptp(rows) < 40 and 8 < np.ptp(columns) < 40


@pytest.mark.parametrize(
    ("text", "rtl", "expected"),
    [
        ("Ann met Bob", False, "Ann met Bob"),
        ("א ב ג", True, "ג ב א"),
        ("א Ann Lee ב", True, "ב Ann Lee א"),
        ("א 12 ב 2024", True, "2024 ב 12 א"),
        ("א Route 66 ב", True, "ב Route 66 א"),
        ("Ann met א ב in Oslo", False, "Ann met ב א in Oslo"),
        ("Ann met א , ב !", False, "Ann met ב , א !"),
        ("", False, ""),
        (" ", True, " "),
    ],
)
def test_words_stand_in_the_order_in_which_they_are_read(text, rtl, expected):
    """Hebrew words of one letter, so that their own letters need no turning."""
    words = re.findall(r"\s+|\S+", text)
    assert "".join(words[i] for i in visual_order(words, rtl)) == expected
    if text.strip():
        assert is_right_to_left(text) == (text[0] == "א")


def explained(text, head, tail):
    def node(kind, words):
        start = text.index(words)
        return {"kind": kind, "text": words, "characters": [start, start + len(words)], "box": None, "weight": 0.5}

    members = [{"node": i, "weight": 0.5} for i in (0, 1)]
    return {
        "nodes": [node("head", head), node("tail", tail)],
        "hyperedges": [{"name": head, "weight": 1, "members": members}],
    }


@pytest.mark.parametrize(
    ("text", "head", "tail", "is_reversed"),
    [
        ("Ann met Bob", "Ann", "Bob", False),
        ("אן פגשה בוב", "אן", "בוב", True),
        (f"{ARABIC} يسكن في أوسلو منذ 2024.", ARABIC, "أوسلو", True),
        ("王芳出生在上海。", "王芳", "上海", False),
        ("สมชายอยู่ที่กรุงเทพ", "สมชาย", "กรุงเทพ", False),
        ("Ann met José", "Ann", "José", False),
    ],
)
def test_a_sentence_is_explained_in_its_direction_and_only_the_mentions_are_marked(
    text, head, tail, is_reversed, with_fonts, monkeypatch
):
    boxes, rounded = {}, ImageDraw.ImageDraw.rounded_rectangle

    def rounded_rectangle(self, box, *args, fill, **options):
        boxes[fill] = [*boxes.get(fill, []), box]
        return rounded(self, box, *args, fill=fill, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rounded_rectangle", rounded_rectangle)
    picture = draw_explanation(explained(text, head, tail), text, None, f"{head} -> {tail}")
    for kind, words in (("head", head), ("tail", tail)):
        grounds = boxes[NODE_COLOURS[kind]]  # of each word and space, side by side
        width = sum(text_length(word, FONT_SIZE) for word in regex.findall(r"\s+|\S+", words))
        assert max(box[2] for box in grounds) - min(box[0] for box in grounds) == pytest.approx(width + 6, abs=3)
    left = [boxes[NODE_COLOURS[kind]][0][0] for kind in ("head", "tail")]
    assert (left[0] > left[1]) == is_reversed
    plain = draw_explanation(explained("Ann met Bob", "Ann", "Bob"), "Ann met Bob", None, "peer")
    assert picture.width == WIDTH // 2 and (picture.height > plain.height) == bool(missing_note([text]))


@pytest.mark.parametrize(
    "text", [CHINESE * 40, "a" * 500, "สมชายอยู่ที่กรุงเทพ" * 30, f"{ARABIC} " * 60, "😀" * 300, "  a  b  "]
)
def test_every_line_of_a_sentence_fits(text):
    lines = _wrapped(text, [3, 5], 38)
    assert all(sum(text_length(text[a:b], 38) for a, b in line) <= WIDTH - 112 for line in lines)
    covered = [place for line in lines for start, end in line for place in range(start, end)]
    assert covered == sorted(set(covered))
    assert {place for place in range(len(text)) if not text[place].isspace()} <= set(covered)
