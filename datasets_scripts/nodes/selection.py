"""Which phrases and objects become nodes of a pair's hypergraph (paper, section 4.1, "Multi-Modal Node Selection").

A selector answers for each pair (h, t) of a post: the M most relevant text phrases, as spans of the sentence; the Q
most relevant phrases about the image; the K most relevant objects. It knows the image, the sentence and the pair's own
words, and nothing else: never a relation, a line number or another pair.

Here are the protocol, the selector by rule, which needs no network, and how selections get into a post; the paper's
selector by language models is in `selection_llm`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image
from tqdm.auto import tqdm

from datasets_scripts.nodes.phrases import content_words, token_phrases


__all__ = [
    "FIELDS",
    "HeuristicSelector",
    "NodeSelector",
    "PairSelection",
    "Span",
    "apply_selections",
    "candidate_objects",
    "check_counts",
    "distance",
    "make_selector",
    "mention_spans",
    "mention_words",
    "object_labels",
    "select_posts",
    "tail_object",
]

Span = tuple[int, int]
FIELDS = ("text_phrases", "image_phrases", "objects")


@dataclass(frozen=True)
class PairSelection:
    """What was chosen for one pair, best first.

    Attributes:
        text_phrases: [start, end) spans of the post's tokens.
        image_phrases: phrases about the image.
        objects: indices into the post's `boxes`.
        reasons: {field: why it is empty, or what was left out of it}.
    """

    text_phrases: list[Span] = field(default_factory=list)
    image_phrases: list[str] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


class NodeSelector(Protocol):
    """Chooses nodes for pairs.

    Attributes:
        description: JSON-able provenance.
        window: pairs it likes to be given at a time (to keep a server busy); 1 where that makes no difference.
    """

    description: dict[str, Any]
    window: int

    def select(self, post: dict[str, Any], image: Image.Image | None) -> list[PairSelection]:
        """One selection for each of `post["pairs"]`; `relation` is never read."""
        ...

    def select_window(self, posts: Sequence[tuple[dict[str, Any], Image.Image | None]]) -> list[list[PairSelection]]:
        """`select` of several posts at once."""
        ...


def make_selector(spec: str, **options: Any) -> NodeSelector:
    """A selector by name.

    Args:
        spec: "heuristic"; "openai:MODEL@BASE_URL" or "openai:TEXT_MODEL@BASE_URL,VLM@BASE_URL" (one address is enough
            where both models are there); "transformers:VLM" or "transformers:TEXT_MODEL,VLM".
        options: `num_text_phrases`, `num_image_phrases`, `num_objects` of every selector; `cache_dir`,
            `max_image_side`, `window` of those by language models; and the keyword arguments of their back end,
            `OpenAIChatModel` or `TransformersChatModel`.

    Raises:
        ValueError: an unknown selector or option, or a bad value of one.

    Example:
        >>> make_selector("heuristic", num_objects=5)
        >>> make_selector("openai:llama3,llava@http://localhost:11434/v1", cache_dir="answers", concurrency=4)
    """
    kind, _, models = spec.partition(":")
    if kind in ("openai", "transformers") and models:
        from datasets_scripts.nodes.selection_llm import make_llm_selector  # here, as few builds need it

        return make_llm_selector(kind, models, **options)
    if spec != "heuristic":
        raise ValueError(
            f"spec: expected 'heuristic', 'openai:MODEL@BASE_URL' or 'transformers:TEXT_MODEL,VLM', received {spec!r}"
        )
    unknown = sorted(set(options) - HeuristicSelector.OPTIONS)
    if unknown:
        raise ValueError(
            f"options: expected some of {sorted(HeuristicSelector.OPTIONS)} for {spec!r}, received {unknown}"
        )
    return HeuristicSelector(**options)


class HeuristicSelector:
    """Chooses by rule, without a model or a network.

    - Text phrases: the sentence's noun chunks and actions (`phrases.token_phrases`) outside the pair's mentions, each
      once (compared without case), those with the fewest tokens between them and the two mentions together first.
    - Image phrases: those of `post["image_phrases"]` that share most words with the pair first, then in their order.
    - Objects: those whose label shares most words with the pair first, then with the pair's text phrases, then by
      `post["object_scores"]` where the post has them, then in their order, which is by score. The pair's own
      tail object is a node already and not among them.

    Words are compared in lower case, function words left out; a pair's words are those of its mentions and of its tail
    object's label.

    Args:
        num_text_phrases: M. num_image_phrases: Q. num_objects: K (paper: 3).

    Raises:
        ValueError: a negative number.

    Example:
        >>> post = {"tokens": "Ann poses beside Bob in Oslo".split(), "pairs": [{"head": [0, 1], "tail": [3, 4]}]}
        >>> HeuristicSelector().select(post, None)[0].text_phrases
        [(1, 2), (5, 6)]
    """

    OPTIONS = frozenset({"num_text_phrases", "num_image_phrases", "num_objects"})
    window = 1

    def __init__(self, *, num_text_phrases: int = 3, num_image_phrases: int = 3, num_objects: int = 3):
        check_counts(num_text_phrases=num_text_phrases, num_image_phrases=num_image_phrases, num_objects=num_objects)
        self.num_text_phrases, self.num_image_phrases = num_text_phrases, num_image_phrases
        self.num_objects = num_objects

    @property
    def description(self) -> dict[str, Any]:
        return {
            "selector": "heuristic",
            "num_text_phrases": self.num_text_phrases,
            "num_image_phrases": self.num_image_phrases,
            "num_objects": self.num_objects,
        }

    def select(self, post: dict[str, Any], image: Image.Image | None = None) -> list[PairSelection]:
        """See `NodeSelector.select`. The image's pixels are not looked at.

        Raises:
            ValueError: `object_labels` or `object_scores` are not as many as the boxes.
        """
        return [self._select_pair(post, pair) for pair in post["pairs"]]

    def select_window(self, posts: Sequence[tuple[dict[str, Any], Image.Image | None]]) -> list[list[PairSelection]]:
        return [self.select(post, image) for post, image in posts]

    def _select_pair(self, post: dict[str, Any], pair: dict[str, Any]) -> PairSelection:
        words = mention_words(post, pair)
        spans = _closest_phrases(post["tokens"], mention_spans(pair))[: self.num_text_phrases]
        phrases = sorted(post.get("image_phrases") or [], key=lambda phrase: -len(content_words(phrase) & words))
        text = [content_words(" ".join(post["tokens"][start:end])) for start, end in spans]
        objects = _rank_objects(post, pair, words, set().union(*text))[: self.num_objects]
        chosen = {"text_phrases": spans, "image_phrases": phrases[: self.num_image_phrases], "objects": objects}
        wanted = (self.num_text_phrases, self.num_image_phrases, self.num_objects)
        reasons = {
            name: f"the post has no {name.replace('_', ' ')} to choose from"
            for name, number in zip(FIELDS, wanted, strict=True)
            if number and not chosen[name]
        }
        return PairSelection(**chosen, reasons=reasons)


def select_posts(
    selector: NodeSelector,
    posts: Iterable[tuple[dict[str, Any], Image.Image | None]],
    *,
    total_pairs: int | None = None,
    progress: bool = True,
) -> Iterator[list[PairSelection]]:
    """Selections of each post, in order, `selector.window` pairs at a time and no more posts in memory.

    Args:
        posts: (post, image) of each.
        total_pairs: how many pairs they have, if known, for the bar.
        progress: show a tqdm bar that counts pairs.
    """
    window: list[tuple[dict[str, Any], Image.Image | None]] = []
    with tqdm(desc="node selection", unit="pair", total=total_pairs, disable=not progress) as bar:
        for post_and_image in posts:
            window.append(post_and_image)
            if sum(len(post["pairs"]) for post, _ in window) >= selector.window:
                yield from _select_window(selector, window, bar)
                window = []
        yield from _select_window(selector, window, bar)


def apply_selections(
    post: dict[str, Any], selections: Sequence[PairSelection]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The post with its pairs' `text_phrases`, `image_phrases` and `objects` as selected; nothing is changed in place.

    The pairs' image phrases join the post's, which keep their order, each once (compared without case and spacing);
    a pair's `image_phrases` are indices into that list.

    Returns:
        The new post, and what stayed empty or was left out: {"pair": index, "field": name, "reason": text} each.

    Raises:
        ValueError: not one selection a pair.
    """
    if len(selections) != len(post["pairs"]):
        raise ValueError(
            f"selections: expected one for each of the {len(post['pairs'])} pairs of post {post.get('id')!r}, "
            f"received {len(selections)}"
        )
    phrases: dict[str, str] = {}
    chosen = [phrase for selection in selections for phrase in selection.image_phrases]
    for phrase in [*(post.get("image_phrases") or []), *chosen]:
        phrases.setdefault(_folded(phrase), phrase)
    index_of = {key: index for index, key in enumerate(phrases)}
    pairs, reasons = [], []
    for number, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
        indices = dict.fromkeys(index_of[_folded(phrase)] for phrase in selection.image_phrases)
        spans = [list(span) for span in selection.text_phrases]
        pairs.append(pair | {"text_phrases": spans, "image_phrases": list(indices), "objects": [*selection.objects]})
        reasons += [
            {"pair": number, "field": name, "reason": selection.reasons[name]}
            for name in FIELDS
            if name in selection.reasons
        ]
    return post | {"image_phrases": list(phrases.values()), "pairs": pairs}, reasons


