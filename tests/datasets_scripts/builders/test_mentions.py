"""A mention is the same words for a question, for the processor and for people's own data, in any script."""

import unicodedata

import pytest

from datasets_scripts.builders.mentions import Sentence
from modeling_vmhan.questions import read_question
from modeling_vmhan.words import find_words


def decomposed(text):
    return unicodedata.normalize("NFD", text)


FAMILY, WOMAN, KEYCAP, FLAGS, WAVE = "👨‍👩‍👧", "👩", "1️⃣", "🇩🇪🇫🇷", "👋🏽"

# name: (text, mentions that stand there once, mentions that do not)
SCRIPTS = {
    "english": (
        "Ann's dog met @Bob-Lee in #Oslo, U.S. 3.5",
        "Ann|Ann's|dog|Bob|@Bob|Oslo|#Oslo|U.S|U.S.|3.5|Lee",
        "An|og|Osl",
    ),
    "underscore": ("user_name and Ann_2 or Ann", "user_name|Ann_2|Ann", "user|name|2"),
    "german": (
        "Müller, Straße und Jürgens-Haus",
        "Müller|Straße|Jürgens|Haus",
        "Mull|Muller|Strasse|Jürgen|aus",
    ),
    "decomposed german": (decomposed("Müller trifft Jürgen"), "Müller|Jürgen", "Muller|Mu|ller|u"),
    "spanish": (decomposed("José met Jose"), "José|Jose", "Jos"),
    "turkish": (
        "İstanbul Ilıca ile ıslak Diyarbakır'da",
        "İstanbul|Ilıca|Diyarbakır",
        "Istanbul|istanbul|Ilica|I",
    ),
    "vietnamese": ("Nguyễn Văn Trỗi ở Hà Nội", "Nguyễn Văn Trỗi|Hà Nội|ở", "Nguyên|Ha|o|Van"),
    "decomposed vietnamese": (
        decomposed("Nguyễn Văn Trỗi ở Hà Nội"),
        "Nguyễn Văn Trỗi|Hà Nội|ở",
        "Nguyên|Ha|o|Van",
    ),
    "russian": ("Пу\u0301тин и Йод и Ёлка", "Пу\u0301тин|Йод|Ёлка", "Пу|Иод|Елка|тин"),
    "hindi": ("कमला दिल्ली में है, राम-सीता", "कमला|दिल्ली में|राम|सीता", "कमल|दिल्ल|ला|द|सीत|म"),
    "bengali": ("কমলা ঢাকায় থাকে", "কমলা|ঢাকায়", "কমল|ঢাকা|থাক"),
    "tamil": ("தமிழ் சென்னையில் கமலா", "தமிழ்|சென்னையில்|கமலா", "தமிழ|கமல|சென்னை"),
    "malayalam": ("കമല കേരളത്തിൽ മീര", "കമല|കേരളത്തിൽ|മീര", "കമ|കേരള|മീ"),
    "sinhala": ("ශ්‍රී ලංකාවේ කමල්", "ශ්‍රී ලංකාවේ|කමල්", "ශ්|රී|කමල"),
    "arabic": ("مُحَمَّدٌ في القَاهِرَة", "مُحَمَّدٌ|القَاهِرَة", "محمد|م|مُ|مُحَمَّد|قَاهِرَة"),
    "hebrew": ("שָׁלוֹם עֲלֵיכֶם לדוד", "שָׁלוֹם|עֲלֵיכֶם|לדוד", "שָׁל|ש|שלום|דוד"),
    "persian": ("کتاب‌ها را علی می‌خواهد", "کتاب‌ها|علی|می‌خواهد", "کتاب|ها|می|خواهد"),
    "chinese": (
        "王芳出生在上海，Ann住在iPhone店。２０２４年",
        "王芳|上海|Ann|住在|iPhone|２０２４|出生在上海|年",
        "An|Phone|２４|北京",
    ),
    "japanese": (
        "サッカーのメッシはデバイスＡ社でｶﾞｽ東京タワーへ",
        "メッシ|サッカー|東京タワー|デバイス|Ａ社|東京|ｶﾞｽ",
        "テハイス|ｶ|京都",
    ),
    "decomposed japanese": (decomposed("ガンダムがパリで"), "ガンダム|パリ|が", "カンタム|ハリ|か"),
    "thai": ("คุณสมชายอยู่ที่เชียงใหม่กับน้ำ๒๕๖๗", "สมชาย|เชียงใหม่|น้ำ|๒๕๖๗|อยู่", "ใหม|เช|น|น้|๒๕|ที"),
    "lao": ("ທ້າວຄຳຢູ່ວຽງຈັນ", "ຄຳ|ວຽງຈັນ|ຢູ່", "ຄ|ວຽງຈ|ຢູ"),
    "khmer": ("សុខនៅភ្នំពេញ", "សុខ|ភ្នំពេញ|នៅ", "ភ|ភ្ន|ស|នៅភ្នំព"),
    "myanmar": ("အောင်ဆန်းရန်ကုန်မှာ", "အောင်ဆန်း|ရန်ကုန်", "အောင|ရန|ရန်က|ဆန်"),
    "javanese": ("ꦱꦸꦏꦂꦤꦺꦴꦗꦏꦂꦠ", "ꦗꦏꦂꦠ|ꦱꦸꦏꦂꦤꦺꦴ", "ꦗꦏꦂꦠꦠ|ꦱ|ꦤ"),
    "tibetan": ("བསྟན་འཛིན་ལྷ་ས་", "བསྟན་འཛིན|ལྷ་ས|ལྷ", "བས|ལ|འཛི"),
    "korean": (
        "철수는 서울에서 영희씨에게 A조를 부산입니다",
        "철수|철수는|서울|영희|영희씨|A조|부산",
        "수|철|희|는|서울에|조|울에서",
    ),
    "korean in part": ("Samsung은 삼성SDI와 김민수를 SM에서", "Samsung|삼성SDI|SM|김민수", "삼성|SDI|민수|김민|S"),
    "decomposed korean": (decomposed("철수는 서울에 산다"), "철수|서울|산다", "처|철|산|수는"),
    "mongolian": ("ᠮᠣᠩᠭᠣᠯ\u180eᠠ ᠪᠠᠲᠤ", "ᠮᠣᠩᠭᠣᠯ\u180eᠠ|ᠪᠠᠲᠤ", "ᠮᠣᠩᠭᠣᠯ|ᠪᠠᠲ"),
    "soft hyphen": ("Konrad Aden\xadauer, Tele\u2060fon", "Konrad|Aden\xadauer|Tele\u2060fon", "Aden|auer|fon"),
    "zero width space": (
        "ភ្នំពេញ\u200bនៅ Ann\u200bBob",
        "ភ្នំពេញ|នៅ|Ann|Bob|\u200bBob\u200b",
        "AnnBob",
    ),
    "emoji": (
        f"Ann{FAMILY}{WAVE}{KEYCAP}{FLAGS} Bob❤️",
        f"Ann|Bob|{FAMILY}|{WAVE}|{KEYCAP}|🇩🇪|🇫🇷|{FLAGS}|❤️",
        f"{WOMAN}|👋|1|🇪🇫|👧|❤",
    ),
    "direction marks": ("\u200fדוד\u200e met \u2068Ann\u2069", "דוד|Ann", "וד|An"),
}  # fmt: skip
FOUND = [(name, text, mention) for name, (text, found, _) in SCRIPTS.items() for mention in found.split("|")]
ABSENT = [(name, text, mention) for name, (text, _, absent) in SCRIPTS.items() for mention in absent.split("|")]


