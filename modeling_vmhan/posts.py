"""Pure helpers of the processor: checks of a post, its spans in tokens, and ragged lists padded to tensors.

Every error names the post, the value and the fix.
"""

import operator
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from .windows import Span, Window, tokens_of_span


__all__ = [
    "as_list",
    "check_post",
    "feature_tensor",
    "find_words",
    "has_rows",
    "hull",
    "image_phrases_of",
    "label_id",
    "pad_nodes",
    "pad_rows",
    "post_name",
    "row_positions",
    "select",
    "sentence_of",
    "token_span",
]

POST_KEYS = {
    "id", "text", "tokens", "pairs", "image", "image_id", "image_features", "boxes", "object_labels",
    "object_features", "caption", "image_phrases", "length",
}  # fmt: skip

# "crops" is a column of mnre_published_objects, which nothing here reads
KEYS_OF_A_PAIR = {"head", "tail", "tail_object", "text_phrases", "objects", "image_phrases", "relation", "crops"}

PAIR = "{'head': (start, end), 'tail': (start, end)}"


def as_list(posts: Any) -> list[Any]:
    """One post, or whatever gives several, as a list."""
    try:
        return [posts] if isinstance(posts, (Mapping, str)) else list(posts)
    except TypeError:
        return [posts]


def post_name(post: Any, index: int) -> str:
    """How errors call a post: by its id, else by its place in the batch."""
    return f"post {(post.get('id', index) if isinstance(post, Mapping) else index)!r}"


def check_post(post: dict, name: str) -> None:
    """Keys and the types of all that is text or a list; spans, boxes and features are checked where they are read.

    Raises:
        ValueError: names the post, the value and the fix.
    """
    if not isinstance(post, Mapping):
        raise ValueError(f"{name} must be a dict, received {type(post).__name__}: {str(post)[:80]!r}.")
    if not post.keys() <= POST_KEYS:
        unknown = sorted(map(str, post.keys() - POST_KEYS))
        raise ValueError(f"{name} has unknown keys {unknown}: a post has {sorted(POST_KEYS)}.")
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
    for key in ("boxes", "object_features"):
        _check_rows(post.get(key), f"{name}: {key} must be a list or array with a row for each object")
    for i, pair in enumerate(post["pairs"]):
        _check_pair(pair, f"{name}, pair {i}")


def _check_pair(pair: Mapping, name: str) -> None:
    """Keys and lists; what a question may write as words or a box is checked where it is read."""
    if not pair.keys() <= KEYS_OF_A_PAIR:
        unknown = sorted(map(str, pair.keys() - KEYS_OF_A_PAIR))
        raise ValueError(f"{name} has unknown keys {unknown}: a pair has {sorted(KEYS_OF_A_PAIR)}.")
    for key in ("text_phrases", "objects", "image_phrases"):
        _check_rows(pair.get(key), f"{name}: {key} must be a list")
    tail = pair.get("tail_object")
    if tail is not None and _as_index(tail) is None:
        raise ValueError(f"{name}: tail_object must be an index into boxes (a whole number), received {tail!r}.")


def _check_rows(values: Any, rule: str) -> None:
    """None passes; a string or a mapping is no list, nor is what has no length, and could be read only once."""
    try:
        is_list = values is None or (not isinstance(values, (str, bytes, Mapping)) and len(values) >= 0)
    except TypeError:
        is_list = False
    if not is_list:
        raise ValueError(f"{rule}, received {type(values).__name__}: {str(values)[:80]!r}.")


def _as_index(value: Any) -> int | None:
    """A whole number (of numpy or torch too) as an int; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _check_list(values: Any, of: type, rule: str) -> None:
    _check_rows(values, rule)
    wrong = [value for value in values if not isinstance(value, of)] if values is not None else []
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
    try:
        start, end = map(operator.index, span)
    except (TypeError, ValueError):  # not a list, not of two, not of whole numbers
        start = end = 0
    if not 0 <= start < end <= len(unit_spans):
        raise ValueError(
            f"{name}: the span must be (start, end), whole numbers with 0 <= start < end <= {len(unit_spans)}, the "
            f"sentence's length, received {span!r}. Spans count tokens when the post has tokens, characters when it "
            "has text."
        )
    characters = (unit_spans[start][0], unit_spans[end - 1][1])
    tokens = tokens_of_span(characters, offsets)
    if tokens is None:
        raise ValueError(f"{name}: the tokenizer gives no token for the span {(start, end)}: is it only white space?")
    return tokens


def find_words(phrase: str, text: str) -> Span | None:
    """Where `phrase` first stands in `text`, not inside longer words ("man" is not in "woman")."""
    match = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text)
    return match.span() if match else None


def image_phrases_of(post: dict) -> list[str]:
    """The phrases about the image, stripped (some may be blank); without any the caption is one; [] with neither."""
    given = post.get("image_phrases")
    phrases = [phrase.strip() for phrase in given] if has_rows(given) else []
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


def select(pair: dict[str, Any], key: str, count: int, limit: int) -> list[int]:
    """The pair's own choice among `count` candidates, or the first ones; at most `limit`. -1 is a place left empty."""
    given = pair["pair"].get(key)
    if not has_rows(given):
        return list(range(count))[:limit]
    chosen = [_as_index(value) for value in given]
    wrong = [value for value, i in zip(given, chosen, strict=True) if i is None or not -1 <= i < count]
    if wrong:
        raise ValueError(
            f"{pair['name']}: {key} must be indices below {count}, the post's number, or -1 for a place left empty, "
            f"received {wrong}."
        )
    return chosen[:limit]


def label_id(pair: dict[str, Any], label2id: dict[str, int]) -> int:
    relation = pair["pair"].get("relation")
    if isinstance(relation, str) and relation in label2id:
        return label2id[relation]
    index = _as_index(relation)
    if index is not None and 0 <= index < len(label2id):
        return index
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
