"""Which phrases and objects become nodes of a pair's hypergraph, by rule (paper, section 4.1, "Multi-Modal Node
Selection"): training and prediction choose by what stands here.

A post is a row of `datasets_scripts.schema` or what the processor has read; where its sentence is needed it has
`tokens`, which spans count. Its relations are never read, and nothing depends on the order of its boxes.
"""

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .phrases import content_words, token_phrases
from .words import Span


__all__ = ["candidate_objects", "choose_by_rule", "distance", "distinct_phrases", "folded", "mention_spans"]
__all__ += ["moved_indices", "num_objects", "object_labels", "rank_objects", "tail_object", "values_of_objects"]

NOTHING: frozenset[str] = frozenset()


def choose_by_rule(
    post: Mapping[str, Any], pair: Mapping[str, Any], phrases: Callable[..., list[Span]] = token_phrases
) -> dict[str, list]:
    """All that a pair may choose, the most relevant first.

    - `text_phrases`: the sentence's `phrases(tokens, blocked=indices)` outside the pair's mentions, each once without
      regard to case, those with the fewest tokens between them and the two mentions together first.
    - `image_phrases`: indices of the post's that are not blank, each once without regard to case, those that share
      most words with the pair first, then in their order.
    - `objects`: those whose label shares most words with the pair first, then with its text phrases, then as
      `rank_objects` has them.

    Words are compared in lower case and without function words. A pair's words are those of its mentions and of its
    tail object's label.
    """
    tokens, mentions = post["tokens"], mention_spans(pair)
    inside = {index for start, end in mentions for index in range(start, end)}
    distinct: dict[str, Span] = {}
    for start, end in sorted(phrases(tokens, blocked=inside), key=lambda span: distance(span, mentions)):
        distinct.setdefault(folded(" ".join(tokens[start:end])), (start, end))
    spans = list(distinct.values())
    tail, labels = tail_object(pair), object_labels(post)
    texts = [" ".join(tokens[start:end]) for start, end in mentions]
    words = content_words(" ".join([*texts, *labels[tail : tail + 1]] if tail is not None else texts))
    of_phrases = set().union(*(content_words(" ".join(tokens[start:end])) for start, end in spans))
    about: dict[str, int] = {}
    for index, phrase in enumerate(post.get("image_phrases") or []):
        if phrase.strip():
            about.setdefault(folded(phrase), index)
    indices = sorted(about.values(), key=lambda index: -len(content_words(post["image_phrases"][index]) & words))
    objects = rank_objects(post, pair, labels, words=words, phrase_words=of_phrases)
    return {"text_phrases": spans, "image_phrases": indices, "objects": objects}


def rank_objects(
    post: Mapping[str, Any],
    pair: Mapping[str, Any],
    labels: Sequence[str] = (),
    *,
    words: Collection[str] = NOTHING,
    phrase_words: Collection[str] = NOTHING,
) -> list[int]:
    """The objects that the pair may choose: by the words that their `labels` share with `words`, then with
    `phrase_words`; the highest of `object_scores` first; then the largest, then from left to right. The order of
    `boxes` decides between equal boxes alone, and where there are none, of features.

    Numbers are compared as float32, in which data sets store them.
    """
    scores = array("f", values_of_objects(post, "object_scores", missing=0.0))
    boxes = post.get("boxes") or []
    ranks = []
    for index in range(num_objects(post)):
        if index == tail_object(pair):
            continue
        label = content_words(labels[index]) if labels else NOTHING
        left, top, right, bottom = array("f", boxes[index]) if boxes else (0, 0, 0, 0)
        shared = (-len(label & set(words)), -len(label & set(phrase_words)))
        ranks.append((*shared, -scores[index], (left - right) * (bottom - top), left, top, right, bottom, index))
    return [index for *_, index in sorted(ranks)]


def mention_spans(pair: Mapping[str, Any]) -> list[Span]:
    """The spans of the pair's mentions: head and tail, or the head alone when the tail is an image object."""
    mentions = [pair["head"]] if tail_object(pair) is not None else [pair["head"], pair["tail"]]
    return [(start, end) for start, end in mentions]


def tail_object(pair: Mapping[str, Any]) -> int | None:
    """The index of the object that is the pair's tail, None when the tail is a mention."""
    index = pair.get("tail_object")
    return None if index is None or index < 0 else index


def distance(span: Span, mentions: Sequence[Span]) -> int:
    """The number of tokens between a span and each of the mentions, summed over the mentions."""
    return sum(max(span[0] - end, start - span[1], 0) for start, end in mentions)


def num_objects(post: Mapping[str, Any]) -> int:
    """How many objects a post has: of its boxes, or where it has none of their features."""
    boxes, features = post.get("boxes"), post.get("object_features")
    return len(boxes) if boxes else 0 if features is None else len(features)


def values_of_objects(post: Mapping[str, Any], key: str, *, missing: Any) -> list[Any]:
    """The values of `key`, one for each object, else a ValueError; `missing` for every one where the post has none."""
    count = num_objects(post)
    values = post.get(key) or [missing] * count
    if len(values) != count:
        raise ValueError(
            f"post {post.get('id')!r}, {key}: expected one for each of its {count} boxes, received {len(values)}"
        )
    return list(values)


def object_labels(post: Mapping[str, Any]) -> list[str]:
    """The label of each of the post's objects, "" for one without."""
    return [label or "" for label in values_of_objects(post, "object_labels", missing="")]


def candidate_objects(post: Mapping[str, Any], pair: Mapping[str, Any]) -> list[tuple[int, str]]:
    """(index, label) of the objects that may be chosen: all but the pair's own tail, which is a node already."""
    return [(index, label) for index, label in enumerate(object_labels(post)) if index != tail_object(pair)]


def folded(phrase: str) -> str:
    """The phrase with single blanks and without case: two phrases that are equal so count as one."""
    return " ".join(phrase.split()).casefold()


def distinct_phrases(*lists: Sequence[str]) -> list[str]:
    """The phrases of all lists, each once as `folded` compares them."""
    phrases: dict[str, str] = {}
    for phrase in (phrase for of_list in lists for phrase in of_list):
        phrases.setdefault(folded(phrase), phrase)
    return list(phrases.values())


def moved_indices(indices: Sequence[int], phrases: Sequence[str], joined: Sequence[str]) -> list[int]:
    """Indices into `phrases` as indices into `joined`, the post's list of phrases, each once; -1, the place of no
    phrase, stays, and so does that of a blank one.
    """
    place = {folded(phrase): index for index, phrase in enumerate(joined)}
    named = [folded(phrases[index]) if index >= 0 else "" for index in indices]
    return [place[name] if name else -1 for i, name in enumerate(named) if not name or name not in named[:i]]
