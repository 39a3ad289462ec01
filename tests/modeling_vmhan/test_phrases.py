"""Phrases of captions by rule: verbatim, in order, without talk about the image."""

import ast

import pytest
from paths import MNRE_DATA

from modeling_vmhan.phrases import MAX_WORDS, content_words, noun_phrases, token_phrases


CAPTIONS = MNRE_DATA / "captions" / "llava_next_val.txt"


LONG = [f"noun{i}" for i in range(MAX_WORDS + 3)]


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A man in a dark suit speaking into a microphone.", ["man", "dark suit", "speaking", "microphone"]),
        ("The image shows a photo of a red carpet.", ["red carpet"]),
        ("A tall building, two men, and a parking lot", ["tall building", "two men", "parking lot"]),
        ("Will Smith smiles; Beijing at night", ["Will Smith smiles", "Beijing", "night"]),
        ("black and white", []),
        ("   ...  ", []),
        # verbatim, in order, each once without case
        ("A Red  Car near the red car: a man's   dog, Red  Car", ["Red  Car", "red car", "man's   dog"]),
        ("The Dog and the dog", ["Dog"]),
        ("कमला दिल्ली में, राम", ["कमला दिल्ली में", "राम"]),  # a mark does not end a word
        ("José of Ha\u0300 Nô\u0323i", ["José", "Ha\u0300 Nô\u0323i"]),
        ("کتاب‌ها the می‌خواهد", ["کتاب‌ها", "می‌خواهد"]),
        (" ".join(LONG), [" ".join(LONG[:MAX_WORDS]), " ".join(LONG[MAX_WORDS:])]),
    ],
)
def test_phrases_are_runs_between_function_words_and_punctuation(caption, phrases):
    assert noun_phrases(caption) == phrases
    assert [noun_phrases(caption, limit) for limit in (0, 1)] == [[], phrases[:1]]


@pytest.mark.parametrize(
    ("sentence", "phrases"),
    [
        ("a man in a dark suit speaking into a microphone", ["man", "dark suit", "speaking", "microphone"]),
        ("RT @nasa : New moon photo // http://t.co/x &amp; & amp ; stars", ["New moon", "stars"]),
        ("# Brexit : Anna 's old house", ["Brexit", "Anna", "old house"]),
        ("(Oslo, Norway) , red and white", ["(Oslo,", "Norway)"]),
        ("राम दिल्ली में , Jose\u0301 lives", ["राम दिल्ली में", "Jose\u0301 lives"]),
        ("Will Smith will go ; X", ["Will Smith", "go"]),
        ("", []),
    ],
)
def test_phrases_of_tokens(sentence, phrases):
    tokens = sentence.split()
    assert [" ".join(tokens[start:end]) for start, end in token_phrases(tokens)] == phrases


def test_phrases_of_tokens_stop_at_blocked_ones_and_are_cut():
    assert token_phrases(LONG) == [(0, MAX_WORDS), (MAX_WORDS, MAX_WORDS + 3)]
    assert token_phrases(LONG, blocked={1, 2}) == [(0, 1), (3, MAX_WORDS + 3)]
    assert token_phrases(["", " ", "a"]) == []


def test_content_words():
    assert content_words("The old man and Will Smith's DOG, will") == {"old", "man", "will", "smith's", "dog"}
    assert content_words("Will this") == {"will"}
    assert content_words("कमला की दिल्ली") == {"कमला", "की", "दिल्ली"}


@pytest.mark.skipif(not CAPTIONS.is_file(), reason=f"no real captions at {CAPTIONS}")
def test_real_captions_give_short_verbatim_phrases():
    captions = [ast.literal_eval(line)["text"].strip() for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    phrases = [noun_phrases(caption) for caption in captions]
    assert all(phrase in caption for caption, found in zip(captions, phrases, strict=True) for phrase in found)
    assert all(len(phrase.split()) <= MAX_WORDS for found in phrases for phrase in found)
    assert sum(map(bool, phrases)) / len(captions) > 0.99
