"""Posts of a data set asked about as a user would: without their pairs."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import datasets
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from modeling_vmhan import MultimodalRelationClassificationPipeline, VMHANProcessor
from modeling_vmhan.decision import DecisionRule
from modeling_vmhan.direction import symmetric_relations
from vmhan.scoring.facts import PostFacts, post_facts, scored_facts
from vmhan.scoring.precision import Rows, pairs_table, precision_table
from vmhan.training.loop.trainer import real_pairs


__all__ = ["FEATURES", "ask", "named_pairs", "posts_table", "precision_tables", "raw_question", "scored_posts"]
logger = logging.getLogger(__name__)

# What a raw post has, of the columns of a data set.
COLUMNS = ("id", "text", "tokens", "boxes", "object_labels", "caption", "image_phrases")
FEATURES = ("image_features", "object_features")
MOST_POSTS = 1000  # that a table is made of
BATCH_SIZE = 16

Pipe = Callable[..., Any]
Question = dict[str, Any]


def raw_question(post: Mapping[str, Any], config: Any) -> Question:
    """The post without its pairs, with its features, or its picture where it has none and the model takes pictures."""
    has_features = post.get("image_features") is not None
    takes_image = config.vision_encoder is not None and not has_features
    columns = (*COLUMNS, *(FEATURES if has_features else ()), *(("image",) if takes_image else ()))
    return {name: post[name] for name in columns if post.get(name) is not None}


def named_pairs(posts: datasets.Dataset) -> list[list[dict[str, Any]]]:
    """The annotated pairs of each post, with the names of their relations."""
    names = posts.features["pairs"].feature["relation"].names
    return [[{**pair, "relation": names[pair["relation"]]} for pair in pairs] for pairs in posts["pairs"]]


def ask(pipe: Pipe, questions: Sequence[Question], title: str, **options: Any) -> Iterable[list[dict[str, Any]]]:
    """The answers to each question, with a progress bar; `options` are the pipeline's."""
    return tqdm(pipe(iter(questions), **options), total=len(questions), desc=title, unit="post")


def scored_posts(
    pipe: Pipe,
    questions: Sequence[Question],
    pairs: Sequence[Sequence[Mapping[str, Any]]],
    known: Sequence[Iterable[Sequence[int]]],
    title: str,
    **options: Any,
) -> list[PostFacts]:
    """Ask, and put the answers beside what is annotated: each post's pairs, and the mentions `known` of it."""
    config = pipe.model.config
    symmetric = symmetric_relations(config.labels, order_blind=config.order_blind)
    named = {"none_label": config.none_label, "symmetric": symmetric}
    answers = ask(pipe, questions, title, **options)
    posts = zip(questions, pairs, known, answers, strict=True)
    return [post_facts(str(question["id"]), of, mentions, facts, **named) for question, of, mentions, facts in posts]


def posts_table(pipe: Pipe, posts: datasets.Dataset) -> Rows | None:
    """The table "posts" of a model's precision_table: of the facts that it finds in at most MOST_POSTS raw posts."""
    posts = posts.take(min(MOST_POSTS, len(posts)))
    questions = [raw_question(post, pipe.model.config) for post in posts]
    known = [()] * len(posts)
    found = scored_posts(pipe, questions, named_pairs(posts), known, "facts of raw posts", batch_size=BATCH_SIZE)
    scores, correct = zip(*facts) if (facts := scored_facts(found)) else ((), ())
    return precision_table(scores, correct, sum(len(post.gold.facts) for post in found))


def precision_tables(
    model: PreTrainedModel, processor: VMHANProcessor, validation: Any, posts: datasets.Dataset | None
) -> dict[str, Rows] | None:
    """The precision_table of a calibrated model's config: of given pairs by `validation`, the Trainer's predictions of
    that split, and of a model that finds mentions of the split's raw `posts` (None: leave it out). None without any.
    """
    config = model.config
    tables = {"pairs": pairs_table(*real_pairs(validation), DecisionRule.of(config))}
    if config.mentions and posts is not None:
        pipe = MultimodalRelationClassificationPipeline(model, processor, device=model.device)
        try:
            tables["posts"] = posts_table(pipe, posts)
        except (ValueError, OSError) as error:  # after hours of training
            logger.warning("there is no precision table of raw posts: %s", error)
    tables = {name: rows for name, rows in tables.items() if rows is not None}
    return tables or None
