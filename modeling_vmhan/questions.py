"""A question to the pipeline turned into a post: strings become spans, a tail's box an object, the image is opened.

A question is a post in one of four forms: of one pair, whose head and tail the post has itself ("pair"); of a list of
`pairs`; of `mentions`, all of whose pairs are asked about; or neither, whose mentions are still to be found ("post").
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from .facts import pairs_of_mentions
from .mentions import Mention
from .posts import A_PAIR, checked_span, post_name, read_post, sentence_of
from .selection import rank_objects
from .values import MAPPING, POST, read_value, reworded, shown
from .words import Span, close_matches, find_mention, tokens_of_span, widened


__all__ = ["PAIR_KEYS", "PASSED", "QUESTION_KEYS", "Question", "given_mentions", "in_units"]
__all__ += [
    "kept_apart",
    "object_of_box",
    "passed_on",
    "post_with_pairs",
    "read_question",
    "with_mentions",
    "with_pairs",
    "without_pandas",
]

# Keys that a question about one pair has itself; a question about several has them in each of its pairs.
PAIR_KEYS = ("head", "tail", "tail_object", "text_phrases", "objects")
QUESTION_KEYS = {*POST, *PAIR_KEYS}
PASSED = "input"  # of an answer: what its question has beside these keys
NEAR = 0.75  # of difflib's ratio: a key as near as that to one of a question is that one, misspelt
UNKNOWN = {"object_labels": "", "object_scores": 0.0}  # of a tail that is put to the boxes


@dataclass(frozen=True)
class Question:
    """A post for the processor, its name in errors, and in which form it was asked.

    Of the forms "mentions" and "post" `post["pairs"]` is empty until `with_pairs` gives them; of "mentions"
    `post["mentions"]` are the spans of different mentions, in the order in which they were given.
    """

    post: dict[str, Any]
    name: str
    form: Literal["pair", "pairs", "mentions", "post"]
    mentions: Mapping[Span, Mention] | None = None  # by their spans, whose pairs the post has; None: not known yet
    knows_types: bool = False  # whether the model itself found the mentions, with types as it has learned them

    @property
    def asks_for_facts(self) -> bool:
        return self.form in ("mentions", "post")

    @property
    def single(self) -> bool:
        """Whether one answer was asked for, and not a list."""
        return self.form == "pair"


def read_question(
    question: Mapping[str, Any] | str,
    open_image: Callable[[Any], Image.Image] | None = None,
    *,
    name: str | None = None,
    pair_keys: Iterable[str] = PAIR_KEYS,
) -> Question:
    """Make a question, which stays as it is, a post. A string is a post with this text.

    `open_image` makes an RGB image of `question["image"]`, which otherwise stays as it is. `name` is how errors call
    the post, and `pair_keys` are the keys of a pair that a question about one pair may have itself.
    """
    post = _as_dict(question)
    name = name or post_name(post, "the post")
    own = {key: value for key in pair_keys if (value := post.pop(key, None)) is not None}
    form = _form_of(post, own, name)
    if form == "pair":
        post["pairs"] = [own]
    elif form != "pairs":
        post.pop("pairs", None)
    post = read_post(post, name)
    if form == "mentions":
        post["mentions"] = _read_mentions(post["mentions"], sentence_of(post, name), name)
    read = _with_spans(Question(post, name, form))
    if "image" in post and open_image is not None:
        try:
            post["image"] = open_image(post["image"])
        except (OSError, ValueError) as error:
            raise reworded(error, f"{name}: {str(error)[:1000]}") from None
    return read


def post_with_pairs(question: Mapping[str, Any] | str, name: str) -> dict[str, Any]:
    """The post of a question that names its pairs, whose relations it may have, its image not opened."""
    post = read_question(question, name=name, pair_keys=(*PAIR_KEYS, "relation")).post
    if not post["pairs"]:
        raise ValueError(f"{name} has no entity pair, and only the pipeline finds pairs: give {A_PAIR}.")
    return post


def passed_on(question: Mapping[str, Any] | str, *, with_post: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """A question without the keys that no question has, and what its answers get under PASSED: these, and `with_post`
    its text or tokens and its image. A key that seems to be misspelt stays, for `read_question` to refuse it.
    """
    post, passed = _as_dict(question), {}
    for key in [key for key in post if isinstance(key, str) and key not in QUESTION_KEYS]:
        if not close_matches(key.casefold(), QUESTION_KEYS, cutoff=NEAR):
            passed[key] = post.pop(key)
    if with_post:
        passed |= {key: post[key] for key in ("text", "tokens") if post.get(key) is not None}
        passed["image"] = post.get("image")
    return post, passed


def without_pandas(inputs: Any) -> Any:
    """Rows of a DataFrame as dicts, one of its rows as a dict, the values of another Series as a list: `[]` of pandas
    goes by labels, and iterating it gives names of columns, or values without them. What is missing is None.
    """
    if not hasattr(inputs, "iloc"):
        return inputs
    inputs = inputs.astype(object).where(inputs.notna(), None)
    if inputs.ndim == 2:
        return inputs.to_dict("records")
    return inputs.to_dict() if {"text", "tokens"} & set(inputs.index) else inputs.tolist()


def _as_dict(question: Mapping[str, Any] | str) -> dict[str, Any]:
    return {"text": question} if isinstance(question, str) else read_value(question, MAPPING, "a question")


def with_pairs(question: Question, pairs: Iterable[Mapping[str, Any]]) -> Question:
    """The question with these pairs, read and checked as those that a question gives itself; without any the post has
    none. The question itself stays as it is.
    """
    pairs = list(pairs)
    post = {**question.post, "pairs": pairs} if pairs else {**question.post, "pairs": None}
    return _with_spans(replace(question, post=read_post(post, question.name)))


def with_mentions(
    question: Question,
    mentions: Iterable[Mention],
    *,
    both_directions: bool,
    in_reach: Callable[..., list[dict[str, Span]]] | None = None,
) -> Question:
    """The question about all pairs of these mentions, whose places are characters (see `facts.pairs_of_mentions`).

    Of mentions that touch the same units (characters, or tokens) the surest one is taken. `in_reach` is
    `VMHANProcessor.pairs_in_reach`, which leaves out pairs that are too far apart.
    """
    text, units = sentence_of(question.post, question.name)
    given = mentions if isinstance(mentions, Iterable) else [mentions]
    read, found = [_checked_mention(mention, text, question.name) for mention in given], {}
    for mention in sorted(read, key=lambda mention: -mention.score):
        span = tokens_of_span((mention.start, mention.end), units)
        if span is not None:  # None: white space between tokens
            found.setdefault(span, mention)
    words = {span: text[units[span[0]][0] : units[span[1] - 1][1]] for span in found}
    pairs = pairs_of_mentions(words, both_directions=both_directions)
    pairs = pairs if in_reach is None else in_reach(question.post, pairs, question.name)
    return replace(with_pairs(question, pairs), mentions=found)


def _checked_mention(mention: Any, text: str, name: str) -> Mention:
    """What a finder found, as a Mention: of whatever module, since a saved folder has its own."""
    try:
        start, end, kind, score = read = Mention(*mention) if isinstance(mention, tuple) else mention
        is_right = 0 <= operator.index(start) < operator.index(end) <= len(text) and 0 <= score <= 1
        if is_right and (kind is None or isinstance(kind, str)):
            return read
    except (TypeError, ValueError):
        pass
    rule = f"a list of Mention(start, end, type, score): characters of the text, here of {len(text)}, and 0 to 1"
    raise ValueError(f"{name}: the function mentions must return {rule}, received {shown(mention)}.")


def given_mentions(question: Question) -> list[Mention]:
    """The mentions that a question of the form "mentions" names, as characters, of no known type."""
    _, units = sentence_of(question.post, question.name)
    return [Mention(units[start][0], units[end - 1][1]) for start, end in question.post["mentions"]]


def in_units(question: Question, span: Span) -> Mention:
    """The mention of a question about facts that has this span of units, with that span as its place."""
    return question.mentions[span]._replace(start=span[0], end=span[1])


def _form_of(post: Mapping[str, Any], own: Mapping[str, Any], name: str) -> str:
    """The form of a question, whose keys of a pair are `own`."""
    forms = {"pairs": post.get("pairs") is not None, "mentions": post.get("mentions") is not None}
    if own:
        for form in (form for form, is_given in forms.items() if is_given):
            fix = "put these into the pairs" if form == "pairs" else "leave mentions out, or these"
            raise ValueError(f"{name} has {form} and also {sorted(own)}: {fix}.")
        return "pair"
    return next((form for form, is_given in forms.items() if is_given), "post")


def _read_mentions(mentions: list[str | Span], sentence: tuple[str, list[Span]], name: str) -> list[Span]:
    """The spans of the mentions, each once; a string that stands more than once is its first place."""
    named = [(mention, f"{name}, mention {i}") for i, mention in enumerate(mentions)]
    spans = [_as_span(mention, sentence, of_mention, first=True) for mention, of_mention in named]
    return list(dict.fromkeys(checked_span(span, sentence[1], of) for span, (_, of) in zip(spans, named)))


def _with_spans(question: Question) -> Question:
    """Read, in place, the strings and the boxes of the post's pairs."""
    post, name = question.post, question.name
    sentence, num_boxes = sentence_of(post, name), len(post.get("boxes", []))
    for number, pair in enumerate(post["pairs"]):
        _read_pair(pair, post, sentence, name if question.single else f"{name}, pair {number}")
    if len(post.get("boxes", [])) > num_boxes:
        for pair in post["pairs"]:
            pair.setdefault("objects", kept_apart(post, pair.get("tail_object", -1), num_boxes))
    return question


