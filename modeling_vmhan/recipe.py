"""What chose the phrases and objects of the data that a model was trained on, applied to a post that nobody asked.

A recipe is a dict, the field `recipe` of `VMHANConfig`: `detector` (its name, with `detector_options`), which runs
outside of this folder; `selector` ("heuristic", "spacy:PIPELINE", "llm:MODELS"), and `caption_phrases`, how many
phrases at most a rule took from a caption, or "all". What is left out was not used.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .once import warn_once
from .phrases import noun_phrases
from .posts import image_phrases_of
from .selection import choose_by_rule, distinct_phrases, moved_indices, rank_objects
from .words import tokenize, tokens_of_span


__all__ = ["apply_recipe"]

logger = logging.getLogger(__name__)

BY_RULE = "heuristic"
CHOICES = ("text_phrases", "image_phrases", "objects")


def apply_recipe(post: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    """The post, as `posts.read_post` gives it, with choices for the pairs that have none; [] is one: nothing.

    With a selector text phrases, image phrases and objects are chosen by rule (`selection.choose_by_rule`), which
    stands in, with a warning, for one that cannot run here. Without one there are no text phrases, image phrases stay
    in their order, and objects are ranked by `selection.rank_objects`. To hyperedges that the post brings no text
    phrase is added.
    """
    recipe, post = recipe or {}, dict(post)
    selector = recipe.get("selector")
    number = recipe.get("caption_phrases")
    if number is not None and post.get("caption") and not post.get("image_phrases"):
        post["image_phrases"] = noun_phrases(post["caption"], None if number == "all" else number)
    if selector is not None:
        post = _without_repetitions(post)
    names = CHOICES if selector is not None else ("objects",)
    unasked = [any(pair.get(name) is None for name in names) for pair in post["pairs"]]
    if not any(unasked):
        return post
    if selector is not None and selector != BY_RULE and "hypergraph" not in post:
        warn_once(
            logger,
            f"the phrases and objects of the training data were chosen by {selector!r}, which does not run here: a "
            "rule stands in for pairs that do not name theirs (text_phrases, image_phrases, objects).",
        )
    seen = _seen(post)
    choose = _objects if selector is None else _by_rule(seen)
    pairs = [choose(seen, pair) | _given(pair) if wants else pair for pair, wants in zip(post["pairs"], unasked)]
    return {**post, "pairs": pairs}


def _given(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pair.items() if value is not None}


def _objects(post: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    return {"objects": rank_objects(post, pair)}


def _by_rule(post: dict[str, Any]) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """What chooses for a pair of the post, whose sentence is cut into words once, where it has no tokens."""
    text, words = post.get("text"), None if "tokens" in post else tokenize(post["text"])
    tokens = post["tokens"] if words is None else [text[start:end] for start, end in words]

    def choose(post: dict[str, Any], pair: dict[str, Any]) -> dict[str, Any]:
        if words is not None:
            roles = [role for role in ("head", "tail") if role in pair]
            pair = {**pair, **{role: tokens_of_span(pair[role], words) or (0, 0) for role in roles}}
        found = choose_by_rule({**post, "tokens": tokens}, pair)
        if words is not None:
            found["text_phrases"] = [(words[start][0], words[end - 1][1]) for start, end in found["text_phrases"]]
        if "hypergraph" in post:
            found["text_phrases"] = []
        found["image_phrases"] = found["image_phrases"] or list(range(len(image_phrases_of(post))))  # the caption
        return found

    return choose


def _without_repetitions(post: dict[str, Any]) -> dict[str, Any]:
    """Each image phrase once, as selectors leave them, and the pairs' indices moved with them."""
    phrases = post.get("image_phrases") or []
    joined = distinct_phrases(phrases)
    chosen = [pair["image_phrases"] for pair in post["pairs"] if pair.get("image_phrases")]
    if len(joined) == len(phrases) or any(index >= len(phrases) for indices in chosen for index in indices):
        return post  # what is wrong is said where it is read
    pairs = [
        {**pair, "image_phrases": moved_indices(pair["image_phrases"], phrases, joined)}
        if pair.get("image_phrases")
        else pair
        for pair in post["pairs"]
    ]
    return {**post, "image_phrases": joined, "pairs": pairs}


def _seen(post: dict[str, Any]) -> dict[str, Any]:
    """The post with those of its objects alone that a model sees."""
    features = post.get("object_features", ())
    count = len(features)
    if not count and "image" in post and "image_features" not in post:
        count = len(post.get("boxes", ()))
    keys = ("boxes", "object_features", "object_labels", "object_scores")
    return {**post, **{key: post[key][:count] for key in keys if len(post.get(key, ())) > count}}
