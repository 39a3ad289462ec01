"""Pure helpers of the processor: checks of a post, its spans in tokens, and ragged lists padded to tensors.

Every error names the post, the value and the fix.
"""

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from .windows import Span, Window, tokens_of_span


__all__ = [
    "check_post",
    "feature_tensor",
    "find_words",
    "has_rows",
    "hull",
    "image_phrases_of",
    "label_id",
    "pad_nodes",
    "pad_rows",
    "phrase_positions",
    "row_positions",
    "select",
    "sentence_of",
    "token_span",
]

POST_KEYS = {
    "id", "text", "tokens", "pairs", "image", "image_id", "image_features", "boxes", "object_labels",
    "object_features", "caption", "image_phrases", "length",
}  # fmt: skip


PAIR = "{'head': (start, end), 'tail': (start, end)}"


def check_post(post: dict, name: str) -> None:
    """Keys and the types of all that is text; spans, boxes and features are checked where they are read.

    Raises:
        ValueError: names the post, the value and the fix.
    """
    unknown = set(post) - POST_KEYS
    if unknown:
        raise ValueError(f"{name} has unknown keys {sorted(unknown)}: a post has {sorted(POST_KEYS)}.")
    if (post.get("text") is None) == (post.get("tokens") is None):
        raise ValueError(f"{name} must have either text or tokens, received {sorted(post)}.")
    for key in ("text", "caption"):
        if not isinstance(post.get(key), (str, NoneType)):
            raise ValueError(f"{name}: {key} must be a string, received {type(post[key]).__name__}: {post[key]!r}.")
    for key in ("tokens", "image_phrases"):
        _check_list(post.get(key), str, f"{name}: {key} must be a list of strings")
    _check_list(post.get("pairs"), Mapping, f"{name}: pairs must be a list of dicts like {PAIR}")
    if not has_rows(post.get("pairs")):
        raise ValueError(f"{name} has no entity pair: give pairs=[{PAIR}].")


def _check_list(values: Any, of: type, rule: str) -> None:
    """None passes; a string or a mapping is no list, though it can be iterated."""
    if values is None:
        return
    is_list = not isinstance(values, (str, bytes, Mapping)) and hasattr(values, "__iter__")
    wrong = [value for value in values if not isinstance(value, of)] if is_list else [values]
    if wrong:
        raise ValueError(f"{rule}, received {type(wrong[0]).__name__}: {str(wrong[0])[:80]!r}.")


def sentence_of(post: dict) -> tuple[str, list[Span]]:
    """The text, and the character span of each unit (a token, or a character) that spans count."""
    if post.get("text") is not None:
        return post["text"], [(i, i + 1) for i in range(len(post["text"]))]
    spans, start = [], 0
    for token in post["tokens"]:
        spans.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(post["tokens"]), spans


def token_span(span: Any, unit_spans: list[Span], offsets: list[Span], name: str) -> Span:
    """Span in characters or tokens -> span in the tokenizer's tokens."""
    if span is None or len(span) != 2 or not 0 <= span[0] < span[1] <= len(unit_spans):
        raise ValueError(
            f"{name}: the span must be (start, end) with 0 <= start < end <= {len(unit_spans)}, the sentence's "
            f"length, received {span}. Spans count tokens when the post has tokens, characters when it has text."
        )
    characters = (unit_spans[span[0]][0], unit_spans[span[1] - 1][1])
    tokens = tokens_of_span(characters, offsets)
    if tokens is None:
        raise ValueError(f"{name}: the tokenizer gives no token for the span {tuple(span)}: is it only white space?")
    return tokens


def find_words(phrase: str, text: str) -> Span | None:
    """Where `phrase` first stands in `text`, not inside longer words ("man" is not in "woman")."""
    match = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text)
    return match.span() if match else None


def image_phrases_of(post: dict) -> list[str]:
    """The phrases about the image, stripped (some may be blank); without any the caption is one; [] with neither."""
    phrases = [phrase.strip() for phrase in post.get("image_phrases") or []]
    caption = (post.get("caption") or "").strip()
    return phrases if any(phrases) else [caption] if caption else []


def hull(spans: dict[str, Any]) -> Span:
    mentions = [span for span in (spans["head"], spans["tail"]) if span is not None]
    return min(start for start, _ in mentions), max(end for _, end in mentions)


def row_positions(span: Span | None, window: Window, place: list[int], origin: int) -> list[int]:
    """Row positions of a sentence span's tokens; [] when it lies outside the window."""
    if span is None or span[0] < window.start or span[1] > window.end:
        return []
    return [origin + place[token - window.start] for token in range(*span)]


def phrase_positions(span: Span | None, origin: int, length: int) -> list[int]:
    """Row positions of an image phrase's tokens; [] when it was cut."""
    return [] if span is None or span[1] > length else [origin + token for token in range(*span)]


def select(pair: dict[str, Any], key: str, count: int, limit: int) -> list[int]:
    """The pair's own choice among `count` candidates, or the first ones; at most `limit`. -1 is a place left empty."""
    chosen = pair["pair"].get(key) or range(count)
    wrong = [i for i in chosen if not -1 <= i < count]
    if wrong:
        raise ValueError(
            f"{pair['name']}: {key} must be indices below {count}, the post's number, or -1 for a place left empty, "
            f"received {wrong}."
        )
    return list(chosen)[:limit]


def label_id(pair: dict[str, Any], label2id: dict[str, int]) -> int:
    relation = pair["pair"].get("relation")
    if relation in label2id:
        return label2id[relation]
    if isinstance(relation, int) and 0 <= relation < len(label2id):
        return relation
    raise ValueError(f"{pair['name']}: unknown relation {relation!r}; the model's labels are {list(label2id)}.")


def has_rows(values: Any) -> bool:
    """Whether a list or array is there and is not empty."""
    return values is not None and len(values) > 0


def feature_tensor(values: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """Features as a tensor: float16 where they come so, the model casts them; float32 otherwise.

    Raises:
        ValueError: not numbers, of another shape, or not finite.
    """
    is_half = str(getattr(values, "dtype", None)) in ("float16", "torch.float16")
    if not getattr(getattr(values, "flags", None), "writeable", True):
        values = values.copy()  # a view of a mapped file, which a tensor must not share
    try:
        features = torch.as_tensor(values, dtype=torch.float16 if is_half else torch.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers of shape {shape}, received {type(values).__name__}: {error}"
        ) from None
    if features.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, received {tuple(features.shape)}. The processor's visual_feature_size "
            f"is {shape[-1]}: extract the features with the encoder the model was trained with."
        )
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
    length = max((len(tokens) for node in nodes for tokens in node), default=0)
    filled = torch.full((len(nodes), count, length), -1)
    for i, node in enumerate(nodes):
        for j, tokens in enumerate(node):
            filled[i, j, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return filled