def kept_apart(post: Mapping[str, Any], tail_object: int, num_boxes: int) -> list[int]:
    """The objects of a pair that names none, where tails were put to the boxes: they are no objects of other pairs."""
    ranked = [index for index in rank_objects(post, {}) if index < num_boxes]
    return [*ranked, *[tail_object][: tail_object >= num_boxes]]


def _read_pair(pair: dict[str, Any], post: dict[str, Any], sentence: tuple[str, list[Span]], name: str) -> None:
    """Replace, in place, a pair's strings by spans and its tail box by an object."""
    if isinstance(pair.get("tail"), list):
        pair["tail_object"] = object_of_box(pair.pop("tail"), post, name)

    for role in ("head", "tail"):
        if role in pair:
            pair[role] = _as_span(pair[role], sentence, f"{name}, {role}")
    if "text_phrases" in pair:
        pair["text_phrases"] = [_as_span(of, sentence, f"{name}, text phrase") for of in pair["text_phrases"]]


def _as_span(mention: str | Span, sentence: tuple[str, list[Span]], name: str, *, first: bool = False) -> Span:
    """Where a string stands; a span as it is, if it is of whole characters."""
    if isinstance(mention, str):
        return find_mention(mention, *sentence, name, first=first)
    text, units = sentence
    is_inside = len(units) == len(text) and 0 <= mention[0] < mention[1] <= len(text)
    if is_inside and widened(mention, text) != mention:
        cut = f"cuts a character of several code points, use {widened(mention, text)}"
        raise ValueError(f"{name}: the span {mention} {cut}.")
    return mention


def object_of_box(box: list[float], post: dict[str, Any], name: str) -> int:
    """The index of `box` among the post's boxes, to whose end it is put if it is not one of them."""
    boxes = post.get("boxes", [])
    if box in boxes:
        return boxes.index(box)
    if "image_features" in post or "object_features" in post:
        raise ValueError(
            f"{name}: the tail {box} must be one of boxes={shown(boxes)}, with its row of object_features."
        )
    if "image" not in post:
        raise ValueError(f"{name}: the tail is a box, {box}, but the post has no image to look at. Give image=...")
    post["boxes"] = [*boxes, box]
    post |= {key: [*post[key], unknown] for key, unknown in UNKNOWN.items() if post.get(key)}
    return len(boxes)
