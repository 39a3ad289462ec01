"""One row of people's own data (JSONL) becomes a post, or an error that names file, line and field.

A row: `text` or `tokens`, `pairs`, and optionally `id`, `image`, `caption`, `image_phrases`, `boxes`, `object_labels`.
A pair: `head`, `tail` or `tail_object`, `relation`, and optionally `text_phrases`, `image_phrases` and `objects`.
"""

import difflib
import math
from pathlib import PurePosixPath
from typing import Any

from datasets_scripts.builders.mentions import Sentence


__all__ = ["PAIR_FIELDS", "ROW_FIELDS", "parse_row"]

ROW_FIELDS = (
    "id", "text", "tokens", "image", "caption", "image_phrases", "boxes", "object_labels", "pairs",
)  # fmt: skip
PAIR_FIELDS = ("head", "tail", "tail_object", "relation", "text_phrases", "image_phrases", "objects")


def parse_row(row: Any, *, place: str, labels: list[str]) -> dict[str, Any]:
    """A row as a post of `datasets_scripts.schema`; `image_id` is the row's `image`, `id` is None if it has none.

    Args:
        row: what the line of JSON holds.
        place: "FILE, line NUMBER"; begins every error.
        labels: the relations there are.

    Raises:
        ValueError: an unknown, missing or malformed field, with what was expected and received, and the fix.
    """
    _check_fields(row, ROW_FIELDS, place=place, field="")
    sentence = _sentence(row, place)
    image = _image(row.get("image"), place)
    boxes = _boxes(row.get("boxes"), place)
    if boxes and image is None:
        raise ValueError(f"{place}, field 'boxes': expected boxes of an image, received no image. Add 'image'")
    object_labels = _strings(row.get("object_labels"), place, "object_labels") or [""] * len(boxes)
    if len(object_labels) != len(boxes):
        raise ValueError(
            f"{place}, field 'object_labels': expected one label a box, {len(boxes)}, received {len(object_labels)}"
        )
    pairs = row.get("pairs")
    if not isinstance(pairs, list) or not pairs:
        raise ValueError(
            f"{place}, field 'pairs': expected a list of at least one "
            f"{{'head': ..., 'tail': ..., 'relation': ...}}, received {pairs!r}"
        )
    phrases = _strings(row.get("image_phrases"), place, "image_phrases")
    sizes = {"boxes": len(boxes), "image_phrases": len(phrases)}
    return {
        "id": _identifier(row.get("id"), place),
        "tokens": sentence.tokens,
        "image_id": image,
        "boxes": boxes,
        "object_labels": object_labels,
        "caption": (_string(row.get("caption"), place, "caption") or "").strip() or None,
        "image_phrases": phrases,
        "pairs": [_pair(pair, sentence, sizes, labels, place, f"pairs[{i}]") for i, pair in enumerate(pairs)],
    }


