r"""What a word is, and whether a mention stands in a text as words of its own: one rule for every reader.

A text is a row of tokens, with white space between some of them (`tokenize`):

- A word is a run of letters, digits and underscores with their combining marks; joiners without width (ZWJ, ZWNJ, soft
  hyphen, word joiner) do not end it. Punctuation does, so that "Ann" is a word of "Ann's", "#Ann" and "Ann-Marie".
- In the scripts that write no spaces (UNSPACED) each grapheme cluster is a token, but for their digits: 王|芳|出|生.
- Every other grapheme cluster is one token: a comma, a flag, an emoji with its skin tone or a whole family of them.

A mention stands wherever its tokens do, with the same white space between them. Texts are compared in the normal form
NFC: an é is an é, in one character or in two. Korean particles may follow it in its last word (철수 in 철수는).
"""

import difflib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, islice, pairwise

import regex


__all__ = ["RUN", "Span", "close_matches", "find_mention", "find_words", "shortened"]
__all__ += ["tokenize", "tokens_of_span", "widened"]

Span = tuple[int, int]

LISTED = 10  # places that an error lists at most
LONGEST = 80  # characters of what something near is sought for, which takes time with their square
SEARCHED = 2000  # characters of the text where it is sought

# Chinese, Japanese, and South-East Asia. Tibetan is not among them: a mark parts its syllables.
UNSPACED = (
    r"\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Bopomofo}\u3006\u3031-\u3035\u303C\u30FC\uFF70\p{sc=Thai}\p{sc=Lao}"
    r"\p{sc=Khmer}\p{sc=Myanmar}\p{sc=Tai_Le}\p{sc=New_Tai_Lue}\p{sc=Tai_Tham}\p{sc=Javanese}\p{sc=Balinese}"
)
_LETTER = r"[\p{L}\p{N}_]--[0-9]--\p{GCB=Prepend}--\p{Extended_Pictographic}"
# Flags first, as \X counts all of a row of them for each; some vowel signs are clusters of their own to Unicode.
_CLUSTER = r"(?:\p{RI}{2}[\p{GCB=Extend}\p{GCB=SpacingMark}\u200D]*+|\X)(?:(?=\p{M})\X)*+"
# Letters with their marks; in front of each, joiners that are controls to Unicode, and signs that go with it.
_RUN = (
    r"(?![\u00AD\u180E\u2060\uFEFF])(?:[\u00AD\u180E\u2060\uFEFF\p{GCB=Prepend}]{0,8}+(?=[%s]|[0-9](?![\uFE0F\u20E3]))"
    rf"(?:.(?![\p{{M}}\p{{GCB=Extend}}\p{{GCB=SpacingMark}}\u200D])|{_CLUSTER}))++"
)
RUN = _RUN % _LETTER  # of any script
_WORD = _RUN % rf"{_LETTER}--[[{UNSPACED}]--\p{{Nd}}]"
_TOKEN = regex.compile(rf"{_WORD}|{_CLUSTER}", regex.VERSION1)
_CLUSTERS = regex.compile(_CLUSTER)
_SPACED = regex.compile(r"[^\s\x1C-\x1F\u200B]++")  # what stands between white space, and spaces without width
_ASCII_TOKEN = re.compile(r"\w+|[^\w\s\x1C-\x1F]", re.ASCII)  # the same for ASCII, in a fraction of the time

# What may follow a name in a Korean word, up to four of them: titles and plural, case and topic, copula.
_PARTICLES = regex.compile(
    r"(?:씨|님|들|네|은|는|이|가|을|를|의|에|에서|에게|에게서|에선|에는|한테|한테서|께|께서|과|와|도|만|로|으로|로서|으로서|로써|으로써"
    r"|까지|부터|마저|조차|밖에|처럼|같이|보다|라도|이라도|이나|든지|이든지|랑|이랑|하고|마다|뿐|대로|만큼|이다|입니다|이에요|예요"
    r"|이며|이고|인|이었다|였다|이자|라는|이라는|라고|이라고|이란|인데){1,4}"
)


def tokenize(text: str) -> list[Span]:
    """The character span of each token of `text`, by the rule at the top of this file.

    Example:
        >>> [text[start:end] for text in ["Ann's 2nd home"] for start, end in tokenize(text)]
        ['Ann', "'", 's', '2nd', 'home']
    """
    if text.isascii():
        return [match.span() for match in _ASCII_TOKEN.finditer(text)]
    return [token.span() for part in _SPACED.finditer(text) for token in _TOKEN.finditer(text, *part.span())]


