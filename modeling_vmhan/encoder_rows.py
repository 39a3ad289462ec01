"""One row of the text encoder: special tokens, a window of the sentence with its markers, the image text; and where
each text node of a pair stands in it.

Spans are [start, end) in tokens of the sentence, those of image phrases in tokens of the image text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .posts import image_phrases_of
from .windows import ISOLATED, MARKERS, Window, insert_markers
from .words import Span, find_words, tokens_of_span


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ImageText", "PairSpans", "SpecialTokens", "encode_row", "read_image_text", "tokenized"]

PHRASE_SEPARATOR = " ; "


class SpecialTokens(NamedTuple):
    """Ids of what a tokenizer puts before the first, between, and after the second segment, and of `MARKERS`."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    markers: list[int]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "SpecialTokens":
        encoded = tokenizer("a", "b")
        ids, segments = encoded["input_ids"], encoded.sequence_ids()  # None for special tokens
        first, second = ([i for i, of in enumerate(segments) if of == segment] for segment in (0, 1))
        between = ids[first[-1] + 1 : second[0]]
        markers = tokenizer.convert_tokens_to_ids(list(MARKERS))
        return cls(ids[: first[0]], between, ids[second[-1] + 1 :], markers)


class PairSpans(NamedTuple):
    """A pair in the sentence; the tail is None where it is an object."""

    head: Span
    tail: Span | None
    text_phrases: list[Span]
    is_turned: bool  # its tail was given as its head

    @property
    def hull(self) -> Span:
        """From the first to the last token of its mentions."""
        borders = [border for span in (self.head, self.tail) if span for border in span]
        return min(borders), max(borders)

    def marked(self, origin: int, markers: Sequence[int]) -> list[tuple[Span, int, int]]:
        """Its mentions, counted from `origin`, each with the ids of its markers."""
        both = [(self.head, *markers[:2]), (self.tail, *markers[2:])]
        return [((span[0] - origin, span[1] - origin), *ids) for span, *ids in both if span is not None]


class ImageText(NamedTuple):
    """Token ids of the second segment, and each phrase's span in it, None for one that has no token there."""

    ids: list[int]
    phrases: list[Span | None]


def tokenized(tokenizer: "PreTrainedTokenizerBase", text: str) -> dict[str, Any]:
    """Token ids and offsets of words of the post, where "[SEP]" or "[E1]" are letters like any others."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)


def read_image_text(tokenizer: "PreTrainedTokenizerBase", post: dict[str, Any], limit: int) -> ImageText:
    """The image text of a post, at most `limit` tokens.

    Departure from the paper: a phrase found in a caption is read where it stands, with the words around it.
    Phrases beyond or across the cut are None, unless one is the whole text; so are blank ones.
    """
    phrases = image_phrases_of(post)
    if not phrases:
        return ImageText([], [])
    text, spans = post.get("caption", "").strip(), []
    for phrase in phrases:
        span = find_words(phrase, text) if phrase else (0, 0)
        if span is None:
            text += (PHRASE_SEPARATOR if text else "") + phrase
            span = (len(text) - len(phrase), len(text))
        spans.append(span)
    encoded = tokenized(tokenizer, text)
    ids, offsets = encoded["input_ids"][:limit], encoded["offset_mapping"]
    if spans == [(0, len(text))]:  # the whole text is cut with it
        return ImageText(ids, [(0, len(ids)) if ids else None])
    found = [tokens_of_span(span, offsets) for span in spans]
    return ImageText(ids, [span if span is not None and span[1] <= len(ids) else None for span in found])


def encode_row(
    sentence: list[int],
    image_text: ImageText,
    window: Window,
    pairs: Sequence[PairSpans],
    special: SpecialTokens,
    *,
    entity_representation: str,
    is_isolated: bool = False,
) -> tuple[dict[str, list[int]], list[tuple]]:
    """The row of a window, and for each of its `pairs` the positions of the tokens of its text nodes.

    sentence holds the token ids of the whole sentence. `is_isolated` keeps the image text from being seen by the
    sentence, and the other way round.
    """
    tokens, opened = sentence[window.start : window.end], []
    place = list(range(len(tokens)))  # sentence token -> its index among the row's sentence tokens
    if entity_representation == "marker" and pairs:
        tokens, place, opened = insert_markers(tokens, pairs[0].marked(window.start, special.markers))
    first = [*special.prefix, *tokens]
    second = [*special.middle, *image_text.ids] if image_text.ids else []
    length, before = len(first) + len(second) + len(special.suffix), len(special.prefix)
    border = len(first) + 1 if second else length
    row = {
        "input_ids": [*first, *second, *special.suffix],
        "attention_mask": [1] * length,
        "position_ids": list(range(length)),
        "marker_pair": [0] * length,
        # the separator between them belongs to the first segment, as in BERT
        "token_type_ids": [0] * border + [1] * (length - border),
    }
    origin = len(first) + len(special.middle)
    if second and is_isolated:
        # positions begin anew, as behind the prefix of a row of its own: the sentence's length shows nowhere
        row["marker_pair"][border:] = [ISOLATED] * (length - border)
        row["position_ids"][border:] = [max(before - origin + i, 0) for i in range(border, length)]
    phrases = [[] if span is None else [origin + token for token in range(*span)] for span in image_text.phrases]

    def located(span: Span | None) -> list[int]:  # nowhere when it lies outside the window
        if span is None or span[0] < window.start or span[1] > window.end:
            return []
        return [before + place[token - window.start] for token in range(*span)]

    positions = []
    for order, pair in enumerate(pairs):
        if entity_representation == "span":
            entities = [located(pair.head), located(pair.tail)]
        elif entity_representation == "marker":
            entities = [[before + position] for position in opened]
        else:
            entities = _append_markers(row, pair.marked(window.start - before, special.markers), order)
        entities += [[]] * (2 - len(entities))
        positions.append((entities, [located(span) for span in pair.text_phrases], phrases))
    return row, positions


def _append_markers(row: dict[str, list[int]], mentions: list[tuple[Span, int, int]], order: int) -> list[list[int]]:
    """Append a pair's markers to a packed row, at the positions of the mentions' borders; returns where they stand."""
    entities = []
    for (start, end), *marker_ids in mentions:
        entities.append([len(row["input_ids"])])
        row["input_ids"] += marker_ids
        row["attention_mask"] += [1, 1]
        row["token_type_ids"] += [0, 0]
        row["position_ids"] += [start, end - 1]
        row["marker_pair"] += [order + 1, order + 1]
    return entities
