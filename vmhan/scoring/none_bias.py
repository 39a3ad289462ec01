"""The bias of the none label that F1 asks for on a validation split: it need not peak where the likeliest label wins.

n pairs of posts, R relations, none included. Pair i names a relation where its margin, its best relation's logit less
that of none, is above the bias b: F1(b) = 2 right / (named + positives) falls and rises in steps.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modeling_vmhan.decision import DecisionRule


__all__ = ["LEAST_POSITIVES", "NoneBias", "fit_none_bias"]

logger = logging.getLogger(__name__)

LEAST_POSITIVES = 200  # gold relations: with fewer the bias stays 0
NUM_FOLDS = 5
NUM_DRAWS = 10
GRID = np.arange(-60, 61) * 0.05  # in units of the temperature; 0 is among them


class NoneBias(NamedTuple):
    """The bias, and F1 (a fraction) of the same pairs without one and by cross-validation: each post is answered with
    the bias of the other folds, so that no post has a say in its own.
    """

    value: float
    f1_without: float
    f1_cross_validated: float


def fit_none_bias(
    logits: np.ndarray, gold: Sequence[int], posts: Sequence[int], rule: DecisionRule, *, seed: int = 0
) -> NoneBias | None:
    """The mean of the biases that are each best for all folds but one, of `NUM_FOLDS` folds of whole posts drawn
    `NUM_DRAWS` times; 0 where the cross-validated F1, a mean over the draws, is not above that without a bias. None,
    with a warning, with fewer than LEAST_POSITIVES gold relations.

    The mean, as a single step of F1 moves the best bias of a part. Of biases that are equally good the middle one is.

    logits are (n, R), gold (n,) label ids, posts (n,) says which post a pair is of; `rule` has the none label's id and
    the temperature, fitted before, which sets the grid's scale. The folds are drawn with `seed`.
    """
    logits, gold, posts = np.asarray(logits, dtype=np.float64), np.asarray(gold), np.asarray(posts)
    if not len(logits) == len(gold) == len(posts):
        received = f"{len(logits)}, {len(gold)} and {len(posts)}"
        raise ValueError(f"logits, gold and posts must be of the same pairs, received {received}.")
    if (positives := int((gold != rule.none_id).sum())) < LEAST_POSITIVES:
        said = "no none_bias is fitted: %d pairs of validation have a relation, %d are the least; it stays 0"
        logger.warning(said, positives, LEAST_POSITIVES)
        return None
    counts = _counts(logits, gold, rule.none_id, GRID * rule.temperature)  # (n, grid, 3)
    total = counts.sum(axis=0)  # (grid, 3)
    names, post = np.unique(posts, return_inverse=True)
    generator, best, held_out = np.random.default_rng(seed), [], []
    for _ in range(NUM_DRAWS):
        fold = generator.permutation(len(names))[post] % NUM_FOLDS  # (n,)
        of_fold = [counts[fold == i].sum(axis=0) for i in range(NUM_FOLDS)]
        of_others = [_best(_f1(total - own)) for own in of_fold]
        held_out.append(_f1(sum(own[i] for own, i in zip(of_fold, of_others, strict=True))))
        best += of_others
    without, cross_validated = float(_f1(total)[len(GRID) // 2]), float(np.mean(held_out))
    value = float(GRID[best].mean() * rule.temperature) if cross_validated > without else 0.0
    return NoneBias(value, without, cross_validated)


def _counts(logits: np.ndarray, gold: np.ndarray, none_id: int, biases: np.ndarray) -> np.ndarray:
    """Of each pair and bias whether it names the right relation, names one, and has one: (n, biases, 3) int."""
    relations = logits.copy()
    relations[:, none_id] = -np.inf
    margins = relations.max(axis=1) - logits[:, none_id]  # (n,)
    named = margins[:, None] > biases  # (n, biases)
    right = named & (relations.argmax(axis=1) == gold)[:, None]
    return np.stack([right, named, np.broadcast_to((gold != none_id)[:, None], named.shape)], axis=-1).astype(int)


def _f1(counts: np.ndarray) -> np.ndarray:
    """(..., 3) sums of `_counts` -> (...)."""
    right, named, positives = np.moveaxis(counts, -1, 0)
    return 2 * right / np.maximum(named + positives, 1)


def _best(f1: np.ndarray) -> int:
    """The middle one of the best of the grid."""
    found = np.flatnonzero(f1 == f1.max())
    return int(found[len(found) // 2])
