"""How much of the label one view gives away: cross-validated, against the majority label, with a bootstrap interval.

Posts that share a sentence or an image are one group. A group is never split between training and held-out folds, so
that a memorised id or image counts for nothing, and the bootstrap resamples groups, since the pairs of one post are
not independent.

The figure judged is the share of the majority label's errors that the view removes,

    share = (accuracy - baseline) / (1 - baseline),

Goodman and Kruskal's lambda on held-out pairs: 0 for a view that tells nothing, 1 for one that tells everything,
whatever the labels' frequencies. It may be negative: a probe can be worse than the majority label.

Source: Goodman and Kruskal, "Measures of Association for Cross Classifications", JASA 49, 1954.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import networkx
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from datasets_scripts.audit.views import View, words_of


__all__ = ["Resampler", "assign_folds", "design_of", "groups_of", "predict_held_out"]

HASHED = 2**14  # columns of hashed words or characters
LEAF = 10  # pairs of a tree's leaf; fewer where there are few pairs, more where there are many


def groups_of(sentences: Sequence[Hashable], images: Sequence[Hashable | None]) -> np.ndarray:
    """(P,) group ids from 0: pairs are of one group if a chain of shared sentences and images links them."""
    graph = networkx.Graph()
    for sentence, image in zip(sentences, images):
        graph.add_node(("sentence", sentence))
        if image is not None:
            graph.add_edge(("sentence", sentence), ("image", image))
    groups = {node: i for i, nodes in enumerate(networkx.connected_components(graph)) for node in nodes}
    return np.array([groups["sentence", sentence] for sentence in sentences])


def assign_folds(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(P,) fold ids, groups shuffled and dealt out in turn; ValueError on fewer than 2 folds, or than folds groups."""
    num_groups = int(groups.max()) + 1
    if not 2 <= folds <= num_groups:
        raise ValueError(
            f"folds: expected at least 2 and at most one for each of the {num_groups} groups of posts that share a "
            f"sentence or an image, received {folds}"
        )
    return (np.random.default_rng(seed).permutation(num_groups) % folds)[groups]


def design_of(view: View) -> View | None:
    """The view with (P, F) numbers for values, sparse where they stand for codes, words or characters.

    None if all pairs look alike, so that there is nothing to learn.
    """
    values = view.values
    if (values == values[:1]).all() if isinstance(values, np.ndarray) else len(set(values)) == 1:
        return None
    if view.form == "codes":
        numbers: dict[Hashable, int] = {}
        codes = [[numbers.setdefault(code, len(numbers))] for code in values]
        return replace(view, values=OneHotEncoder().fit_transform(codes))
    if view.form in ("words", "characters"):
        grams = {"analyzer": "char", "ngram_range": (1, 3)} if view.form == "characters" else {"analyzer": _words}
        hashing = HashingVectorizer(n_features=HASHED, alternate_sign=False, binary=True, norm=None, **grams)
        return replace(view, values=hashing.transform(values))
    return view


def _words(text: str) -> list[str]:
    """Single letters of an alphabet tell little; in scripts without spaces they are words."""
    return [word for word in words_of(text) if len(word) > 1 or not word.isascii()]


def predict_held_out(design: View | None, labels: np.ndarray, folds: np.ndarray, seed: int) -> np.ndarray:
    """(P,) the label of each pair by a probe trained on the other folds; without a design, the majority label of all.

    Of all, and not of the other folds: where two labels are equally frequent, a fold that has more of one leaves a
    majority of the other, so that the baseline would be below chance and every view would seem to tell something.
    """
    if design is None:
        return np.full_like(labels, np.bincount(labels).argmax())
    predicted = np.empty_like(labels)
    for fold in np.unique(folds):
        held_out, known = folds == fold, labels[folds != fold]
        probe = _probe(design.form, len(known), seed) if len(np.unique(known)) > 1 else DummyClassifier()
        predicted[held_out] = probe.fit(design.values[~held_out], known).predict(design.values[held_out])
    return predicted


class Resampler:
    """Draws groups (P,) with replacement, the same `draws` times for every view, so that views compare."""

    def __init__(self, groups: np.ndarray, draws: int, seed: int):
        self.groups = groups
        num_groups = int(groups.max()) + 1
        uniform = np.full(num_groups, 1 / num_groups)
        self.counts = np.random.default_rng(seed).multinomial(num_groups, uniform, size=draws).astype(np.float32)

    def compare(self, correct: np.ndarray, baseline_correct: np.ndarray) -> dict[str, Any]:
        """What a view told, from whether the probe and the majority label were right, both (P,) bool, in fractions;
        `share_interval` is the central 95 % of the bootstrap.
        """
        of_groups = [
            np.bincount(self.groups, weights=row) for row in (np.ones(len(correct)), correct, baseline_correct)
        ]
        pairs, right, base = (self.counts @ np.stack(of_groups, axis=1)).T  # each (draws,)
        shares = np.divide(right - base, pairs - base, out=np.zeros_like(right), where=base < pairs)
        accuracy, baseline = float(correct.mean()), float(baseline_correct.mean())
        share = (accuracy - baseline) / (1 - baseline) if baseline < 1 else 0.0
        interval = np.quantile(shares, [0.025, 0.975]).tolist()
        return {"accuracy": accuracy, "baseline": baseline, "share": share, "share_interval": interval}


def _probe(form: str, num_pairs: int, seed: int) -> Any:
    """A tree for a few numbers, naive Bayes for words, linear for vectors: a leak worth the name is found by the
    simplest. Naive Bayes on codes, with next to no smoothing, is the most frequent label of the code, and for one
    never seen of all.
    """
    if form == "numbers":
        leaf = min(LEAF, max(1, num_pairs // LEAF)) + num_pairs // 200
        return DecisionTreeClassifier(min_samples_leaf=leaf, max_leaf_nodes=64, random_state=seed)
    if form == "vectors":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=100))
    return MultinomialNB(alpha=1e-10 if form == "codes" else 1.0)
