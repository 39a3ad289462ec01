"""Finding a mention in a sentence: a span or an exact string becomes a span of tokens, or an error that says what to
write instead.

How a text becomes tokens (`tokenize`): a run of letters, digits and underscores is a token; every other character that
is not white space is a token of its own, and so is each character of the scripts that write no spaces (Chinese,
Japanese kana, Thai, Lao, Khmer, Myanmar). No token depends on where the mentions are.
"""

import difflib
import re
from collections.abc import Sequence
from typing import Any


__all__ = ["Sentence", "tokenize"]

# Hiragana and katakana, CJK ideographs with their extensions, Thai and Lao, Myanmar, Khmer: no spaces between words.
_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+|[^\w\s]")
MAX_CANDIDATES = 5  # listed in an error


def tokenize(text: str) -> list[tuple[int, int]]:
    """The character span [start, end) of each token of `text`, by the rule at the top of this file.

    Example:
        >>> [text[start:end] for text in ["Ann's 2nd home"] for start, end in tokenize(text)]
        ['Ann', "'", 's', '2nd', 'home']
    """
    return [match.span() for match in _TOKEN.finditer(text)]


class Sentence:
    """A sentence in which mentions are looked up.

    Args:
        text: the raw sentence; integer spans count its characters.
        tokens: or its tokens; integer spans count these.

    Example:
        >>> Sentence(text="Ann met Bob").span("Bob", place="rows.jsonl, line 1", field="tail")
        [2, 3]
    """

    def __init__(self, *, text: str | None = None, tokens: Sequence[str] | None = None):
        self.counts = "characters" if tokens is None else "tokens"
        if tokens is None:
            self.text = text
            self.borders = tokenize(text)
            self.tokens = [text[start:end] for start, end in self.borders]
        else:
            self.tokens, self.text, self.borders = list(tokens), " ".join(tokens), []
            start = 0
            for token in tokens:
                self.borders.append((start, start + len(token)))
                start += len(token) + 1

    def span(self, mention: Any, *, place: str, field: str) -> list[int]:
        """The [start, end) token span of a mention given as such a span, as characters or as an exact string.

        Raises:
            ValueError: neither a span nor a string; a span outside the sentence or through a token; a string that
                occurs never or more than once. The message names place, field, what would be right.
        """
        if isinstance(mention, str):
            return self._find(mention, place=place, field=field)
        if not isinstance(mention, (list, tuple)) or len(mention) != 2 or any(type(i) is not int for i in mention):
            raise ValueError(
                f"{place}, field {field!r}: expected [start, end) in {self.counts} or a string of the sentence, "
                f"received {mention!r}"
            )
        start, end = mention
        length = len(self.text) if self.counts == "characters" else len(self.tokens)
        if not 0 <= start < end <= length:
            raise ValueError(
                f"{place}, field {field!r}: expected a span inside the sentence, 0 <= start < end <= {length} "
                f"{self.counts}, received [{start}, {end})"
            )
        if self.counts == "tokens":
            return [start, end]
        return self._of_characters(start, end, place=place, field=field)

    def _of_characters(self, start: int, end: int, *, place: str, field: str) -> list[int]:
        inside = [i for i, (left, right) in enumerate(self.borders) if left < end and right > start]
        if not inside:
            raise ValueError(
                f"{place}, field {field!r}: expected characters of a word, received [{start}, {end}), white space"
            )
        left, right = self.borders[inside[0]][0], self.borders[inside[-1]][1]
        if left < start or right > end:
            raise ValueError(
                f"{place}, field {field!r}: expected a span of whole tokens, received [{start}, {end}), "
                f"{self.text[start:end]!r}, which cuts one. Use [{left}, {right}), {self.text[left:right]!r}"
            )
        return [inside[0], inside[-1] + 1]

    def _find(self, words: str, *, place: str, field: str) -> list[int]:
        starts = {left: i for i, (left, _) in enumerate(self.borders)}
        ends = {right: i + 1 for i, (_, right) in enumerate(self.borders)}
        words = words.strip()
        found, at = [], self.text.find(words) if words else -1
        while at >= 0:
            if at in starts and at + len(words) in ends:
                found.append([starts[at], ends[at + len(words)]])
            at = self.text.find(words, at + 1)
        if len(found) == 1:
            return found[0]
        if found:
            candidates = ", ".join(str(self._as_given(span)) for span in found[:MAX_CANDIDATES])
            raise ValueError(
                f"{place}, field {field!r}: expected a string that occurs once in the sentence, received {words!r}, "
                f"which occurs {len(found)} times. Give the span in {self.counts}, one of {candidates}"
            )
        near = self._near(words)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "Give a string of whole words, or a span."
        raise ValueError(
            f"{place}, field {field!r}: expected a string of the sentence {self.text!r}, received {words!r}, which is "
            f"not in it as whole tokens. {hint}"
        )

    def _as_given(self, span: list[int]) -> list[int]:
        """A token span in the unit that spans of this sentence count."""
        if self.counts == "tokens":
            return span
        return [self.borders[span[0]][0], self.borders[span[1] - 1][1]]

    def _near(self, words: str) -> list[str]:
        """Strings of the sentence that resemble `words`, as many tokens long give or take one; upper case is equal."""
        length = max(len(tokenize(words)), 1)
        candidates: dict[str, str] = {}
        for count in range(max(length - 1, 1), length + 2):
            for first in range(len(self.borders) - count + 1):
                left, right = self._as_characters(first, first + count)
                candidates.setdefault(self.text[left:right].casefold(), self.text[left:right])
        near = difflib.get_close_matches(words.casefold(), candidates, n=3, cutoff=0.7)
        return [candidates[name] for name in near]

    def _as_characters(self, start: int, end: int) -> tuple[int, int]:
        return self.borders[start][0], self.borders[end - 1][1]
