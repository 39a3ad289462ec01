"""Pairs of a post's mentions that the data do not list, as examples of no relation."""

from functools import partial
from typing import Any

import datasets

from datasets_scripts.leaks import ORDER_BLIND, protocol_of
from datasets_scripts.schema import new_pair, with_hypergraph
from modeling_vmhan.facts import pairs_of_mentions
from modeling_vmhan.labels import find_none_label


__all__ = ["with_unlisted_pairs"]


def with_unlisted_pairs(posts: datasets.DatasetDict) -> datasets.DatasetDict:
    """The train split with all pairs of a post's mentions, those that are in no list with the "no relation" label.

    They are asked about as the pipeline will (`pairs_of_mentions`): in text order, and where the data's order of head
    and tail means something in both. Evaluation splits keep their pairs, and so their scores.
    """
    if "train" not in posts:
        return posts
    rows = posts["train"]
    labels = rows.features["pairs"].feature["relation"].names
    options = {
        "none": labels.index(find_none_label(labels)),
        "both_directions": protocol_of(posts) != ORDER_BLIND,
        "has_hypergraph": "hypergraph" in rows.features,
    }
    make = partial(_with_unlisted, **options)
    return datasets.DatasetDict({**posts, "train": rows.map(make, features=rows.features)})


def _with_unlisted(post: dict[str, Any], *, none: int, both_directions: bool, has_hypergraph: bool) -> dict[str, Any]:
    spans = {tuple(span) for pair in post["pairs"] for span in (pair["head"], pair["tail"]) if len(span)}
    words = {(start, end): " ".join(post["tokens"][start:end]) for start, end in spans}
    listed = {frozenset((tuple(pair["head"]), tuple(pair["tail"]))) for pair in post["pairs"]}
    found = pairs_of_mentions(words, both_directions=both_directions)
    added = [pair for pair in found if frozenset(pair.values()) not in listed]
    pairs = post["pairs"] + [new_pair(pair["head"], pair["tail"], none) for pair in added]
    whole = {**post, "pairs": pairs}
    return with_hypergraph(whole) if has_hypergraph else whole
