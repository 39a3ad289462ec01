"""Posts as people never should write them: right ones in which a few places hold something else, by a seed."""

import array
import collections
import copy
import datetime
import decimal
import fractions
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas
import pyarrow
import torch
from PIL import Image
from tiny import VISUAL_SIZE

from modeling_vmhan.questions import PAIR_KEYS
from modeling_vmhan.values import POST, shown


__all__ = ["NEVER_RIGHT", "OPTIONS", "SOMETIMES_RIGHT", "Fuzzed", "failure", "fuzzed_posts", "fuzzed_rows"]
__all__ += ["in_another_form", "made", "right_posts"]

UNREAD = {"image_id", "length", "crops"}
# Words of which a message about a post must have one, to say which of its values is meant.
KEYS = {*POST, *PAIR_KEYS, "relation", "scores", "text phrase", "pair 0", "must be a dict"}


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name):
        raise RuntimeError("hostile")

    __repr__ = __str__ = __len__ = __iter__ = __eq__ = __bool__ = __index__ = __float__ = __hash__ = __getattribute__


class HostileText(str):
    """A string whose methods raise."""

    def _raise(self, *_):
        raise RuntimeError("hostile")

    __repr__ = __str__ = __len__ = __eq__ = strip = encode = split = _raise
    __hash__ = str.__hash__


class HostileList(list):
    """A list that cannot be read."""

    def _raise(self, *_):
        raise RuntimeError("hostile")

    __repr__ = __len__ = __iter__ = __getitem__ = __eq__ = _raise


class HostileDict(dict):
    """A dict that cannot be read."""

    def _raise(self, *_):
        raise RuntimeError("hostile")

    __repr__ = keys = __getitem__ = get = items = __iter__ = _raise


# Expressions, each made anew, of what no place of a post can hold, and so is never answered.
NEVER_RIGHT = r"""
    Hostile() ; HostileList() ; HostileDict() ; b"1234" ; bytearray(b"1234") ; memoryview(b"1234") ; {1, 2}
    object() ; frozenset((0, 1)) ; list ; len ; ... ; True ; False ; float("nan") ; float("-inf") ; 1 + 2j
    10**400 ; -(10**5000) ; [10**5000, 1] ; (i for i in (0, 1)) ; iter(["Ann"]) ; map(str, (1, 2))
    dict.fromkeys(range(4), 1) ; {0: 1}.keys() ; MappingProxyType({"a": 1}) ; decimal.Decimal("nan")
    datetime.date(2020, 1, 1) ; [["0", "0", "5", "5"]] ; "Ann \ud83d" ; ["Ann", "\ude02"] ; [None] * 4
    [[None] * 4] ; [[1, 2], [3]] ; [True, False] ; nested(9) ; nested(2000) ; list_of_itself() ; np.array(None)
    np.array(np.nan) ; np.ones(4, bool) ; np.bool_(True) ; np.datetime64("2020-01-01") ; np.zeros(4, "M8[ns]")
    np.array([0, 1], "m8[s]") ; np.ones(8, complex) ; np.zeros(2, "i4,i4,i4,i4") ; np.zeros(2, "i4,i4,i4,i4")[0]
    np.array([None, {}, object()], object) ; np.ma.masked ; np.ones(8, bytes)
    np.ma.array(np.arange(8), mask=[0, 1] * 4) ; np.ma.array(np.arange(4.0), mask=[0, 0, 0, 1])
    torch.ones(8, device="meta") ; torch.eye(8).to_sparse() ; torch.eye(8).to_sparse_csr() ; torch.ones(4) * 1j
    torch.quantize_per_tensor(torch.ones(8), 0.1, 0, torch.qint8) ; torch.ones(8, dtype=torch.bool) ; 1j
    torch.tensor(True) ; torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])
    torch.full((8,), torch.nan) ; torch.full((8,), 1e20) ; [1e20] * 8 ; np.full(8, 1e300) ; [10**400] * 8
    [True] * 8 ; [np.bool_(True)] * 8 ; pandas.NA ; pandas.NaT ; pandas.Timestamp(0)
    pandas.DataFrame({"a": [1]}) ; pandas.Series(["Ann", None]) ; pyarrow.scalar("Ann") ; pyarrow.scalar(None)
    Path("\0") ; Path("/nowhere")
"""