def tokens_of_span(span: Span, offsets: list[Span]) -> Span | None:
    """Span of the tokens, given by their character spans, that the characters [start, end) touch; None without one."""
    inside = [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    return (inside[0], inside[-1] + 1) if inside else None


def find_words(phrase: str, text: str) -> Span | None:
    """Where `phrase` first stands in `text`, not inside longer words ("man" is not in "woman")."""
    return next(_places(phrase, text), None)


def _places(phrase: str, text: str) -> Iterator[Span]:
    """All places of `phrase` in `text`, also such as overlap.

    Each different piece of the phrase becomes one character, so that `str.find` finds the phrase in linear time, and
    only where whole tokens are.
    """
    spans, wanted = _pieces(phrase)
    if not wanted or "".join(wanted) not in _normal(text):
        return
    pieces, texts = _cached_pieces(text)
    ends = [end for _, end in pieces]
    if not text.isascii() and wanted.count(wanted[-1]) == 1:
        texts, ends = _without_particles(text, pieces, texts, wanted[-1])
    codes = {piece: chr(number) for number, piece in enumerate(dict.fromkeys(wanted), start=1)}
    code, haystack = "".join(map(codes.get, wanted)), "".join([codes.get(piece, "\0") for piece in texts])
    place = haystack.find(code)
    while place >= 0:
        yield pieces[place][0], ends[place + len(code) - 1]
        place = haystack.find(code, place + 1)


def _without_particles(text: str, pieces: list[Span], texts: list[str], last: str) -> tuple[list[str], list[int]]:
    """The pieces' texts and ends; where one is `last` with particles behind, these are left out."""
    texts, ends, count = list(texts), [end for _, end in pieces], len(_CLUSTERS.findall(last))
    for i, piece in enumerate(texts):
        if piece.startswith(last) and _PARTICLES.fullmatch(piece, len(last)):
            clusters = list(_CLUSTERS.finditer(text, *pieces[i]))
            texts[i], ends[i] = last, clusters[count - 1].end()
    return texts, ends


def _pieces(text: str) -> tuple[list[Span], list[str]]:
    """Tokens and, between each two, the white space, which may be empty: where they are, and what in normal form."""
    tokens = tokenize(text)
    gaps = [(left[1], right[0]) for left, right in pairwise(tokens)]
    spans = sorted([*tokens, *gaps])
    return spans, [_normal(text[start:end]) for start, end in spans]


_cached_pieces = lru_cache(maxsize=2)(_pieces)  # several phrases are sought in one text, which may be long


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def find_mention(mention: str, text: str, unit_spans: list[Span], name: str, *, first: bool = False) -> Span:
    """Where `mention` stands in `text`: as words of its own, and once, or with `first` where it stands first.

    The span is in units, whose character spans `posts.sentence_of` gives (a character, or a token); a token that the
    mention covers in part belongs to it. The ValueError of a mention that is absent, or there more than once, lists
    the candidates with their spans; `name` is of post and role.
    """
    if not tokenize(mention):
        raise ValueError(f"{name}: a mention must not be blank, received {shortened(mention)!r}.")
    places = list(islice(_places(mention, text), LISTED + 1))
    if len(places) == 1 or (first and places):
        return tokens_of_span(places[0], unit_spans)
    words = shortened(mention.strip())
    listed = "; ".join(_described(place, text, unit_spans) for place in (places or _nearest(mention, text))[:LISTED])
    if places:
        count = len(places) if len(places) <= LISTED else f"more than {LISTED}"
        raise ValueError(f"{name}: {words!r} is {count} times in the sentence, give its span: {listed}.")
    sentence = shortened(text)
    raise ValueError(f"{name}: {words!r} is not in the sentence {sentence!r}. Nearest: {listed or 'nothing'}.")


def _nearest(mention: str, text: str) -> list[Span]:
    """Places that differ in case or form, lie inside a longer word, or are spelt alike; best first."""
    words, text = _folded(mention.strip()), text[:SEARCHED]
    if len(words) > LONGEST:
        return []
    clusters = [match.span() for match in _CLUSTERS.finditer(text)]
    folded = [_folded(text[start:end]) for start, end in clusters]
    borders = list(pairwise(accumulate(map(len, folded), initial=0)))
    inside = islice(re.finditer(re.escape(words), "".join(folded)), LISTED)
    touched = [tokens_of_span(match.span(), borders) for match in inside]
    if touched:
        return [(clusters[first][0], clusters[end - 1][1]) for first, end in touched]
    tokens, windows = tokenize(text), {}
    ends = [end for _, end in tokens]
    for start, _ in tokens:  # the window from here whose length is nearest to the mention's
        at = bisect_left(ends, start + len(words))
        end = min(ends[max(at - 1, 0) : at + 1], key=lambda end: (end <= start, abs(end - start - len(words))))
        windows.setdefault(_folded(text[start:end]), (start, end))
    return [windows[near] for near in close_matches(words, windows, 3)]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text).casefold()


def _described(place: Span, text: str, unit_spans: list[Span]) -> str:
    """The words with some context, and their span in the units that spans count."""
    start, end = place
    where = f"characters {place}"
    if len(unit_spans) != unit_spans[-1][1]:
        where = f"tokens {tokens_of_span(place, unit_spans)} ({where})"
    words = shortened(text[start:end], 30)
    return f"{text[max(0, start - 12) : start]}[{words}]{text[end : end + 12]} at {where}".strip()


def close_matches(word: str, known: Iterable[str], count: int = 1, *, cutoff: float = 0.6) -> list[str]:
    """difflib's close matches, in milliseconds whatever the word: it takes time with the square of their lengths."""
    short = [each for each in known if len(each) <= 2 * LONGEST]
    return difflib.get_close_matches(word, short, count, cutoff) if len(word) <= LONGEST else []


@lru_cache(maxsize=1)
def _clusters_of(text: str) -> list[Span]:
    return [match.span() for match in _CLUSTERS.finditer(text)]


def widened(span: Span, text: str) -> Span:
    """The span of the whole grapheme clusters that the characters [start, end) of `text` touch."""
    if text.isascii():
        return span
    clusters = _clusters_of(text)
    first, end = tokens_of_span(span, clusters)
    return clusters[first][0], clusters[end - 1][1]


def shortened(text: str, length: int = 100) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else f"{text[:length]}..."
