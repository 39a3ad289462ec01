"""Values that people give, read once where they come in: as the code behind wants them, or an error that shows them.

A `Kind` says in words what a value must be and has the function that reads it. That function may raise anything.
"""

import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .words import close_matches, shortened


__all__ = [
    "BOX", "FEATURES", "FLAG", "INDEX", "MAPPING", "MENTION", "NODE_KINDS", "PAIR", "POST", "SPAN",
    "TAIL", "TEXT", "WHOLE_CHARACTERS", "Kind", "choice", "fields_of", "list_of", "number", "read_fields",
    "read_value", "reworded", "shown", "whole_text",
]  # fmt: skip

SHOWN = 200  # characters of a received value
LARGEST_FEATURE = 1e15  # the model sums the squares of thousands of them in float32
LARGEST_INDEX = 2**63
WHOLE_CHARACTERS = "whole characters, and no half of one (a surrogate, as of an emoji cut in two)"
NODE_KINDS = ("mention", "pair", "text_phrase", "image", "object", "image_phrase")
NO_LISTS = (str, bytes, bytearray, memoryview, Mapping)  # although they have a length
_SHORT = reprlib.Repr()  # Python's own short forms
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = _SHORT.maxarray = 12
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = SHOWN


def shown(value: Any) -> str:
    """At most `SHOWN` characters, on one line, for an error's message. It never fails."""
    try:
        value = value.item() if isinstance(value, np.generic) else value
        text = _SHORT.repr(value[:SHOWN] if isinstance(value, (bytes, bytearray)) else value)
    except Exception:  # an object of another's may raise anything, a number may be too long
        text = f"<{type(value).__name__}>"
    return shortened(" ".join(text.split()), SHOWN - 3)


def reworded(error: ValueError | OSError, message: str) -> ValueError | OSError:
    """An error of the same kind with another message."""
    kinds = (FileNotFoundError, TimeoutError, OSError, ValueError)
    return next(kind for kind in kinds if isinstance(error, kind))(message)


def whole_text(text: str) -> str:
    """The text with surrogates paired, as they are where JSON was not read as JSON; half a pair is a UnicodeError."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


class Refused(ValueError):
    """The part of a value that is wrong, and what it must be, where that is more than the kind says."""

    def __init__(self, value: Any, rule: str | None = None):
        super().__init__(rule)
        self.value, self.rule = value, rule


class Kind(NamedTuple):
    """What a value must be, in words, and what reads it. None that is read is a value left out."""

    rule: str
    read: Callable[[Any], Any]


def read_value(value: Any, kind: Kind, name: str) -> Any:
    """`value` as its kind reads it, or a ValueError with the part of it that is wrong."""
    try:
        return kind.read(value)
    except MemoryError:
        raise
    except Exception as error:
        wrong = error if isinstance(error, Refused) else Refused(value)
    received = f"{type(wrong.value).__name__}: {shown(wrong.value)}"
    raise ValueError(f"{name} must be {wrong.rule or kind.rule}, received {received}.")


def read_fields(item: Any, kinds: Mapping[str, Kind], name: str, near: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a dict, each as its kind reads it; those that are None are left out, unknown ones a ValueError, in
    which `near` are further keys that may have been meant.
    """
    given = read_value(item, MAPPING, name)
    unknown = sorted(shown(key) for key in given if key not in kinds)[:10]
    if unknown:
        meant = [key for word in unknown for key in close_matches(word.strip("'").casefold(), {*kinds, *near})]
        guesses = "".join(f" Did you mean {key}?" for key in meant)
        raise ValueError(f"{name} has unknown keys [{', '.join(unknown)}]: it may have {sorted(kinds)}.{guesses}")
    read = {key: read_value(value, kinds[key], f"{name}: {key}") for key, value in given.items() if value is not None}
    return {key: value for key, value in read.items() if value is not None}


def list_of(kind: Kind, rule: str) -> Kind:
    """A list, tuple or array of one kind of value; `rule` names its items."""

    def read(value: Any) -> list[Any]:
        items = _items(value)
        if kind is INDEX and set(map(type, items)) == {int} and -1 <= min(items) and max(items) < LARGEST_INDEX:
            return items  # as data sets hold them, many
        for i, item in enumerate(items):
            try:
                items[i] = kind.read(item)
            except Exception as error:
                raise error if isinstance(error, Refused) else Refused(item) from None
        return items

    return Kind(f"a list of {rule}", read)