def asked(mention, text):
    return read_question({"text": text, "head": mention, "tail": mention}, None).post["pairs"][0]["head"]


def own(mention, text):
    """The characters of the tokens that a mention in a row of people's own data becomes."""
    sentence = Sentence(text=text)
    start, end = sentence.span(mention, place="rows.jsonl, line 1", field="head")
    return sentence.borders[start][0], sentence.borders[end - 1][1]


@pytest.mark.parametrize(("script", "text", "mention"), FOUND)
def test_three_readers_find_the_same_words(script, text, mention):
    start, end = find_words(mention, text)
    assert unicodedata.normalize("NFC", text[start:end]) == unicodedata.normalize("NFC", mention.strip("\u200b"))
    assert asked(mention, text) == (start, end)
    first, last = own(mention, text)
    particles = text[end:last]  # a token is not parted for them
    assert first == start and (last == end if "korean" not in script else not set(particles) & set(" ,"))


@pytest.mark.parametrize(("script", "text", "mention"), ABSENT)
def test_none_of_them_finds_a_part_of_a_word_or_of_a_character(script, text, mention):
    assert find_words(mention, text) is None
    for read in (asked, own):
        with pytest.raises(ValueError, match="head.*is not in the sentence"):
            read(mention, text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("राम दिल्ली में रहता है", "राम दिल्ली में रहता है"),
        ("Ann住在上海", "Ann 住 在 上 海"),
        ("น้ำ๒๕๖๗ครับ", "น้ำ ๒๕๖๗ ค รั บ"),
        ("サッカーABC", "サ ッ カ ー ABC"),
        (f"hi{FAMILY}{FLAGS}{KEYCAP}2#", f"hi {FAMILY} 🇩🇪 🇫🇷 {KEYCAP} 2 #"),
        ("می‌خواهم!", "می‌خواهم !"),
        ("철수는 don’t", "철수는 don ’ t"),
        ("မာ", "မာ"),
        ("\u0301a \u0301b", "\u0301 a \u0301 b"),  # marks that stand behind no letter
        ("\u0600١٢ \u0600 x", "\u0600١٢ \u0600 x"),  # a sign that goes with the number behind it
    ],
)
def test_how_a_text_becomes_tokens(text, tokens):
    assert Sentence(text=text).tokens == tokens.split(" ")


@pytest.mark.parametrize(
    ("text", "span", "whole"),
    [
        (decomposed("José met Jose"), [0, 4], [0, 5]),
        (f"a {FAMILY} b", [2, 3], [2, 7]),
        ("🇩🇪🇫🇷", [1, 3], [0, 4]),
        ("คุณน้ำ", [3, 4], [3, 6]),
    ],
)
def test_a_span_that_cuts_a_character_is_an_error_with_the_whole_one(text, span, whole):
    with pytest.raises(ValueError, match=rf"line 1.*\[{span[0]}, {span[1]}\).*\[{whole[0]}, {whole[1]}\)"):
        own(span, text)
    with pytest.raises(ValueError, match=rf"head.*\({span[0]}, {span[1]}\).*\({whole[0]}, {whole[1]}\)"):
        asked(span, text)
    assert own(whole, text) == asked(whole, text) == tuple(whole)


def test_a_span_that_cuts_a_word_is_an_error_in_people_s_own_data():
    with pytest.raises(ValueError, match=r"\[0, 3\), 'कमल', which cuts one. Use \[0, 4\), 'कमला'"):
        own([0, 3], "कमला है")
