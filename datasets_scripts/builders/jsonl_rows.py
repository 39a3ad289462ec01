"""One row of people's own data becomes a post, or an error that names file, line and field.

`Row` and `Pair` say which fields there are; docs/posts.md describes them, as the pipeline has them too.
"""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat
from pydantic_core import PydanticCustomError

from datasets_scripts.builders.mentions import Sentence
from datasets_scripts.checking import Box, StrictRecord
from datasets_scripts.commands import nearest
from datasets_scripts.paths import is_inner
from datasets_scripts.schema import new_pair, new_post
from modeling_vmhan.questions import kept_apart, object_of_box
from modeling_vmhan.values import MENTION, TAIL_MENTION, Kind, shown


__all__ = ["Pair", "Row", "post_of_row", "with_pairs"]


def _word(token: str) -> str:
    if token.split() != [token]:
        raise PydanticCustomError("word", "a word without white space")
    return token


def _pixel_box(box: Box) -> list[float]:
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise PydanticCustomError("box", "[x0, y0, x1, y1] in pixels of the upright image with x0 < x1 and y0 < y1")
    return [float(side) for side in box]


def _inner_path(path: str) -> str:
    if not PurePosixPath(path).parts or "\0" in path:
        raise PydanticCustomError("path", "the path of a file; leave the field out of a row without an image")
    if not is_inner(path):
        raise PydanticCustomError("path", "a path inside the data folder, relative to it or to its images/")
    return path


def _of_kind(kind: Kind) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        try:
            return kind.read(value)
        except Exception:
            raise PydanticCustomError("mention", kind.rule) from None

    return read


Mention = Annotated[Any, AfterValidator(_of_kind(MENTION))]
Tail = Annotated[Any, AfterValidator(_of_kind(TAIL_MENTION))]
Index = Annotated[int, Field(ge=0)]


class Pair(StrictRecord):
    """Two entities; a mention or text phrase is a string that stands once in the sentence, or a span."""

    head: Mention
    tail: Tail = None
    tail_object: Annotated[int, Field(ge=-1)] = -1  # index of a box, in the place of `tail`
    relation: str
    text_phrases: list[Mention] | None = None  # of this and the next two, [] is a choice: none
    image_phrases: list[Index] | None = None  # indices into the row's `image_phrases`
    objects: list[Index] | None = None  # indices into the row's `boxes`


class Row(StrictRecord):
    """A sentence as `text` or as `tokens`, or both, what its image shows, and its pairs."""

    id: int | Annotated[str, Field(min_length=1)] | None = None
    text: str | None = None
    tokens: Annotated[list[Annotated[str, AfterValidator(_word)]], Field(min_length=1)] | None = None
    image: Annotated[str, AfterValidator(_inner_path)] | None = None
    caption: str = ""
    image_phrases: list[str] = []
    boxes: list[Annotated[Box, AfterValidator(_pixel_box)]] = []
    object_labels: list[str] = []
    object_scores: list[FiniteFloat] = []
    pairs: Annotated[list[Pair], Field(min_length=1)]


OF_PAIR = Pair.model_fields.keys() - Row.model_fields.keys()


def with_pairs(row: dict[str, Any], place: str) -> dict[str, Any]:
    """The row with its pairs: a row of one pair, as every row of CSV is, may have the pair's fields itself."""
    own = {name: row[name] for name in OF_PAIR & row.keys() if row[name] is not None}
    if row.get("pairs") is not None:
        return row
    if not own:
        fix = "Label its pairs to train on it; vmhan predict answers it as it is"
        raise _error(place, "pairs", "pairs with their relations", f"a raw post of {sorted(map(str, row))}", fix)
    return {name: value for name, value in row.items() if name not in OF_PAIR} | {"pairs": [own]}