def fields_of(needed: Mapping[str, Kind], others: Mapping[str, Kind] = MappingProxyType({})) -> Kind:
    """A dict with the needed fields and perhaps others; those that are None are left out."""
    kinds = {**needed, **others}

    def read(value: Any) -> dict[str, Any]:
        given = {key: kinds[key].read(field) for key, field in _mapping(value).items() if field is not None}
        if needed.keys() - given.keys():
            raise KeyError("a field is missing")
        return given

    return Kind(f"a dict of {', '.join(kinds)}", read)


def _python(value: Any) -> Any:
    """An array, a tensor or one of its numbers as Python's own; times, which numpy makes numbers of, are not."""
    if type(value) in (int, list, dict, str) or not hasattr(value, "tolist") or isinstance(value, NO_LISTS):
        return value
    if getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M", "V"):
        raise TypeError("times and records are neither numbers nor texts")
    return value.tolist()


def _items(value: Any) -> list[Any]:
    value = _python(value)
    if type(value) is list:
        return value.copy()
    if not isinstance(value, Sequence) or isinstance(value, NO_LISTS):  # a set has no order, a generator is read once
        raise TypeError("no list")
    return list(value)


def _mapping(value: Any) -> dict[Any, Any]:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise TypeError("no dict")
    return dict(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no string")
    try:
        return whole_text(str.__str__(value))  # a plain string of a subclass
    except UnicodeError:
        raise Refused(value, WHOLE_CHARACTERS) from None


def _index(value: Any) -> int:
    value = _python(value)
    if isinstance(value, bool):
        raise TypeError("True is no number")
    index = operator.index(value)
    if not -LARGEST_INDEX <= index < LARGEST_INDEX:
        raise OverflowError("no index of a tensor")
    return index


def _place(value: Any) -> int:
    """An index, or -1 for a place left empty; 1.0 of an array is 1, as NumPy and torch have it beside None."""
    whole = _python(value)
    index = _index(int(whole) if whole is not value and isinstance(whole, float) and whole.is_integer() else value)
    if index < -1:
        raise ValueError("no place")
    return index


def _finite(value: Any) -> int | float:
    value = _python(value)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError("no finite number")
    return value


def _number(value: Any) -> float:
    return float(_finite(value))


def _span(value: Any) -> tuple[int, int]:
    start, end = map(_index, _items(value))
    return start, end


def _box(value: Any) -> list[float]:
    left, top, right, bottom = box = [_number(side) for side in _items(value)]
    if right <= left or bottom <= top:
        raise Refused(value, "[x1, y1, x2, y2] with x1 < x2 and y1 < y2 (not width and height)")
    return box


def _tail(value: Any) -> Any:
    """A span; None of an empty one, which a data set's row has beside `tail_object`."""
    return _span(value) if len(_items(value)) else None


def _text_or(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: _text(value) if isinstance(value, str) else read(value)


def _image(value: Any) -> Any:
    """A path must be one; whatever else may be an image is looked at when it is opened."""
    if not isinstance(value, (str, Path)):
        is_plain = isinstance(value, (bytes, Image.Image)) or hasattr(type(value), "__array_interface__")
        return value if is_plain else _mapping(value)  # a data set's, of bytes and path
    path = _text(value) if isinstance(value, str) else str(value)
    if not path.strip() or "\0" in path:
        raise Refused(value, "a path, and neither blank nor with a null character")
    return path if isinstance(value, str) else value


def _types(value: Any) -> set[str]:
    """The names of the types of a list's numbers, "bool" of numpy's too; of an array none."""
    types = {of.__name__.rstrip("_") for of in set(map(type, value))} if isinstance(value, (list, tuple)) else set()
    return set().union(*map(_types, value)) if types & {"list", "tuple"} else types


def _features(value: Any) -> np.ndarray:
    """float16 where they come so, for the model to cast, else float32."""
    if isinstance(value, NO_LISTS) or not hasattr(value, "__len__"):
        raise TypeError("no list of numbers")
    if hasattr(value, "filled"):
        value = value.filled(math.nan)  # a masked array, whose mask another would not have
    if hasattr(value, "is_quantized"):
        found = _of_torch(value)
    else:
        found = np.asarray(value if hasattr(value, "__array_interface__") else _items(value))
    is_number = found.dtype.kind in "fiu" or not found.size  # of none, a data set as NumPy has objects
    if found.ndim not in (1, 2) or not is_number or _types(value) & {"bool", "Tensor"}:
        raise TypeError("no list of numbers")
    is_half = hasattr(value, "dtype") and found.dtype == np.float16
    with np.errstate(over="ignore"):  # which is said below
        features = found.astype(np.float16 if is_half else np.float32, copy=False)
    size = np.abs(features, dtype=np.float32)
    if not (size <= LARGEST_FEATURE).all():  # not of nan either
        largest = float(f"{size.max():.3g}")
        raise Refused(largest, f"finite, of at most {LARGEST_FEATURE:g}, for finite scores")
    return features


def _of_torch(tensor: Any) -> np.ndarray:
    """The numbers of a dense tensor, of which numpy has no bfloat16."""
    if tensor.is_quantized:
        raise TypeError("no numbers as they are")
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:
        return tensor.float().numpy()


def _flag(value: Any) -> bool:
    if value is not True and value is not False:
        raise TypeError("no bool")
    return value


def choice(*values: str) -> Kind:
    """One of these values."""
    return Kind(f"one of {values}", lambda value: values[values.index(value)])


def number(low: float, high: float, *, whole: bool = False) -> Kind:
    """A number of these bounds, both included."""

    def read(value: Any) -> int | float:
        found = _index(value) if whole else _number(value)
        if not low <= found <= high:
            raise ValueError("out of bounds")
        return found

    return Kind(f"a {'whole ' if whole else ''}number from {low} to {high}", read)


ANYTHING = Kind("anything", lambda value: value)
MAPPING = Kind("a dict", _mapping)
TEXT = Kind("a string", _text)
NAME = Kind("a string or a finite number", _text_or(_finite))
INDEX = Kind("a whole number of at least -1, of 64 bits", _place)
SPAN = Kind("a span (start, end) of whole numbers", _span)
TAIL = Kind(SPAN.rule, _tail)
MENTION = Kind("a string or a span (start, end) of whole numbers", _text_or(_span))
MENTIONS = list_of(MENTION, "strings or spans")
TAIL_MENTION = Kind(
    f"{MENTION.rule}, or a box of four finite numbers",
    _text_or(lambda value: _box(value) if len(_items(value)) == 4 else _tail(value)),
)
BOX = Kind("four finite numbers [x1, y1, x2, y2]", _box)
KIND_OF_NODE = choice(*NODE_KINDS)
LABEL = Kind("a relation's name or id", _text_or(_index))
FLAG = Kind("True or False", _flag)
IMAGE = Kind("a path, bytes, a Pillow image or an array", _image)
FEATURES = Kind("lists of finite numbers of one length, or an array", _features)

# What a post and a pair may hold, in training and in a question.
TEXTS, INDICES = list_of(TEXT, "strings"), list_of(INDEX, f"indices, each {INDEX.rule}")
NODE = fields_of({"kind": KIND_OF_NODE}, {"span": SPAN, "index": INDEX})
HYPEREDGE = fields_of({"family": TEXT, "pair": INDEX, "nodes": INDICES})
ROLES = list_of(Kind("a role or None", lambda value: None if value is None else _text(value)), "roles")
POST_HYPEREDGE = fields_of({"family": TEXT, "nodes": INDICES}, {"pair": INDEX, "roles": ROLES})
HYPERGRAPH = fields_of(  # of which a model reads the hyperedges of its own scope
    {"nodes": list_of(NODE, f"nodes, each {NODE.rule}"), "pair_hyperedges": list_of(HYPEREDGE, HYPEREDGE.rule)},
    {"post_hyperedges": list_of(POST_HYPEREDGE, POST_HYPEREDGE.rule)},
)
POST = {
    "text": TEXT, "tokens": TEXTS, "pairs": list_of(MAPPING, "dicts"), "mentions": MENTIONS, "id": NAME,
    "image": IMAGE, "caption": TEXT, "image_phrases": TEXTS, "boxes": list_of(BOX, f"boxes, each {BOX.rule}"),
    "object_labels": TEXTS, "object_scores": list_of(Kind("a finite number", _number), "finite numbers"),
    "image_features": FEATURES, "object_features": FEATURES, "image_id": ANYTHING, "length": ANYTHING,
    "hypergraph": HYPERGRAPH,
    "object_depths": ANYTHING,  # a column of `vmhan prepare --depth`, which MOREformer alone reads
    "gold_objects": ANYTHING,  # a column for evaluation alone, unread
}  # fmt: skip
PAIR = {
    "head": MENTION, "tail": TAIL_MENTION, "tail_object": INDEX, "text_phrases": MENTIONS,
    "objects": INDICES, "image_phrases": INDICES, "relation": LABEL,
    "crops": ANYTHING,  # a column of mnre_published_objects, unread
}  # fmt: skip
