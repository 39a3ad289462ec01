"""How sure is a micro F1, and the difference of two: bootstrap over sentences (Efron & Tibshirani 1993).

The pairs of one sentence are not independent, so whole sentences are drawn. Micro F1 = 2 C / (A + G), where C, A and G
are sums over the drawn sentences of the pairs that are rightly predicted as a relation, predicted as a relation, and
truly of a relation (none is no relation); 0 where A + G = 0. So a resample needs how often each of the S sentences was
drawn (a row of a multinomial), times the (S, 3) counts of the sentences: one matrix product, and no pair is looked at
again.

Where a run is a list, its members are seeds of one system on the same pairs: each seed is scored on the same drawn
sentences and the F1s are averaged. The interval then covers the choice of sentences; it does not cover the choice of
seeds, which the spread between them shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from vmhan.scoring.predictions import Predictions


__all__ = ["Interval", "PairedResult", "bootstrap_f1", "paired_test"]

LEVEL = 0.95
BLOCK = 200  # resamples at once: bounds the memory at 200 S numbers, and changes no draw
ROUNDING = 1e-9  # F1s that differ by less are equal


class Interval(NamedTuple):
    """A micro F1 of the predictions as they are, and the ends of its percentile interval."""

    value: float
    low: float
    high: float


class PairedResult(NamedTuple):
    """F1 of the first minus F1 of the second, the ends of its 95 % percentile interval, and the p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_f1(
    predictions: Predictions | Sequence[Predictions], *, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Micro F1 with its percentile interval: the (1 - level) / 2 and (1 + level) / 2 quantiles over the resamples
    (Efron & Tibshirani 1993, section 13.3). Where every pair is right (or none is), it has no width and says nothing.

    Args:
        predictions: of one split (`predictions.split("test")`), or a list of them, one a seed.
        resamples: how many times as many sentences as there are are drawn with replacement.
        seed: of the draws.
        level: of the interval.

    Raises:
        ValueError: `resamples` below 1, `level` outside (0, 1), no pair, or seeds that differ in their pairs or gold.

    Example:
        >>> value, low, high = bootstrap_f1(read_predictions("outputs/demo").split("test"))  # doctest: +SKIP
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share between 0 and 1, received {level}. Pass 0.95 for 95 %.")
    counts = _counts(_as_list("predictions", predictions))
    draws = np.concatenate([_f1(counts, weights) for weights in _weights(counts.shape[1], resamples, seed)])
    return Interval(float(_f1(counts)), *_ends(draws, level))


def paired_test(
    a: Predictions | Sequence[Predictions],
    b: Predictions | Sequence[Predictions],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedResult:
    """Is the micro F1 of `a` another than that of `b`? Both are scored on the same drawn sentences.

    d = F1(a) - F1(b) on the data, d*_k the same on resample k of K. The interval's ends are the 2.5 % and 97.5 %
    quantiles of d*. The p-value is two-sided, from the distribution of d* shifted to the null of no difference:

        p = (1 + #{k: |d*_k - d| >= |d|}) / (1 + K)

    The shift is Berg-Kirkpatrick et al. 2012 (figure 1, https://aclanthology.org/D12-1091; their one-sided count is of
    d*_k > 2 d) after Efron & Tibshirani 1993 (section 16.4); the ones count the data among the resamples, so that p is
    never 0 (Davison & Hinkley 1997, section 4.2). Equal F1s have p = 1.

    Args:
        a, b: of one split, or lists of them, one a seed; the lists may differ in length.
        resamples, seed: as in `bootstrap_f1`.

    Raises:
        ValueError: `resamples` below 1, no pair, or pairs, gold or none labels that differ; the first that does is
            named. The order of the rows may differ.
    """
    a, b = _as_list("a", a), _as_list("b", b)
    counts = _counts([*a, *b])
    first, second = counts[: len(a)], counts[len(a) :]
    difference = _f1(first) - _f1(second)
    draws = np.concatenate(
        [_f1(first, weights) - _f1(second, weights) for weights in _weights(counts.shape[1], resamples, seed)]
    )
    as_far = int(np.count_nonzero(np.abs(draws - difference) >= abs(difference) - ROUNDING))
    return PairedResult(float(difference), *_ends(draws, LEVEL), (1 + as_far) / (1 + resamples))


def _as_list(argument: str, runs: Predictions | Sequence[Predictions]) -> list[Predictions]:
    runs = [runs] if isinstance(runs, Predictions) else list(runs)
    if not runs or not all(len(run) for run in runs):
        raise ValueError(
            f"{argument}: expected predictions of at least one pair, received {[len(run) for run in runs]} pairs. "
            "Check that the split that is scored is not empty."
        )
    return runs


def _counts(runs: list[Predictions]) -> np.ndarray:
    """(runs, S, 3): of each run and sentence, the pairs right, predicted and gold as a relation; sentences sorted."""
    runs = [replace(run, rows=sorted(run.rows, key=_key)) for run in runs]
    _, sentence = np.unique(runs[0].groups, return_inverse=True)  # (n,) number of each pair's sentence
    counts = []
    for run in runs:
        _check_same(runs[0], run)
        gold, predicted = np.array(run.gold), np.array(run.predicted)
        positive, claimed = gold != run.none_label, predicted != run.none_label
        columns = (positive & claimed & (gold == predicted), claimed, positive)
        counts.append(np.stack([np.bincount(sentence, weights=column) for column in columns], axis=-1))
    return np.stack(counts)


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["split"], row["id"], row["pair"]


def _check_same(first: Predictions, second: Predictions) -> None:
    """Raise ValueError unless both runs, sorted, have the same pairs, gold labels and none label."""
    both = f"{first.path} and {second.path}"
    if first.none_label != second.none_label:
        received = f"{first.none_label!r} and {second.none_label!r}"
        raise ValueError(f"{both}: expected one none label, received {received}. Compare runs on the same data set.")
    for one, other in zip_longest(first.rows, second.rows):
        if one is None or other is None or _key(one) != _key(other):
            received = " and ".join("the end" if row is None else str(_key(row)) for row in (one, other))
            raise ValueError(
                f"{both}: expected the same pairs, received (split, id, pair) {received} as the first difference. "
                "Compare runs on the same split of the same data set, whole."
            )
        if one["relation"] != other["relation"]:
            raise ValueError(
                f"{both}: expected the same gold labels, received {one['relation']!r} and {other['relation']!r} for "
                f"(split, id, pair) {_key(one)}. Compare runs on the same version of the data set."
            )


def _weights(sentences: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of (up to BLOCK, S): how often each sentence was drawn; each row sums to S."""
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, received {resamples}. Pass 1000 or more for an interval.")
    generator = np.random.default_rng(seed)
    even = np.full(sentences, 1 / sentences)
    for start in range(0, resamples, BLOCK):
        yield generator.multinomial(sentences, even, size=min(BLOCK, resamples - start)).astype(np.float64)


def _f1(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Micro F1, mean over runs: () of (runs, S, 3) counts, or (K,) with (K, S) weights."""
    sums = counts.sum(axis=1) if weights is None else weights @ counts  # (runs, 3) or (runs, K, 3)
    denominator = sums[..., 1] + sums[..., 2]
    f1 = np.divide(2 * sums[..., 0], denominator, out=np.zeros_like(denominator), where=denominator > 0)
    return f1.mean(axis=0)


def _ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