def _pair(
    pair: Any, sentence: Sentence, sizes: dict[str, int], labels: list[str], place: str, field: str
) -> dict[str, Any]:
    _check_fields(pair, PAIR_FIELDS, place=place, field=field)
    if pair.get("head") is None:
        raise ValueError(f"{place}, field '{field}.head': expected a span or a string of the sentence, received none")
    tail, tail_object = pair.get("tail"), pair.get("tail_object")
    tail_object = None if tail_object == -1 else tail_object
    if (tail is None or tail == []) == (tail_object is None):
        raise ValueError(
            f"{place}, field '{field}.tail': expected either 'tail' (a mention in the sentence) or 'tail_object' (the "
            f"index of a box), received tail={tail!r} and tail_object={tail_object!r}"
        )
    if tail_object is not None:
        _indices([tail_object], sizes, "boxes", place, f"{field}.tail_object")
    relation = pair.get("relation")
    if relation not in labels:
        near = difflib.get_close_matches(str(relation), labels, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{place}, field '{field}.relation': expected one of {labels}, received {relation!r}.{hint}")
    phrases = pair.get("text_phrases") or []
    if not isinstance(phrases, list):
        raise ValueError(
            f"{place}, field '{field}.text_phrases': expected a list of spans or strings, received {phrases!r}"
        )
    return {
        "head": sentence.span(pair["head"], place=place, field=f"{field}.head"),
        "tail": [] if tail_object is not None else sentence.span(tail, place=place, field=f"{field}.tail"),
        "tail_object": -1 if tail_object is None else tail_object,
        "relation": relation,
        "text_phrases": [
            sentence.span(phrase, place=place, field=f"{field}.text_phrases[{i}]") for i, phrase in enumerate(phrases)
        ],
        "image_phrases": _indices(pair.get("image_phrases"), sizes, "image_phrases", place, f"{field}.image_phrases"),
        "objects": _indices(pair.get("objects"), sizes, "boxes", place, f"{field}.objects"),
    }


def _sentence(row: dict[str, Any], place: str) -> Sentence:
    text, tokens = row.get("text"), row.get("tokens")
    if (text is None) == (tokens is None):
        raise ValueError(f"{place}, field 'text': expected either 'text' or 'tokens', received {sorted(row)}")
    if tokens is not None:
        tokens = _strings(tokens, place, "tokens")
        if not tokens or any(not token or token != "".join(token.split()) for token in tokens):
            raise ValueError(
                f"{place}, field 'tokens': expected a list of at least one word without white space, received {tokens}"
            )
        return Sentence(tokens=tokens)
    sentence = Sentence(text=_string(text, place, "text"))
    if not sentence.tokens:
        raise ValueError(f"{place}, field 'text': expected a sentence, received {text!r}")
    return sentence


def _check_fields(row: Any, known: tuple[str, ...], *, place: str, field: str) -> None:
    where = f"{place}, field {field!r}" if field else place
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with the fields {list(known)}, received {row!r}")
    for name in row:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Fields are {list(known)}"
            raise ValueError(f"{where}: unknown field {name!r}. {hint}")


def _identifier(value: Any, place: str) -> str | None:
    if value is None or (type(value) in (str, int) and str(value)):
        return None if value is None else str(value)
    raise ValueError(f"{place}, field 'id': expected a string or an int, received {value!r}")


def _image(value: Any, place: str) -> str | None:
    """A path inside the data folder, with forward slashes; "" is no image."""
    path = PurePosixPath(_string(value, place, "image") or "")
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"{place}, field 'image': expected a path inside the data folder, relative to it or to its images/, "
            f"received {value!r}"
        )
    return str(path) if path.parts else None


def _boxes(value: Any, place: str) -> list[list[float]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{place}, field 'boxes': expected a list of [x0, y0, x1, y1] in pixels, received {value!r}")
    for i, box in enumerate(value):
        numbers = isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
        if not numbers or not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(
                f"{place}, field 'boxes[{i}]': expected [x0, y0, x1, y1] in pixels of the upright image with x0 < x1 "
                f"and y0 < y1, received {box!r}"
            )
    return [list(map(float, box)) for box in value]


def _indices(value: Any, sizes: dict[str, int], of: str, place: str, field: str) -> list[int]:
    """Indices into one of the row's lists; `of` is its name."""
    indices = [] if value is None else value
    if not isinstance(indices, list) or any(type(index) is not int or not 0 <= index < sizes[of] for index in indices):
        raise ValueError(
            f"{place}, field {field!r}: expected indices from 0 into the row's {sizes[of]} {of}, received {value!r}"
        )
    return indices


def _string(value: Any, place: str, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place}, field {field!r}: expected a string, received {value!r}")
    if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(
            f"{place}, field {field!r}: expected whole characters, received half of one (a surrogate, as of an emoji "
            f"that was cut) in {value!r}. Take it out"
        )
    return value


def _strings(value: Any, place: str, field: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{place}, field {field!r}: expected a list of strings, received {value!r}")
    for item in value:
        _string(item, place, field)
    return value