def post_of_row(row: Row, *, place: str, labels: list[str]) -> dict[str, Any]:
    """A row as a post of `datasets_scripts.schema`; `image_id` is the row's `image`, `id` is None if it has none.

    A ValueError about fields that do not fit one another begins with `place`, "FILE, line NUMBER".
    """
    if row.text is None and row.tokens is None:
        raise _error(place, "text", "'text' or 'tokens'", "neither")
    sentence = Sentence(text=row.text, tokens=row.tokens, place=place)
    if not sentence.tokens:
        raise _error(place, "text", "a sentence", row.text)
    row = _with_tail_objects(row, place)
    if row.boxes and row.image is None:
        raise _error(place, "boxes", "boxes of an image; add 'image'", row.boxes)
    for field, what in (("object_labels", "label"), ("object_scores", "score")):
        if (values := getattr(row, field)) and len(values) != len(row.boxes):
            raise _error(place, field, f"one {what} a box, {len(row.boxes)}", values)
    return new_post(
        None if row.id is None else str(row.id),
        sentence.tokens,
        None if row.image is None else str(PurePosixPath(row.image)),
        [_pair(pair, row, sentence, labels, place, f"pairs[{i}]") for i, pair in enumerate(row.pairs)],
        text=row.text,
        boxes=row.boxes,
        object_labels=row.object_labels or [""] * len(row.boxes),
        object_scores=row.object_scores or None,
        caption=row.caption.strip() or None,
        image_phrases=row.image_phrases,
    )


def _with_tail_objects(row: Row, place: str) -> Row:
    """The row in which a tail that is a box is one of the boxes."""
    post = {"boxes": row.boxes} | ({} if row.image is None else {"image": row.image})
    pairs = list(row.pairs)
    for i, pair in enumerate(pairs):
        if isinstance(pair.tail, list) and pair.tail_object == -1:
            index = object_of_box(pair.tail, post, f"{place}, field 'pairs[{i}].tail'")
            pairs[i] = pair.model_copy(update={"tail": None, "tail_object": index})
    added, labels, scores = len(post["boxes"]) - len(row.boxes), row.object_labels, row.object_scores
    if added:
        for i, pair in enumerate(pairs):
            if pair.objects is None:
                pairs[i] = pair.model_copy(update={"objects": kept_apart(post, pair.tail_object, len(row.boxes))})
    nodes = {"boxes": post["boxes"], "object_labels": labels and [*labels, *[""] * added]}
    return row.model_copy(update={"pairs": pairs, **nodes, "object_scores": scores and [*scores, *[0.0] * added]})


def _pair(pair: Pair, row: Row, sentence: Sentence, labels: list[str], place: str, field: str) -> dict[str, Any]:
    if (pair.tail is None) == (pair.tail_object == -1):
        received = {"tail": pair.tail, "tail_object": pair.tail_object}
        expected = "either 'tail' (a mention in the sentence) or 'tail_object' (the index of a box)"
        raise _error(place, f"{field}.tail", expected, received)
    if pair.relation not in labels:
        hint = nearest(pair.relation, labels)
        raise _error(place, f"{field}.relation", f"one of {labels}{hint}", pair.relation)
    tail_object = [] if pair.tail_object == -1 else [pair.tail_object]
    for name, indices, of in (
        ("tail_object", tail_object, "boxes"),
        ("objects", pair.objects, "boxes"),
        ("image_phrases", pair.image_phrases, "image_phrases"),
    ):
        if any(index >= len(getattr(row, of)) for index in indices or []):
            count = len(getattr(row, of))
            raise _error(place, f"{field}.{name}", f"indices into the row's {count} {of}, from 0", getattr(pair, name))

    def span(mention: Any, name: str) -> list[int]:
        return sentence.span(mention, place=place, field=f"{field}.{name}")

    phrases = pair.text_phrases
    return new_pair(
        span(pair.head, "head"),
        [] if tail_object else span(pair.tail, "tail"),
        pair.relation,
        tail_object=pair.tail_object,
        text_phrases=phrases and [span(phrase, f"text_phrases[{i}]") for i, phrase in enumerate(phrases)],
        image_phrases=pair.image_phrases,
        objects=pair.objects,
    )


def _error(place: str, field: str, expected: str, received: Any, fix: str = "") -> ValueError:
    fix = f". {fix}" if fix else ""
    return ValueError(f"{place}, field {field!r}: expected {expected}, received {shown(received)}{fix}")
