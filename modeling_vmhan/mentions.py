"""Find an entity's mention, given as a string, in the sentence: one place on word borders, or an error that helps."""

import difflib
import re

from .windows import Span, tokens_of_span


__all__ = ["find_mention"]

NEAREST = 3  # candidates that an error lists for a mention that is not in the sentence
LISTED = 10  # places that it lists for one that is there several times


def find_mention(mention: str, text: str, unit_spans: list[Span], name: str) -> Span:
    """Where `mention` stands in `text`: exactly as written, not inside a longer word, and once.

    Args:
        mention: the string. text: the sentence. unit_spans: character span of each unit that the post's spans count
            (a character, or a token), as `posts.sentence_of` gives them. name: of post and role, for errors.

    Returns:
        Span in units. A token that the mention covers in part belongs to it.

    Raises:
        ValueError: blank, absent, or there more than once. The message lists the candidates with their spans.
    """
    words = mention.strip()
    if not words:
        raise ValueError(f"{name}: a mention must not be blank, received {mention!r}.")
    places = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text)]
    if len(places) == 1:
        return tokens_of_span(places[0], unit_spans)
    if places:
        listed = "; ".join(_described(place, text, unit_spans, around=12) for place in places[:LISTED])
        raise ValueError(
            f"{name}: {words!r} is {len(places)} times in the sentence, so give its span instead of the string. "
            f"It is at {listed}."
        )
    nearest = "; ".join(_described(place, text, unit_spans) for place in _nearest(words, text))
    raise ValueError(
        f"{name}: {words!r} is not in the sentence {text!r} as words of their own. "
        + (f"Nearest: {nearest}. Write it as it stands there, or give its span." if nearest else "Nothing is like it.")
    )


def _nearest(words: str, text: str) -> list[Span]:
    """Places that differ in case, lie inside a longer word, or are spelt alike; best first."""
    inside = [match.span() for match in re.finditer(re.escape(words), text, re.IGNORECASE)]
    if inside:
        return inside[:NEAREST]
    borders = [match.span() for match in re.finditer(r"\S+", text)]
    length = len(words.split())
    windows = {}
    for first in range(len(borders) - length + 1):
        start, end = borders[first][0], borders[first + length - 1][1]
        windows.setdefault(text[start:end].casefold(), (start, end))
    return [windows[near] for near in difflib.get_close_matches(words.casefold(), windows, n=NEAREST, cutoff=0.6)]


def _described(place: Span, text: str, unit_spans: list[Span], around: int = 0) -> str:
    """The words with `around` characters of context, and their span in the units that spans count."""
    start, end = place
    shown = text[start:end]
    if around:
        shown = f"{text[max(0, start - around) : start]}[{shown}]{text[end : end + around]}".strip()
    counts_characters = len(unit_spans) == unit_spans[-1][1]
    where = f"characters {place}"
    if not counts_characters:
        where = f"tokens {tokens_of_span(place, unit_spans)} ({where})"
    return f"{shown!r} at {where}"
