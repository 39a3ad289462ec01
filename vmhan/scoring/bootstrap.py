"""How sure a micro F1 is, and the difference of two: bootstrap over sentences (Efron & Tibshirani 1993).

The pairs of one sentence are not independent, so whole sentences are drawn. Micro F1 = 2 C / (A + G), with the sums
over the drawn sentences of the pairs that are correctly predicted as a relation (C), predicted as one (A) and truly of
one (G); it is 0 where A + G = 0. A resample is how often each of the S sentences was drawn (a row of a multinomial)
times the sentences' (S, 2) counts (2 C, A + G).

A list of runs holds the seeds of one system on the same pairs. Each is scored on the same drawn sentences, and the F1s
are averaged, so that the interval covers the choice of sentences and not that of seeds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vmhan.scoring.predictions import Predictions, check_same_pairs, pair_key


__all__ = [
    "LEVEL", "Interval", "PairedResult", "bootstrap_f1", "bootstrap_ratio", "drawn_sentences", "ends", "paired_test",
    "sentence_counts",
]  # fmt: skip

LEVEL = 0.95
BLOCK = 200  # resamples at once: bounds the memory at 200 S numbers, and changes no draw
ROUNDING = 1e-9  # F1s that differ by less are equal


class Interval(NamedTuple):
    """A score of the predictions as they are, and the ends of its percentile interval."""

    value: float
    low: float
    high: float


class PairedResult(NamedTuple):
    """F1 of the first minus F1 of the second, the ends of its 95 % interval, and the p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_f1(
    runs: Predictions | Sequence[Predictions], *, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Micro F1 of the predictions of one split, or of a list of them, one a seed, with its percentile interval.

    Sentences are drawn `resamples` times with replacement. ValueError for wrong arguments or runs on different pairs.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a share between 0 and 1, received {level}. Pass 0.95 for 95 %.")
    return bootstrap_ratio(sentence_counts(_as_list("runs", runs)), resamples=resamples, seed=seed, level=level)


def bootstrap_ratio(counts: np.ndarray, *, resamples: int, seed: int = 0, level: float = LEVEL) -> Interval:
    """As `bootstrap_f1`, for any ratio of two sums over sentences; `counts` are those of `sentence_counts`."""
    draws = np.concatenate([_ratio(counts, weights) for weights in drawn_sentences(counts.shape[1], resamples, seed)])
    return Interval(float(_ratio(counts)), *ends(draws, level))


def paired_test(
    a: Predictions | Sequence[Predictions],
    b: Predictions | Sequence[Predictions],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedResult:
    """Is the micro F1 of `a` different from that of `b`? Both are scored on the same drawn sentences.

    d = F1(a) - F1(b) on the data, d*_k the same on resample k of K. The interval is that of d*. The p-value is
    two-sided, from d* shifted to the null of no difference (Efron & Tibshirani 1993, section 16.4; Berg-Kirkpatrick et
    al. 2012, https://aclanthology.org/D12-1091); the ones keep it above 0 (Davison & Hinkley 1997, section 4.2):

        p = (1 + #{k: |d*_k - d| >= |d|}) / (1 + K)

    It is at least 2^(1 - S): exchanging the answers of `a` and `b` in any of the S sentences cannot tell more, while
    the resamples of one sentence are all alike, and those of a few nearly so.

    The arguments and errors are those of `bootstrap_f1`; the order of the rows may differ.
    """
    a, b = _as_list("a", a), _as_list("b", b)
    counts = sentence_counts([*a, *b])
    first, second = counts[: len(a)], counts[len(a) :]
    difference = _ratio(first) - _ratio(second)
    blocks = drawn_sentences(counts.shape[1], resamples, seed)
    draws = np.concatenate([_ratio(first, weights) - _ratio(second, weights) for weights in blocks])
    as_far = int(np.count_nonzero(np.abs(draws - difference) >= abs(difference) - ROUNDING))
    p_value = max((1 + as_far) / (1 + resamples), 2.0 ** (1 - counts.shape[1]))
    return PairedResult(float(difference), *ends(draws, LEVEL), p_value)


def _as_list(argument: str, runs: Predictions | Sequence[Predictions]) -> list[Predictions]:
    runs = [runs] if isinstance(runs, Predictions) else list(runs)
    if not runs or not all(map(len, runs)):
        raise ValueError(f"{argument}: expected runs of at least one pair, received {list(map(len, runs))} pairs.")
    return runs


def f1_terms(gold: np.ndarray, predicted: np.ndarray, none_label: str) -> tuple[np.ndarray, np.ndarray]:
    """What each pair (n,) adds to 2 C and to A + G."""
    positive, claimed = gold != none_label, predicted != none_label
    return 2 * (positive & (gold == predicted)), claimed.astype(int) + positive


def sentence_counts(runs: Sequence[Predictions], terms: Callable = f1_terms) -> np.ndarray:
    """(runs, S, 2): numerator and denominator of a ratio, summed over each sentence; `terms` as `f1_terms`."""
    runs = [replace(run, rows=sorted(run.rows, key=pair_key)) for run in runs]
    _, sentence = np.unique(runs[0].groups, return_inverse=True)  # (n,) number of each pair's sentence
    counts = []
    for run in runs:
        check_same_pairs(runs[0], run)
        columns = terms(np.array(run.gold), np.array(run.predicted), run.none_label)
        counts.append(np.stack([np.bincount(sentence, weights=column) for column in columns], axis=-1))
    return np.stack(counts)


def drawn_sentences(sentences: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of (up to BLOCK, S): how often each sentence was drawn; each row sums to S."""
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, received {resamples}.")
    generator = np.random.default_rng(seed)
    even = np.full(sentences, 1 / sentences)
    for start in range(0, resamples, BLOCK):
        yield generator.multinomial(sentences, even, size=min(BLOCK, resamples - start)).astype(np.float64)


def _ratio(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over runs of numerator / denominator: () of (runs, S, 2) counts, or (K,) with (K, S) weights."""
    sums = counts.sum(axis=1) if weights is None else weights @ counts  # (runs, 2) or (runs, K, 2)
    numerator, denominator = sums[..., 0], sums[..., 1]
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0).mean(axis=0)


def ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    """The ends of a percentile interval of draws (K,), of those in which the number is defined, that is not nan."""
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
