"""Finding a mention in a sentence: a span or an exact string becomes a span of tokens, or an error that says what to
write instead.

How a text becomes tokens (`tokenize`): a run of letters, digits and underscores is a token; every other character that
is not white space is a token of its own, and so is each character of the scripts that write no spaces (Chinese,
Japanese kana, Thai, Lao, Khmer, Myanmar). No token depends on where the mentions are.
"""

import re
from collections.abc import Sequence
from typing import Any

from modeling_vmhan.mentions import find_mention


__all__ = ["Sentence", "tokenize"]

# Hiragana and katakana, CJK ideographs with their extensions, Thai and Lao, Myanmar, Khmer: no spaces between words.
_UNSPACED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+|[^\w\s]")


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
        characters = self.counts == "characters"
        units = [(i, i + 1) for i in range(len(self.text))] if characters else self.borders
        start, end = find_mention(words, self.text, units, f"{place}, field {field!r}")
        return self._of_characters(start, end, place=place, field=field) if characters else [start, end]
