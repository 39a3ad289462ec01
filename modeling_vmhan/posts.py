"""Pure helpers of the processor: reading a post, spans of tokens, what a pair chose, and padding.

A span is [start, end): the start counts, the end does not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .values import MAPPING, PAIR, POST, read_fields, read_value, shown, whole_text
from .words import Span, tokens_of_span


__all__ = [
    "A_PAIR",
    "check_shape",
    "checked_span",
    "image_phrases_of",
    "label_id",
    "pad_nodes",
    "pad_rows",
    "post_name",
    "read_post",
    "select",
    "sentence_of",
    "token_span",
]

A_PAIR = "pairs=[{'head': ..., 'tail': ...}], each a string or a span (start, end)"  # what an error asks for


def post_name(post: Any, otherwise: str) -> str:
    """How errors call a post: by its id, where it has one."""
    try:
        identity = post["id"]
    except Exception:  # it has none, or is no dict, which is said where it is read
        identity = None
    return otherwise if identity is None else f"post {shown(identity)}"


def read_post(post: Any, name: str) -> dict[str, Any]:
    """The post with every value checked and in one form, and without those that are None; `pairs` left out are [].

    Text is a plain string, a list a list, a span (start, end), a box [x1, y1, x2, y2], features an array; a tail that
    is an object has no span. Mentions may be strings, and a tail a box (`questions.read_question`). What depends on
    the model (sizes of features, labels) is checked where it is read.
    """
    given = read_value(post, MAPPING, name)
    fields = read_fields(given, POST, name, near=PAIR)
    if not fields.keys() & {"text", "tokens"}:
        raise ValueError(f"{name} must have text or tokens, received {sorted(fields)}.")
    if not fields.setdefault("pairs", []) and given.get("pairs") is not None:
        raise ValueError(f"{name} has no entity pair: give {A_PAIR}.")
    counts = {key: len(fields[key]) for key in ("boxes", "object_features") if len(fields.get(key, []))}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name} must have one row of object_features for each of its boxes, received {counts}.")
    text = str.__str__(given["text"]) if "tokens" not in fields else None  # whose characters spans count
    fields["pairs"] = [_read_pair(pair, text, f"{name}, pair {i}") for i, pair in enumerate(fields["pairs"])]
    if "mentions" in fields and text is not None and whole_text(text) != text:
        fields["mentions"] = [_recounted(mention, text, f"{name}, mentions") for mention in fields["mentions"]]
    if "hypergraph" in fields and text is not None and whole_text(text) != text:
        for node in fields["hypergraph"]["nodes"]:
            node |= {"span": _recounted(node["span"], text, f"{name}, hypergraph")} if "span" in node else {}
    return fields


def _read_pair(pair: Any, text: str | None, name: str) -> dict[str, Any]:
    fields = read_fields(pair, PAIR, name)
    is_object = fields.get("tail_object", -1) >= 0
    if "head" not in fields or ("tail" in fields) == is_object:
        received = {key: fields[key] for key in ("head", "tail", "tail_object") if key in fields}
        raise ValueError(f"{name} needs head, and either tail or tail_object, received {shown(received)}.")
    if text is not None and whole_text(text) != text:  # its spans count halves of surrogate pairs
        fields |= {role: _recounted(fields[role], text, name) for role in ("head", "tail") if role in fields}
        if "text_phrases" in fields:
            fields["text_phrases"] = [_recounted(phrase, text, name) for phrase in fields["text_phrases"]]
    return fields


def _recounted(mention: Any, text: str, name: str) -> Any:
    """A span of `text` as a span of the same text with its surrogates paired; no span of it stays as it is."""
    if not isinstance(mention, tuple) or not all(0 <= place <= len(text) for place in mention):
        return mention
    try:
        return tuple(len(whole_text(text[:place])) for place in mention)
    except UnicodeError:
        raise ValueError(f"{name}: a span must not cut a character (an emoji) in two, received {mention}.") from None


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


def checked_span(span: Span, unit_spans: list[Span], name: str) -> Span:
    """The span, if it lies in the sentence."""
    start, end = span
    if not 0 <= start < end <= len(unit_spans):
        rule = f"0 <= start < end <= {len(unit_spans)}, of the text's characters or the tokens"
        raise ValueError(f"{name}: the span must be {rule}, received {shown(span)}.")
    return span


def token_span(span: Span, unit_spans: list[Span], offsets: list[Span], name: str) -> Span:
    """Span in characters or tokens -> span in the tokenizer's tokens."""
    start, end = checked_span(span, unit_spans, name)
    tokens = tokens_of_span((unit_spans[start][0], unit_spans[end - 1][1]), offsets)
    if tokens is None:
        raise ValueError(f"{name}: the tokenizer gives no token for the span {(start, end)}: is it only white space?")
    return tokens


def image_phrases_of(post: dict) -> list[str]:
    """The phrases about the image, stripped (some may be blank); without any the caption is one; [] with neither."""
    phrases = [phrase.strip() for phrase in post.get("image_phrases") or []]
    caption = (post.get("caption") or "").strip()
    return phrases if any(phrases) else [caption] if caption else []


def select(pair: Mapping, key: str, count: int, limit: int | None, name: str = "the pair") -> list[int]:
    """The pair's own choice among `count` candidates, where [] is none, or if it is None all of them; the first
    `limit` (None: all). -1 is a place left empty.
    """
    chosen = pair.get(key)
    if chosen is None:
        return list(range(count))[:limit]
    wrong = [i for i in chosen if not -1 <= i < count]
    if wrong:
        without = "left out of a post without them" + (" (boxes count with their image)" if key == "objects" else "")
        rule = f"indices below {count}, or -1 for an empty place" if count else without
        raise ValueError(f"{name}: {key} must be {rule}, received {shown(wrong)}.")
    return chosen[:limit]


def label_id(relation: str | int | None, label2id: dict[str, int], name: str) -> int:
    """A relation's id from its name or id."""
    index = label2id.get(relation) if isinstance(relation, str) else relation
    if index is None or not 0 <= index < len(label2id):
        raise ValueError(f"{name}: unknown relation {shown(relation)}; the model's labels are {list(label2id)}.")
    return index


def check_shape(features: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The features, if they have this shape."""
    if features.shape != shape:
        received = f"{features.shape}: extract them with the encoder the model was trained with"
        raise ValueError(f"{name} must have shape {shape}, by visual_feature_size, received {received}.")
    return features


def pad_rows(rows: list[list[int]], value: int) -> np.ndarray:
    """Ragged rows -> (len(rows), longest)."""
    width = max((len(row) for row in rows), default=0)
    return np.array([row + [value] * (width - len(row)) for row in rows], dtype=np.int64)


def pad_nodes(nodes: list[list[list[int]]]) -> np.ndarray:
    """Per pair, per node, token positions -> (P, n, L), -1 where there is none."""
    count = max(len(node) for node in nodes)
    padded = pad_rows([tokens for node in nodes for tokens in node + [[]] * (count - len(node))], -1)
    return padded.reshape(len(nodes), count, padded.shape[-1])