def moved_indices(indices: Sequence[int], phrases: Sequence[str], joined: Sequence[str]) -> list[int]:
    """Indices into a post's `phrases` as indices into the list that `apply_selections` joined them to, each once.

    -1, an empty place, stays.

    Example:
        >>> moved_indices([2, 1], ["a dog", "A dog", "red car"], ["a dog", "red car"])
        [1, 0]
    """
    place = {_folded(phrase): index for index, phrase in enumerate(joined)}
    return list(dict.fromkeys(-1 if index < 0 else place[_folded(phrases[index])] for index in indices))


def _select_window(
    selector: NodeSelector, window: list[tuple[dict[str, Any], Image.Image | None]], bar: tqdm
) -> list[list[PairSelection]]:
    selections = selector.select_window(window) if window else []
    bar.update(sum(map(len, selections)))
    return selections


# what selectors know of a pair ---------------------------------------------------------------------------------------


def mention_spans(pair: dict[str, Any]) -> list[Span]:
    """The spans of the pair's mentions: head and tail, or the head alone when the tail is an image object."""
    mentions = [pair["head"]] if tail_object(pair) is not None else [pair["head"], pair["tail"]]
    return [(start, end) for start, end in mentions]


def tail_object(pair: dict[str, Any]) -> int | None:
    """The index of the object that is the pair's tail, None when the tail is a mention."""
    index = pair.get("tail_object")
    return None if index is None or index < 0 else index


