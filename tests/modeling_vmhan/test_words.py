"""Tokens of any text, and errors about mentions whose length and time are bounded."""

import time
import unicodedata

import hypothesis.strategies as st
import pytest
import regex
from hypothesis import example, given

from modeling_vmhan.posts import sentence_of
from modeling_vmhan.words import (
    LONGEST,
    close_matches,
    find_mention,
    find_words,
    shortened,
    tokenize,
    widened,
)


# letters of many scripts with and without spaces, their marks, joiners, emoji and what makes them one, and odd signs
ALPHABET = (
    "ab1_Z9é İß’'#-. \t\n\u00a0\u200b\u200c\u200d\u00ad\u2060\ufeff\u200e\u0301\u0323\ufe0f\u20e3\U0001f3fd"
    "कमलाी्षर০কাதமிழ்مُحَمَّשָׁם王芳々カーがｶﾞ๒ค้ำຄຳកម្ពមာန်철수ᄀ각는👨👩❤ℹ🇩🇪🇫\u0600\u0d4e\x00\x1c\r"
)
TEXTS = st.text(st.sampled_from(ALPHABET), max_size=24) | st.text(max_size=24)


def is_space(character):
    return character.isspace() or character == "\u200b"


@given(TEXTS)
@example("\u0d4e王")
@example("1\ufe0f\u20e32\ufe0f\u20e3a")
def test_tokens_are_all_of_a_text_but_its_white_space_and_cut_no_character(text):
    spans = tokenize(text)
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered == {i for i, character in enumerate(text) if not is_space(character)}
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])) and all(start < end for start, end in spans)
    borders = {border for span in spans for border in span}
    for match in regex.finditer(r"\X", text):
        if not any(is_space(character) for character in match.group()):
            assert not borders & set(range(match.start() + 1, match.end()))


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_quick_way_for_ascii_is_the_same(text):
    """A letter of another script behind a space keeps the general way."""
    assert tokenize(text) == tokenize(text + " é")[:-1]


@given(TEXTS)
def test_any_token_that_stands_once_is_found_where_it_is(text):
    spans = tokenize(text)
    words = [unicodedata.normalize("NFC", text[start:end]) for start, end in spans]
    for span, word in zip(spans, words):
        if any(other.startswith(word) and regex.match(r"\p{Hangul}", other, pos=len(word)) for other in words):
            continue  # perhaps with Korean particles
        assert find_words(text[slice(*span)], text) == spans[words.index(word)]
        if words.count(word) == 1:
            assert find_mention(text[slice(*span)], *sentence_of({"text": text}), "x") == span


@given(TEXTS, st.data())
def test_what_is_found_is_whole_tokens_and_the_same_text(text, data):
    spans = tokenize(text)
    if spans:
        first = data.draw(st.integers(0, len(spans) - 1))
        last = data.draw(st.integers(first, len(spans) - 1))
        mention = text[spans[first][0] : spans[last][1]]
        for form in ("NFC", "NFD"):
            start, end = find_words(unicodedata.normalize(form, mention), text)
            assert unicodedata.normalize("NFC", text[start:end]) == unicodedata.normalize("NFC", mention)
            assert start in {span[0] for span in spans}


@pytest.mark.parametrize(
    ("mention", "text", "count"),
    [
        ("哈哈", "哈哈哈", "2 times"),  # places that overlap are two
        ("a a", "a a a", "2 times"),
        ("Ann", "Ann " * 10, "10 times"),
        ("Ann", "Ann " * 11, "more than 10 times"),
        ("José", "José Jose\u0301", "2 times"),  # one name, written in two ways
        ("철수", "철수는 철수가", "2 times"),
        ("🎉", "🎉🎉", "2 times"),
    ],
)
def test_all_places_of_a_mention_count(mention, text, count):
    with pytest.raises(ValueError, match=f"is {count}.*characters"):
        find_mention(mention, *sentence_of({"text": text}), "x")


