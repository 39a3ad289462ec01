"""Finding a mention in a sentence: a span or an exact string becomes a span of tokens, or an error that says what to
write instead.

How a text becomes tokens, and where a string stands in it, `modeling_vmhan.words` says. No token depends on where the
mentions are.
"""

from collections.abc import Sequence
from typing import Any

from datasets_scripts.checking import Span, checked
from modeling_vmhan.posts import sentence_of
from modeling_vmhan.words import find_mention, shortened, tokenize, tokens_of_span


__all__ = ["Sentence"]


class Sentence:
    """A sentence in which mentions are looked up.

    Args:
        text: the raw sentence; integer spans count its characters. tokens: or its tokens; integer spans count these.
            With both they count the tokens, which must stand in the text.
        place: how errors call it.

    Example:
        >>> Sentence(text="Ann met Bob").span("Bob", place="rows.jsonl, line 1", field="tail")
        [2, 3]
    """

    def __init__(self, *, text: str | None = None, tokens: Sequence[str] | None = None, place: str = "the sentence"):
        self.has_text = tokens is None
        self.text, units = sentence_of({"text": text, "tokens": tokens}, place)
        self.borders = tokenize(text) if self.has_text else units
        self.tokens = [self.text[start:end] for start, end in self.borders]

    def span(self, mention: Any, *, place: str, field: str) -> list[int]:
        """The [start, end) token span of a mention given as such a span, as characters or as an exact string.

        A ValueError names place, field and what would be right where it is neither, a span outside the sentence or
        through a token, or a string that occurs never or more than once.
        """
        place = f"{place}, field {field!r}"
        if isinstance(mention, str):
            units = [(i, i + 1) for i in range(len(self.text))] if self.has_text else self.borders
            found = find_mention(mention, self.text, units, place)
            return list(tokens_of_span(found, self.borders) if self.has_text else found)
        start, end = checked(Span, mention, place)
        length, unit = (len(self.text), "characters") if self.has_text else (len(self.tokens), "tokens")
        if not 0 <= start < end <= length:
            raise ValueError(f"{place}: expected 0 <= start < end <= {length} {unit}, received [{start}, {end})")
        return self._of_characters(start, end, place) if self.has_text else [start, end]

    def _of_characters(self, start: int, end: int, place: str) -> list[int]:
        touched = tokens_of_span((start, end), self.borders)
        if touched is None:
            raise ValueError(f"{place}: expected characters of a word, received [{start}, {end}), white space")
        left, right = self.borders[touched[0]][0], self.borders[touched[1] - 1][1]
        if left < start or right > end:
            raise ValueError(
                f"{place}: expected a span of whole tokens, received [{start}, {end}), "
                f"{shortened(self.text[start:end])!r}, which cuts one. "
                f"Use [{left}, {right}), {shortened(self.text[left:right])!r}"
            )
        return list(touched)