def distance(span: Span, mentions: Sequence[Span]) -> int:
    """Tokens between a span and each of the mentions, summed up: least for what stands between or beside them."""
    return sum(max(span[0] - end, start - span[1], 0) for start, end in mentions)


def mention_words(post: dict[str, Any], pair: dict[str, Any]) -> set[str]:
    """The content words of the pair's mentions and of its tail object's label."""
    texts = [" ".join(post["tokens"][start:end]) for start, end in mention_spans(pair)]
    if tail_object(pair) is not None:
        texts.append(object_labels(post)[tail_object(pair)])
    return set().union(*map(content_words, texts))


def candidate_objects(post: dict[str, Any], pair: dict[str, Any]) -> list[tuple[int, str]]:
    """(index, label) of the objects that may be chosen for a pair: all but its own tail.

    Raises:
        ValueError: `object_labels` are not as many as the boxes.
    """
    return [(index, label) for index, label in enumerate(object_labels(post)) if index != tail_object(pair)]


def check_counts(**numbers: int) -> None:
    """ValueError unless each is an int of at least 0."""
    for name, number in numbers.items():
        if type(number) is not int or number < 0:
            raise ValueError(f"{name}: expected an int of at least 0, received {number!r}")


def object_labels(post: dict[str, Any]) -> list[str]:
    """The label of each of the post's boxes, "" for one without.

    Raises:
        ValueError: there are labels, but not one a box.
    """
    return [label or "" for label in _of_boxes(post, "object_labels", missing="")]


def _of_boxes(post: dict[str, Any], key: str, *, missing: Any) -> list[Any]:
    """The values of `key`, one a box; `missing` for all where the post has none."""
    boxes = post.get("boxes") or []
    values = post.get(key) or [missing] * len(boxes)
    if len(values) != len(boxes):
        raise ValueError(
            f"post {post.get('id')!r}, {key}: expected one for each of its {len(boxes)} boxes, received {len(values)}"
        )
    return list(values)


# the rules -----------------------------------------------------------------------------------------------------------


def _closest_phrases(tokens: Sequence[str], mentions: list[Span]) -> list[Span]:
    """The sentence's phrases outside the mentions, by their distance from them, each once."""
    inside = {index for start, end in mentions for index in range(start, end)}
    distinct: dict[str, Span] = {}
    phrases = token_phrases(tokens, blocked=inside)
    for start, end in sorted(phrases, key=lambda span: distance(span, mentions)):
        distinct.setdefault(_folded(" ".join(tokens[start:end])), (start, end))
    return list(distinct.values())


def _rank_objects(post: dict[str, Any], pair: dict[str, Any], words: set[str], phrase_words: set[str]) -> list[int]:
    scores = _of_boxes(post, "object_scores", missing=0.0)

    def rank(candidate: tuple[int, str]) -> tuple[int, int, float, int]:
        index, label = candidate
        label_words = content_words(label)
        return -len(label_words & words), -len(label_words & phrase_words), -scores[index], index

    return [index for index, _ in sorted(candidate_objects(post, pair), key=rank)]


def _folded(phrase: str) -> str:
    return " ".join(phrase.split()).casefold()
