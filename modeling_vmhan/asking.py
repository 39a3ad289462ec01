"""From a question to an encoded post, for the pipeline and for what answers without it."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .batching import EncodedPost
from .direction import to_text_order
from .mentions import Mention
from .once import warn_once
from .post_encoding import PostEncoder
from .posts import sentence_of
from .questions import Question, given_mentions, with_mentions
from .recipe import apply_recipe


if TYPE_CHECKING:
    from .configuration_vmhan import VMHANConfig

__all__ = ["about", "encode_question", "is_for_several_passes", "passes_of", "with_choices"]

logger = logging.getLogger(__name__)

PAIRS_A_PASS = 512  # of one post: what a pass of the model takes at most, and with it memory


def encode_question(
    question: Question,
    encoder: PostEncoder,
    config: "VMHANConfig",
    find: Callable[[str], Iterable[Any]] | None = None,
    *,
    can_find: bool,
) -> tuple[Question, EncodedPost]:
    """The question with the pairs and choices of its post, and this encoded.

    `find` finds the mentions of raw posts, else the model does if it `can_find` them: those posts are encoded without
    pairs. A raw post of a model that cannot, and a picture of one that takes features, are ValueErrors.
    """
    if question.form == "mentions":
        question = about(question, given_mentions(question), encoder, config)
    elif question.form == "post" and find is not None:
        question = about(question, find(sentence_of(question.post)[0]), encoder, config)
    elif question.form == "post" and not can_find:
        wanted = "give head and tail, pairs or mentions, or the option mentions=FINDER, or train with --mentions true"
        raise ValueError(f"{question.name} is a raw post, in which this model finds no mentions: {wanted}.")
    question = with_choices(question, config)
    post = question.post
    if post.get("image") is not None and post.get("image_features") is None:
        if not config.visual_feature_size:
            warn_once(logger, "this model was trained without images (visual_feature_size=0): it ignores them.")
        elif config.vision_encoder is None:
            wanted = f"image_features of size {config.visual_feature_size}"
            raise ValueError(f"this model takes {wanted}, and no image; --visual pixels trains one that does.")
    encode = encoder.encode if post["pairs"] else encoder.encode_sentence
    encoded = encode(post, question.name)
    if config.order_blind:  # only now: the roles of a `hypergraph` are those of the pairs as they were given
        post["pairs"] = [to_text_order(pair) for pair in post["pairs"]]
    return question, encoded


def about(question: Question, mentions: Iterable[Mention], encoder: PostEncoder, config: "VMHANConfig") -> Question:
    """The question about the pairs of these mentions of a raw post."""
    in_reach = encoder.pairs_in_reach
    return with_mentions(question, mentions, both_directions=not config.order_blind, in_reach=in_reach)


def with_choices(question: Question, config: "VMHANConfig") -> Question:
    """The question whose pairs have the phrases and objects that the model's recipe chooses for them."""
    return replace(question, post=apply_recipe(question.post, config.recipe))


def is_for_several_passes(question: Question, encoded: EncodedPost) -> bool:
    """A hypergraph counts all pairs: the data's of a post, and the model's with hypergraph_scope="post"."""
    return len(encoded.pairs) > PAIRS_A_PASS and "hypergraph" not in question.post and encoded.graph is None


def passes_of(
    question: Question, encoded: EncodedPost, encoder: PostEncoder
) -> Iterator[tuple[Question, EncodedPost]]:
    """A question about very many pairs in parts, PAIRS_A_PASS of which are in memory at a time."""
    pairs = question.post["pairs"]
    for first in range(0, len(pairs), PAIRS_A_PASS):
        part = replace(question, post={**question.post, "pairs": pairs[first : first + PAIRS_A_PASS]})
        yield part, encoder.with_pairs(encoded, part.post)
