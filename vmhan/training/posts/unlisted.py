"""Pairs of a post's mentions that the data do not list, as examples of no relation."""

from functools import partial
from typing import Any
from zlib import crc32

import datasets

from datasets_scripts.leaks import ORDER_BLIND, protocol_of
from datasets_scripts.schema import new_pair, with_hypergraph
from modeling_vmhan.facts import pairs_of_mentions
from modeling_vmhan.labels import find_none_label


__all__ = ["with_unlisted_pairs"]


def with_unlisted_pairs(posts: datasets.DatasetDict) -> datasets.DatasetDict:
    """The train split with all pairs of a post's mentions, those that are in no list with the "no relation" label.

    They are in text order; where the data's order of head and tail means something, so that the pipeline asks about
    both, in one of them by a rule that has no system. Evaluation splits keep their pairs, and so their scores.
    """
    if "train" not in posts:
        return posts
    rows = posts["train"]
    labels = rows.features["pairs"].feature["relation"].names
    options = {
        "none": labels.index(find_none_label(labels)),
        "in_text_order": protocol_of(posts) == ORDER_BLIND,
        "has_hypergraph": "hypergraph" in rows.features,
    }
    make = partial(_with_unlisted, **options)
    return datasets.DatasetDict({**posts, "train": rows.map(make, features=rows.features)})


def _with_unlisted(post: dict[str, Any], *, none: int, in_text_order: bool, has_hypergraph: bool) -> dict[str, Any]:
    spans = {tuple(span) for pair in post["pairs"] for span in (pair["head"], pair["tail"]) if len(span)}
    words = {(start, end): " ".join(post["tokens"][start:end]) for start, end in spans}
    listed = {frozenset((tuple(pair["head"]), tuple(pair["tail"]))) for pair in post["pairs"]}
    added = []
    for pair in pairs_of_mentions(words, both_directions=False):
        if frozenset(pair.values()) not in listed:
            is_turned = not in_text_order and crc32(f"{post['id']} {pair}".encode()) % 2
            added.append(new_pair(*(pair[role] for role in ("head", "tail")[:: -1 if is_turned else 1]), none))
    pairs = post["pairs"] + added
    whole = {**post, "pairs": pairs}
    return with_hypergraph(whole) if has_hypergraph else whole