@pytest.mark.parametrize(
    ("mention", "text", "nearest"),
    [
        ("कमल", "कमला दिल्ली में है", r"\[कमला\] .*\(0, 4\)"),
        ("Oslo", "in Ｏｓｌｏ", r"\[Ｏｓｌｏ\] at characters \(3, 7\)"),  # full-width letters
        ("محمد", "مُحَمَّدٌ هنا", r"\(0, 9\)"),
        ("STRASSE", "die Straße", r"\[Straße\]"),
        ("王小方", "王小芳出生在上海", r"\[王小芳\]出生"),
        ("Anns dog", "see Ann's dog", r"\[Ann's dog\]"),
        ("👋", "hi 👋🏽", r"\[👋🏽\]"),
        ("القاهرة", "سافر بالقاهرة", r"\[القاهرة\] at characters \(6, 13\)"),
    ],
)
def test_the_nearest_is_named_in_whole_characters(mention, text, nearest):
    with pytest.raises(ValueError, match=f"is not in the sentence.*{nearest}"):
        find_mention(mention, *sentence_of({"text": text}), "x")


LONG = 30_000
HARD = {
    "words": "Ann met " * LONG, "one word": "a" * 10 * LONG, "one sign": "哈" * 5 * LONG, "period": "ab " * 3 * LONG,
    "flags": "🇩🇪" * LONG, "families": "👨‍👩‍👧" * LONG, "marks": "a" + "\u0301" * 3 * LONG,
    "joiners": "\u0600\u00ad" * 5 * LONG, "word joiners": "a" + "\u2060" * 9 * LONG,
    "korean": "철수는 " * LONG, "blank": " " * LONG,
}  # fmt: skip
MENTIONS = {
    "letters": "a" * LONG, "signs": "哈" * LONG + "x", "places": "哈" * LONG, "period": "ab " * (LONG // 3) + "a",
    "long": "abba" * (LONGEST // 4), "longer": "abab " * LONGEST, "korean": "철수 " * 1000 + "철수",
    "short": "Anm mett",
}  # fmt: skip


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
@pytest.mark.parametrize("mention", MENTIONS.values(), ids=MENTIONS)
def test_an_error_about_a_mention_is_short_and_quick(mention, text):
    sentence = sentence_of({"text": text})
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="post 7, head: ") as caught:
        find_mention(mention, *sentence, "post 7, head")
    assert time.perf_counter() - begun < 5 and len(str(caught.value)) < 1000


def test_what_is_near_is_sought_among_short_words_and_in_the_beginning_of_a_text():
    """difflib takes time with the square of the lengths, here of as many candidates as there can be."""
    words = " ".join(f"{a}{b}{c}ahmed" for a in "abcdefghij" for b in "abcdefghij" for c in "klmn")
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="Nearest: .*ahmed"):
        find_mention("xahmed", *sentence_of({"text": words * 100}), "x")
    assert time.perf_counter() - begun < 2
    assert close_matches("k" * (LONGEST + 1), ["k" * (LONGEST + 1)]) == []
    assert close_matches("tetx", ["text", "k" * 10**6, "tokens"]) == ["text"]


def test_shortened():
    assert shortened("ab", 2) == "ab" and shortened("abc", 2) == "ab..."


@pytest.mark.parametrize("text", ["🇩🇪" * 100_000, "a" + "🇩" * 200_001, "a🇩🇪\u0301" * 50_000])
def test_a_row_of_flags_takes_time_with_its_length(text):
    begun = time.perf_counter()
    tokens = tokenize(text)
    assert time.perf_counter() - begun < 5
    assert tokens[-1][1] == len(text) and max(end - start for start, end in tokens) <= 3


def test_pairs_of_a_long_sentence_share_its_pieces(monkeypatch):
    """What is as long as the sentence is done once for all mentions, given as strings or as spans."""
    text, calls = "José met Ann. " + "wé " * 5000, []
    monkeypatch.setattr("modeling_vmhan.words.tokenize", lambda part: calls.append(part) or tokenize(part))
    sentence = sentence_of({"text": text})
    for mention, span in (("José", (0, 4)), ("Ann", (9, 12))) * 10:
        assert find_mention(mention, *sentence, "x") == span == widened(span, text)
    assert calls.count(text) == 1
