"""Mentions: what a raw post is asked about. Their words, tags and types; the head that finds them is mention_head.py.

Words are those of `words.tokenize`, in the data and in a raw post alike. A word's first token carries its tag: O, or B
and I, the first and the further words of a mention.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .argument_types import argument_types
from .batching import EncodedPost
from .posts import label_id, sentence_of
from .windows import Window
from .words import Span


__all__ = ["IGNORED", "Mention", "add_tags", "first_tokens", "place_of_each", "places_of_words", "tags_of", "types_of"]

OUTSIDE, BEGIN, INSIDE = range(3)
NUM_TAGS = 3
IGNORED = -100  # a token without a tag, or a mention whose type no relation tells


class Mention(NamedTuple):
    """Characters [start, end) of a text; the name of its type, or None; and the probability that it is a mention."""

    start: int
    end: int
    type: str | None = None
    score: float = 1.0


def first_tokens(words: Sequence[Span], offsets: Sequence[Span]) -> list[int]:
    """Of each word the index of the first token that touches it, both in text order; -1 for a word without one."""
    found, token = [], 0
    for start, end in words:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        found.append(token if token < len(offsets) and offsets[token][0] < end else -1)
    return found


def tags_of(words: Sequence[Span], mentions: Iterable[Span]) -> tuple[list[int], dict[int, Span]]:
    """Each word's tag, and of each word that begins a mention that mention. All are spans of characters.

    A word that a mention covers in part belongs to it. Of mentions that overlap the one that begins first is tagged,
    of those that begin together the longest.
    """
    tags, begins = [OUTSIDE] * len(words), {}
    for mention in sorted(set(mentions), key=lambda span: (span[0], -span[1])):
        inside = [i for i, (start, end) in enumerate(words) if start < mention[1] and end > mention[0]]
        if inside and all(tags[i] == OUTSIDE for i in inside):
            begins[inside[0]] = mention
            for i in inside:
                tags[i] = BEGIN if i == inside[0] else INSIDE
    return tags, begins


def types_of(pairs: Iterable[tuple[dict[str, Any], tuple[str, str] | None]], types: Sequence[str]) -> dict[Span, int]:
    """{mention: id of its type}, by the first of the pairs whose relation tells it; pairs are with their types."""
    found: dict[Span, int] = {}
    for pair, of_pair in pairs:
        for role, of in zip(("head", "tail"), of_pair or ()):
            if role in pair and of in types:
                found.setdefault(tuple(pair[role]), types.index(of))
    return found


def places_of_words(
    words: Sequence[Span], offsets: Sequence[Span], windows: Sequence[Window], origin: int
) -> list[list[tuple[int, int]]]:
    """Of each row (a window of the tokens, which begins at `origin`) its words and their first tokens' positions."""
    first = first_tokens(words, offsets)
    return [
        [(word, origin + token - of.start) for word, token in enumerate(first) if of.start <= token < of.end]
        for of in windows
    ]


def place_of_each(word_places: Sequence[Sequence[tuple[int, int]]]) -> dict[int, tuple[int, int]]:
    """{word: (row, position)} of a post's rows, in which a word may stand more than once: windows overlap, and packed
    rows of one window repeat its sentence. It is read in the row where it is furthest from the border.
    """
    best: dict[int, tuple[int, int, int]] = {}  # word -> (distance, row, position)
    for row, places in enumerate(word_places):
        low, high = (places[0][1], places[-1][1]) if places else (0, 0)
        for word, position in places:
            place = (min(position - low, high - position), row, position)
            best[word] = max(best.get(word, place), place)
    return {word: best[word][1:] for word in sorted(best)}


def add_tags(encoded: EncodedPost, post: dict[str, Any], types: Sequence[str], labels: Sequence[str]) -> None:
    """Put `mention_tags` and `mention_type_ids` into the rows of a post with labels: all its pairs' mentions count,
    and each word in one of its places.

    The relation of a pair tells the types of its mentions by its name (`argument_types`), "no relation" does not.
    """
    _, units = sentence_of(post)
    pairs = [
        {role: (units[pair[role][0]][0], units[pair[role][1] - 1][1]) for role in ("head", "tail") if role in pair}
        for pair in post["pairs"]
    ]
    label2id = {label: i for i, label in enumerate(labels)}
    relations = [labels[label_id(pair["relation"], label2id, encoded.name)] for pair in post["pairs"]]
    tags, begins = tags_of(encoded.words, [span for pair in pairs for span in pair.values()])
    known = types_of(zip(pairs, map(argument_types, relations)), types)
    for row in encoded.rows:
        row["mention_tags"], row["mention_type_ids"] = ([IGNORED] * len(row["input_ids"]) for _ in range(2))
    for word, (row, position) in place_of_each(encoded.word_places).items():
        encoded.rows[row]["mention_tags"][position] = tags[word]
        encoded.rows[row]["mention_type_ids"][position] = known.get(begins.get(word), IGNORED)
