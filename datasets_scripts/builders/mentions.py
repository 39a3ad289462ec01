"""Finding a mention in a sentence: a span or an exact string becomes a span of tokens, or an error that says what to
write instead.

How a text becomes tokens (`tokenize`): a run of letters, digits and underscores is a token; every other character that
is not white space is a token of its own, and so is each character of the scripts that write no spaces (Chinese,
Japanese kana, Thai, Lao, Khmer, Myanmar). No token depends on where the mentions are.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from datasets_scripts.checking import Span, checked
from modeling_vmhan.questions import find_mention


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
        text: the raw sentence; integer spans count its characters. tokens: or its tokens; integer spans count these.

    Example:
        >>> Sentence(text="Ann met Bob").span("Bob", place="rows.jsonl, line 1", field="tail")
        [2, 3]
    """

    def __init__(self, *, text: str | None = None, tokens: Sequence[str] | None = None):
        self.has_text = tokens is None
        self.text = text if self.has_text else " ".join(tokens)
        if self.has_text:
            self.borders = tokenize(text)
        else:
            ends = accumulate(len(token) + 1 for token in tokens)
            self.borders = [(end - 1 - len(token), end - 1) for token, end in zip(tokens, ends)]
        self.tokens = [self.text[start:end] for start, end in self.borders]

    def span(self, mention: Any, *, place: str, field: str) -> list[int]:
        """The [start, end) token span of a mention given as such a span, as characters or as an exact string.

        A ValueError names place, field and what would be right where it is neither, a span outside the sentence or
        through a token, or a string that occurs never or more than once.
        """
        place = f"{place}, field {field!r}"
        if isinstance(mention, str):
            units = [(i, i + 1) for i in range(len(self.text))] if self.has_text else self.borders
            start, end = find_mention(mention, self.text, units, place)
        else:
            start, end = checked(Span, mention, place)
        length, unit = (len(self.text), "characters") if self.has_text else (len(self.tokens), "tokens")
        if not 0 <= start < end <= length:
            raise ValueError(f"{place}: expected 0 <= start < end <= {length} {unit}, received [{start}, {end})")
        return self._of_characters(start, end, place) if self.has_text else [start, end]

    def _of_characters(self, start: int, end: int, place: str) -> list[int]:
        inside = [i for i, (left, right) in enumerate(self.borders) if left < end and right > start]
        if not inside:
            raise ValueError(f"{place}: expected characters of a word, received [{start}, {end}), white space")
        left, right = self.borders[inside[0]][0], self.borders[inside[-1]][1]
        if left < start or right > end:
            raise ValueError(
                f"{place}: expected a span of whole tokens, received [{start}, {end}), {self.text[start:end]!r}, "
                f"which cuts one. Use [{left}, {right}), {self.text[left:right]!r}"
            )
        return [inside[0], inside[-1] + 1]