# Of what is right somewhere: whether it is answered is for the place to say.
SOMETIMES_RIGHT = r"""
    pyarrow.scalar(1) ; pyarrow.array([0, 1]) ; ["0"] * 8 ; None ; "" ; " \t" ; "\0" ; "Ann" ; "Zoe" ; "12"
    "\ud83d\ude02" ; "x" * 20_000 ; "/" ; "." ; np.str_("Bob") ; HostileText("Ann") ; -2 ; -1 ; 0 ; 1 ; 2
    2**70 ; 1.0 ; 1.5 ; fractions.Fraction(1, 3) ; np.int64(1) ; np.float16(0.5) ; torch.tensor(1)
    torch.tensor(1.0) ; [] ; () ; [5] ; (0, 1) ; [1, 0] ; [0, 2**70] ; (0.0, 1.0) ; np.array([0, 1])
    np.array([0.0, 1.0]) ; torch.tensor([0, 1]) ; range(2) ; collections.deque([0, 1])
    collections.UserList([0, 1]) ; array.array("i", [0, 1]) ; pandas.Series([0, 1]) ; [0, 1, 2] ; [1, 1, 9, 9]
    [9, 9, 1, 1] ; [0, 0, 999, 999] ; np.array([0, 0, 5, 5], np.uint8) ; [[0, 0, 5, 5]] ; [[[0, 0, 5, 5]]]
    ["Ann", "Bob"] ; ["Ann", 1] ; ["", " "] ; np.array(["Ann", "Bob"]) ; np.array(["Ann", None], object)
    [0.5] * 8 ; np.full(8, 1e4, np.float16) ; torch.ones(8, requires_grad=True) ; torch.ones(3, 8)
    np.zeros((0, 8)) ; [{"head": (0, 1), "tail": (1, 2)}] ; {"head": (0, 1), "tail": (1, 2)} ; {}
    Image.new("RGB", (40, 30)) ; b"" ; "ftp://a/b.png" ; pandas.Index([0, 1])
"""
NEVER_RIGHT, SOMETIMES_RIGHT = (
    [value.strip() for value in text.replace("\n", ";").split(";") if value.strip()]
    for text in (NEVER_RIGHT, SOMETIMES_RIGHT)
)

# Option -> a right value; what is put in its place comes from the values above.
OPTIONS = {"top_k": 2, "num_samples": 3, "seed": 1, "abstain_below": 0.5, "explain": False, "url_timeout": 1.0}
OPTIONS |= {"url_max_bytes": 1000, "allow_private_urls": False}


class Fuzzed(NamedTuple):
    """A post, the options to ask it with, what was done to both, and whether an answer would be a fault."""

    post: Any
    options: dict[str, Any]
    done: list[str]
    never_right: bool


def list_of_itself() -> list:
    value: list = []
    value.append(value)
    return value


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


NAMES = {of.__name__: of for of in (array, collections, datetime, decimal, fractions, pandas, pyarrow, torch)}
NAMES |= {of.__name__: of for of in (Hostile, HostileText, HostileList, HostileDict, nested, list_of_itself)}
NAMES |= {"np": np, "Image": Image, "Path": Path, "MappingProxyType": MappingProxyType}


def made(expression: str) -> Any:
    """A value of the lists above."""
    return eval(expression, NAMES)


