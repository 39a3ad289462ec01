"""Pure helpers of the processor: checks of a post, spans of tokens, windows that keep them, markers, and padding.

A span is [start, end): the start counts, the end does not.
"""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .words import Span, close_matches, tokens_of_span


__all__ = [
    "MARKERS",
    "POST_KEYS",
    "Window",
    "check_post",
    "choose_windows",
    "feature_tensor",
    "has_rows",
    "image_phrases_of",
    "insert_markers",
    "label_id",
    "pad_nodes",
    "pad_rows",
    "select",
    "sentence_of",
    "token_span",
]

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
GRID = 4  # places of a window's start in the length of a window

# What a post and a pair may hold: object is not checked here, [kind] is a list or array of it.
POST = {
    "text": str, "tokens": [str], "pairs": [Mapping], "caption": str, "image_phrases": [str], "boxes": [object],
    "object_features": [object], "id": object, "image": object, "image_id": object, "image_features": object,
    "object_labels": object, "length": object,
}  # fmt: skip
PAIR = {
    "head": object, "tail": object, "tail_object": int, "text_phrases": [object], "objects": [object],
    "image_phrases": [object], "relation": object, "crops": object,  # a column of mnre_published_objects, unread
}  # fmt: skip
KINDS = {str: "string", int: "whole number", Mapping: "dict", object: "row"}
POST_KEYS = set(POST)


def check_post(post: dict, name: str) -> None:
    """Keys, and the kinds of what is text or a list; spans, boxes and features are checked where they are read."""
    _check_kinds(post, POST, name)
    if post.get("text") is None and post.get("tokens") is None:
        raise ValueError(f"{name} must have text or tokens, received {sorted(post)}.")
    if not has_rows(post.get("pairs")):
        raise ValueError(f"{name} has no entity pair: give pairs=[{{'head': (start, end), 'tail': (start, end)}}].")
    for i, pair in enumerate(post["pairs"]):
        _check_kinds(pair, PAIR, f"{name}, pair {i}")


def _check_kinds(item: Any, kinds: dict[str, Any], name: str) -> None:
    if not isinstance(item, Mapping):
        raise ValueError(f"{name} must be a dict, received {type(item).__name__}: {str(item)[:80]!r}.")
    unknown = sorted(map(str, item.keys() - kinds))
    if unknown:
        guesses = [f" Did you mean {key}?" for word in unknown for key in close_matches(word, {*POST, *PAIR})]
        raise ValueError(f"{name} has unknown keys {unknown}: it may have {sorted(kinds)}.{''.join(guesses)}")
    for key, kind in kinds.items():
        value, of = item.get(key), kind[0] if isinstance(kind, list) else kind
        if value is None or kind is object:
            continue
        # a generator can be read only once, so it is no list
        is_list = getattr(value, "ndim", hasattr(value, "__len__")) and not isinstance(value, (str, bytes, Mapping))
        values = [value] if kind is of else value if is_list else []
        wrong = [each for each in values if (as_index(each) is None if of is int else not isinstance(each, of))]
        if wrong or (kind is not of and not is_list):
            rule, each = f"a {KINDS[of]}" if kind is of else f"a list of {KINDS[of]}s", (wrong or [value])[0]
            received = f"{type(each).__name__}: {str(each)[:80]!r}"
            raise ValueError(f"{name}: {key} must be {rule}, received {received}.")


def as_index(value: Any) -> int | None:
    """A whole number (of numpy or torch too) as an int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def has_rows(values: Any) -> bool:
    """Whether a list or array is there and is not empty."""
    return values is not None and len(values) > 0


def sentence_of(post: dict, name: str = "the post") -> tuple[str, list[Span]]:
    """The text, and the character span of each unit that spans count: a token, or where there are none a character.

    Tokens beside a text must stand in it in order, with only white space around them; without one, blanks join them.
    """
    text, tokens, spans, end = post.get("text"), post.get("tokens"), [], 0
    if tokens is None:
        return text, [(i, i + 1) for i in range(len(text))]
    if text is None:
        for token in tokens:
            spans.append((end, end + len(token)))
            end += len(token) + 1
        return " ".join(tokens), spans
    for index, token in enumerate([*tokens, None]):  # None: the end
        start = len(text) if token is None else text.find(token, end)
        if start < 0 or text[end:start].replace("\u200b", " ").strip():  # which is white space without width
            received = f"no token {index}" if token is None else f"{token!r} as token {index}"
            received += f" where the text goes on with {text[end : end + 20].lstrip()!r}"
            raise ValueError(f"{name}: tokens must stand in the text one after the other, received {received}.")
        end = start + len(token or "")
        spans.append((start, end))
    return text, spans[:-1]


def token_span(span: Any, unit_spans: list[Span], offsets: list[Span], name: str) -> Span:
    """Span in characters or tokens -> span in the tokenizer's tokens."""
    try:
        start, end = map(operator.index, span)
    except (TypeError, ValueError):  # not a list, not of two, not of whole numbers
        start = end = 0
    if not 0 <= start < end <= len(unit_spans):
        rule = f"whole numbers 0 <= start < end <= {len(unit_spans)}, of the text's characters or the tokens"
        raise ValueError(f"{name}: the span must be {rule}, received {span!r}.")
    tokens = tokens_of_span((unit_spans[start][0], unit_spans[end - 1][1]), offsets)
    if tokens is None:
        raise ValueError(f"{name}: the tokenizer gives no token for the span {(start, end)}: is it only white space?")
    return tokens


