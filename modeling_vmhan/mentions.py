"""Find an entity's mention, given as a string, in the sentence: one place on word borders, or an error that helps."""

import difflib
import re

from .windows import Span, tokens_of_span


__all__ = ["find_mention"]

LISTED = 10  # places that an error lists at most


def find_mention(mention: str, text: str, unit_spans: list[Span], name: str) -> Span:
    """Where `mention` stands in `text`: exactly as written, not inside a longer word, and once.

    The span is in units, whose character spans `posts.sentence_of` gives (a character, or a token); a token that the
    mention covers in part belongs to it. The ValueError of a mention that is absent, or there more than once, lists
    the candidates with their spans; `name` is of post and role.
    """
    words = mention.strip()
    if not words:
        raise ValueError(f"{name}: a mention must not be blank, received {mention!r}.")
    places = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text)]
    if len(places) == 1:
        return tokens_of_span(places[0], unit_spans)
    listed = "; ".join(_described(place, text, unit_spans) for place in (places or _nearest(words, text))[:LISTED])
    if places:
        raise ValueError(f"{name}: {words!r} is {len(places)} times in the sentence, give its span: {listed}.")
    raise ValueError(
        f"{name}: {words!r} is not in the sentence {text!r} as words of their own. Nearest: {listed or 'nothing'}."
    )


def _nearest(words: str, text: str) -> list[Span]:
    """Places that differ in case, lie inside a longer word, or are spelt alike; best first."""
    inside = [match.span() for match in re.finditer(re.escape(words), text, re.IGNORECASE)]
    if inside:
        return inside
    borders = [match.span() for match in re.finditer(r"\S+", text)]
    windows = {}
    for first, last in zip(borders, borders[len(words.split()) - 1 :]):
        windows.setdefault(text[first[0] : last[1]].casefold(), (first[0], last[1]))
    return [windows[near] for near in difflib.get_close_matches(words.casefold(), windows, n=3, cutoff=0.6)]


def _described(place: Span, text: str, unit_spans: list[Span]) -> str:
    """The words with some context, and their span in the units that spans count."""
    start, end = place
    where = f"characters {place}"
    if len(unit_spans) != unit_spans[-1][1]:
        where = f"tokens {tokens_of_span(place, unit_spans)} ({where})"
    return f"{text[max(0, start - 12) : start]}[{text[start:end]}]{text[end : end + 12]} at {where}".strip()