def right_posts(folder: Path, *, pixels: bool = False) -> list[dict[str, Any]]:
    """Posts that are answered, in all their forms; with pictures or with features."""
    features = [[((7 * i + j) % 5) / 5 for j in range(VISUAL_SIZE)] for i in range(4)]
    text = "Ann met Bob in Paris with the band"
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    path = folder / "picture.png"
    image.save(path)
    seen = {"image_features": features[0], "object_features": features[1:]}
    boxes = {"boxes": [[0, 0, 20, 20], [10.5, 5, 60, 40], [1, 2, 30, 40]]}
    about = {"caption": "a red car next to a big stage", "image_phrases": ["red car", "blue sky"]}
    if pixels:
        looks = [{"image": source, **boxes} for source in (image, path.read_bytes(), str(path), path)]
    else:
        looks = [seen, {**seen, **boxes}, {k: np.asarray(v, np.float16) for k, v in seen.items()}, {}]
    tokens, pair = (
        {"tokens": text.split()},
        {"head": (0, 1), "tail": (2, 3), "text_phrases": [(3, 5)], "relation": "peer"},
    )
    return [
        {"id": "a", **tokens, "pairs": [{**pair, "objects": [2, 0], "image_phrases": [1]}, pair], **looks[0], **about},
        {"id": 7, **tokens, "pairs": [{"head": (0, 1), "tail": [], "tail_object": 1, "relation": 1}], **looks[1]},
        {"id": "c", "text": text, "head": "Ann", "tail": "Paris", "text_phrases": ["the band"], **looks[2], **about},
        {"text": text, "pairs": [{"head": (0, 3), "tail": (8, 11), "relation": "peer"}], **looks[3]},
        {
            "id": "e",
            "text": text,
            "head": [0, 3],
            "tail": [0, 0, 20, 20],
            "object_labels": ["a", "b", "c"],
            **looks[1],
        },
    ]


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Every place of nested dicts and lists, each as the way to it; of many rows of numbers not all."""
    steps = value.items() if type(value) is dict else enumerate(value) if type(value) in (list, tuple) else ()
    for step, of in list(steps)[:9] if len(path) < 5 else ():
        yield (*path, step)
        yield from _places(of, (*path, step))


def _by_another_type(random_: random.Random, value: Any) -> Any:
    """The same value by another type; itself if there is none."""
    forms: dict[type, list[Callable]] = {
        str: [np.str_, HostileText],
        int: [np.int64, np.array, torch.tensor],
        float: [np.float64, fractions.Fraction, torch.tensor],
        dict: [collections.OrderedDict, MappingProxyType, collections.UserDict],
        list: [tuple, collections.deque, collections.UserList, np.array, torch.tensor, pandas.Series],
        tuple: [list, collections.deque, collections.UserList, np.array, torch.tensor, pandas.Series],
    }
    try:
        return random_.choice(forms.get(type(value), [copy.copy]))(value)
    except Exception:  # of a list of texts there is no tensor
        return value


def in_another_form(random_: random.Random, post: dict[str, Any]) -> dict[str, Any]:
    """The post with one of its values by another type."""
    path = random_.choice(list(_places(post)))
    value = post
    for step in path:
        value = value[step]
    return _put(post, path, _by_another_type(random_, value))


def _put(value: Any, path: tuple, new: Any) -> Any:
    """A copy of the value with something else at one place."""
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: _put(value[path[0]], path[1:], new)}
    parts = [_put(of, path[1:], new) if i == path[0] else of for i, of in enumerate(value)]
    return tuple(parts) if isinstance(value, tuple) else parts


def _changed(random_: random.Random, post: Any) -> tuple[Any, str, bool]:
    """The post with one change, the change in words, and whether a post that has it is never right."""
    places = list(_places(post))
    if not places or random_.random() < 0.01:
        name = random_.choice(NEVER_RIGHT[3:])  # transformers itself looks at what it is asked
        return made(name), f"the post is {name}", True
    path = random_.choice(places)
    *way, key = path
    owner = post
    for step in way:
        owner = owner[step]
    kind = random_.random()
    if kind > 0.6:
        return _put(post, path, _by_another_type(random_, owner[key])), f"{path} in another form", False
    if kind < 0.08 and isinstance(key, str):
        return _put(post, tuple(way), {k: v for k, v in owner.items() if k != key}), f"without {path}", False
    if kind < 0.16 and isinstance(key, str):
        other = random_.choice([f"{key}s", key[1:], key.upper(), 3, "", "tail", "objects", "\ud83d", None, (1, 2)])
        renamed = {other if k == key else k: v for k, v in owner.items()}
        return _put(post, tuple(way), renamed), f"{path} is called {other!r}", False
    if kind < 0.2:
        return _put(post, path, [owner[key]]), f"{path} in a list", False
    if kind < 0.24 and isinstance(owner, list):
        return _put(post, tuple(way), owner + [owner[key]]), f"{path} twice", False
    if kind < 0.28:
        number = random_.choice([random_.randint(-5, 70), random_.uniform(-5, 70), 10 ** random_.randint(0, 30)])
        return _put(post, path, number), f"{path} is {number}", False
    name = random_.choice(random_.choice((NEVER_RIGHT, SOMETIMES_RIGHT)))
    never = name in NEVER_RIGHT and not UNREAD & set(map(str, path))
    return _put(post, path, made(name)), f"{path} is {name}", never


def fuzzed_posts(seed: int, count: int, *, folder: Path, pixels: bool = False) -> Iterator[Fuzzed]:
    """Posts for a model with VISUAL_SIZE features, or (`pixels`) that sees; pictures are put into `folder`."""
    random_, right = random.Random(seed), right_posts(folder, pixels=pixels)
    for _ in range(count):
        post, done, options, never_right = copy.copy(random_.choice(right)), [], {}, False
        for _ in range(random_.choice((1, 1, 2, 3))):
            post, change, never = _changed(random_, post)
            done.append(change)
            never_right = never if change.startswith("the post is") else never_right or never
            if type(post) is not dict:
                break
        if random_.random() < 0.1:
            option, name = random_.choice(list(OPTIONS)), random_.choice(NEVER_RIGHT + SOMETIMES_RIGHT)
            options = {option: made(name)}
            done.append(f"option {option} is {name}")
        # what was put in first may be gone with what was put in later
        yield Fuzzed(post, options, done, never_right and len(done) == 1)


def failure(fuzzed: Fuzzed, ask: Callable[..., Any]) -> str | None:
    """What is wrong with how a post was taken; None for an answer in finite numbers, and for an error as it should be.

    An error is a ValueError or OSError that names the post, and one of its keys or an option.
    """
    try:
        answer = ask(fuzzed.post, **fuzzed.options)
    except (ValueError, OSError) as error:
        return _wrong_message(str(error), fuzzed)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if fuzzed.never_right:
        return "was answered"
    try:
        json.dumps(answer, allow_nan=False, default=lambda picture: picture.size).encode()
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__} in the answer's JSON: {error}"
    return None


def _wrong_message(message: str, fuzzed: Fuzzed) -> str | None:
    message.encode()  # a UnicodeEncodeError is for the test to see
    if len(message) > 1500:
        return f"a message of {len(message)} characters: {message[:200]}"
    if any(option in message for option in fuzzed.options):
        return None
    if not any(key in message for key in KEYS):
        return f"names no value: {message}"
    identity = fuzzed.post.get("id") if type(fuzzed.post) is dict else None
    name = f"post {shown(identity)}" if type(identity) in (str, int) and len(shown(identity)) < 50 else "post"
    return None if name in message or "question" in message else f"does not name {name}: {message}"


def fuzzed_rows(seed: int, count: int) -> Iterator[tuple[Any, bool]]:
    """Rows of JSONL of one's own, and whether one that is taken would be a fault."""
    random_ = random.Random(seed)
    pair = {
        "head": "Ann",
        "tail": [2, 3],
        "relation": "peer",
        "text_phrases": [[3, 5]],
        "objects": [1],
        "image_phrases": [0],
    }
    tokens = "Ann met Bob in Paris".split()
    boxes = {"image": "a.png", "boxes": [[0, 0, 5, 5], [1, 1, 9, 9.5]], "object_labels": ["a", "b"]}
    right = [
        {
            "id": "a",
            "tokens": tokens,
            "pairs": [pair, pair],
            **boxes,
            "image_phrases": ["red car"],
            "caption": "a car",
        },
        {"text": " ".join(tokens), "pairs": [{"head": [0, 3], "tail": "Bob", "relation": "None"}]},
        {"id": 3, "tokens": tokens, **boxes, "pairs": [{"head": "Bob", "tail_object": 1, "relation": "None"}]},
    ]
    for _ in range(count):
        row, changes, nevers = copy.copy(random_.choice(right)), random_.choice((1, 1, 2, 3)), []
        for _ in range(changes):
            changed, change, never = _changed(random_, row)
            if not any(word in change for word in ("Hostile", "bool_(True)", "tensor(True)")):  # no file holds one
                row = changed
                nevers.append(never)
            if type(row) is not dict:
                break
        yield row, nevers == [True]