def image_phrases_of(post: dict) -> list[str]:
    """The phrases about the image, stripped (some may be blank); without any the caption is one; [] with neither."""
    given = post.get("image_phrases")
    phrases = [phrase.strip() for phrase in given] if has_rows(given) else []
    caption = (post.get("caption") or "").strip()
    return phrases if any(phrases) else [caption] if caption else []


def select(pair: Mapping, key: str, count: int, limit: int, name: str = "the pair") -> list[int]:
    """The pair's own choice among `count` candidates, or the first ones; at most `limit`. -1 is a place left empty."""
    given = pair.get(key)
    if not has_rows(given):
        return list(range(count))[:limit]
    chosen = [as_index(value) for value in given]
    wrong = [value for value, i in zip(given, chosen, strict=True) if i is None or not -1 <= i < count]
    if wrong:
        raise ValueError(f"{name}: {key} must be indices below {count}, or -1 for an empty place, received {wrong}.")
    return chosen[:limit]


def label_id(relation: Any, label2id: dict[str, int], name: str) -> int:
    """A relation's id from its name or id."""
    index = label2id.get(relation) if isinstance(relation, str) else as_index(relation)
    if index is None or not 0 <= index < len(label2id):
        raise ValueError(f"{name}: unknown relation {relation!r}; the model's labels are {list(label2id)}.")
    return index


def feature_tensor(values: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """Finite features of this shape as a tensor: float16 where they come so, for the model to cast, or float32."""
    is_half = str(getattr(values, "dtype", None)) in ("float16", "torch.float16")
    if not getattr(getattr(values, "flags", None), "writeable", True):
        values = values.copy()  # a view of a mapped file, which a tensor must not share
    try:
        features = torch.as_tensor(values, dtype=torch.float16 if is_half else torch.float32)
    except (TypeError, ValueError) as error:
        received = f"{type(values).__name__}: {error}"
        raise ValueError(f"{name} must be numbers of shape {shape}, received {received}") from None
    if features.shape != shape:
        received = f"{tuple(features.shape)}: extract them with the encoder the model was trained with"
        raise ValueError(f"{name} must have shape {shape}, by visual_feature_size, received {received}.")
    if features.numel() and not torch.stack(features.aminmax()).isfinite().all():  # nan is the least and the greatest
        raise ValueError(f"{name} must be finite, received nan or infinite numbers: extract them again.")
    return features


def pad_rows(rows: list[list[int]], value: int) -> Tensor:
    """Ragged rows -> (len(rows), longest)."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.long)


def pad_nodes(nodes: list[list[list[int]]]) -> Tensor:
    """Per pair, per node, token positions -> (P, n, L), -1 where there is none."""
    count = max(len(node) for node in nodes)
    padded = pad_rows([tokens for node in nodes for tokens in node + [[]] * (count - len(node))], -1)
    return padded.view(len(nodes), count, padded.shape[-1])


class Window(NamedTuple):
    """Tokens [start, end) of a sentence, encoded together for the pairs at these indices."""

    start: int
    end: int
    pairs: list[int]


def choose_windows(length: int, hulls: list[Span], budget: int, *, one_pair_each: bool) -> list[Window]:
    """Windows of at most `budget` tokens that together keep both mentions of every pair.

    A sentence of `length` tokens that fits is one window. A longer one moves its window to the mentions, centred on
    them; where it lies depends on the pair alone. Pairs whose windows are the same share it, unless `one_pair_each`;
    to that end it starts on a grid where the mentions leave room for that. hulls are each pair's token span from its
    first to its last mention token; mentions further apart than the budget are a ValueError.
    """
    shared: dict[tuple[int, ...], list[int]] = {}
    step = 1 if one_pair_each else max(budget // GRID, 1)
    for pair, (start, end) in enumerate(hulls):
        if end - start > budget:
            distance = f"{end - start} tokens (tokens {start} to {end}), but only {budget} fit"
            raise ValueError(f"the mentions of pair {pair} span {distance}. Raise max_length, or drop the pair.")
        first = start - (budget - (end - start)) // 2  # centred on the mentions
        first = max(end - budget, min(round(first / step) * step, start))  # on the grid, if one there holds them
        first = max(0, min(first, length - budget))
        place = (first, min(first + budget, length))
        shared.setdefault((*place, pair) if one_pair_each else place, []).append(pair)
    return [Window(*place[:2], pairs) for place, pairs in shared.items()]


def insert_markers(tokens: list[int], mentions: list[tuple[Span, int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Put opening and closing marker tokens around mentions, which may overlap or nest.

    mentions are (span, opening marker id, closing marker id) each. Returns the ids with markers, the new position of
    each old token, and the position of each mention's opening marker.
    """
    events = []  # (place, 0 closes before 1 opens, inner closes and outer opens first, mention, id)
    for index, ((start, end), opening, closing) in enumerate(mentions):
        events += [(start, 1, -end, index, opening), (end, 0, -start, -index, closing)]
    marked, new_position, opened = [], [], [0] * len(mentions)
    pending = sorted(events)
    for place in range(len(tokens) + 1):
        while pending and pending[0][0] == place:
            _, opens, _, index, marker = pending.pop(0)
            if opens:
                opened[index] = len(marked)
            marked.append(marker)
        if place < len(tokens):
            new_position.append(len(marked))
            marked.append(tokens[place])
    return marked, new_position, opened
