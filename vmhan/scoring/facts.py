"""Scores of facts found in raw posts: strict triples, the parts they come from, and facts where there is none.

A fact is a triple (head span, tail span, relation) in the direction of the relation. It is correct if the data have
it: both mentions exact, direction and relation right. A relation that points both ways has its mentions in text order,
in the data and in answers. All posts count, those with only "no relation" included. The parts are

- mentions: found against all that the post's pairs have, pairs without relation included;
- pairs found: the share of the pairs with a relation (positive pairs) whose mentions are both found;
- relations: facts on annotated pairs whose mentions are both found, against their relations;
- co-occurrence: the share of the annotated pairs without relation (None pairs) that get a fact, in either direction.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from model_cards.files import json_text, write_text
from modeling_vmhan.direction import INVERSE, inverse_of
from vmhan.scoring.bootstrap import bootstrap_ratio


__all__ = [
    "Annotations", "CurvePoint", "PostFacts", "RATIOS", "count_facts", "fact_curve", "fact_scores", "intervals",
    "post_facts", "read_facts", "scored_facts", "thinned", "write_facts",
]  # fmt: skip

Span = tuple[int, int]
Triple = tuple[Span, Span, str]

# Each score is a ratio of two sums of counts over posts; a sum of no counts is 0, and so is a ratio to it.
RATIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "precision": (("correct",), ("facts",)),
    "recall": (("correct",), ("gold",)),
    "f1": (("correct", "correct"), ("facts", "gold")),
    "mention_precision": (("mentions_correct",), ("mentions_found",)),
    "mention_recall": (("mentions_correct",), ("mentions",)),
    "mention_f1": (("mentions_correct", "mentions_correct"), ("mentions_found", "mentions")),
    "pairs_found": (("positive_found",), ("positive",)),
    "relation_precision": (("correct",), ("facts_on_pairs",)),
    "relation_recall": (("correct",), ("gold_found",)),
    "relation_f1": (("correct", "correct"), ("facts_on_pairs", "gold_found")),
    "none_share": (("none_with_fact",), ("none",)),
    "none_share_of_found": (("none_with_fact",), ("none_found",)),
}


class Annotations(NamedTuple):
    """What the data say of a post: its facts, its mentions, and the pairs without relation, mentions in text order."""

    facts: set[Triple]
    mentions: set[Span]
    none_pairs: set[tuple[Span, Span]]


@dataclass(frozen=True)
class PostFacts:
    """A post's annotations, the mentions that were found in it, and the facts with their scores."""

    id: str
    gold: Annotations
    mentions: set[Span]
    facts: dict[Triple, float]


def post_facts(
    identity: str,
    pairs: Iterable[Mapping[str, Any]],
    mentions: Iterable[Sequence[int]],
    facts: Iterable[Mapping[str, Any]],
    *,
    none_label: str,
    symmetric: Iterable[str] = (),
) -> PostFacts:
    """What was asked and answered of one post.

    pairs are annotated, with head, tail and relation (a name, perhaps an inverse one); one whose tail is an object is
    left out. facts are the pipeline's answers, whose head_span, tail_span, relation and score count; of equal ones the
    best counts, and one without relation is none; what a fact joins was found. All spans are in the same units.
    """
    symmetric, found = set(symmetric), {}
    for fact in facts:
        if fact["relation"] not in (None, none_label):
            triple = _directed(fact["head_span"], fact["tail_span"], fact["relation"], symmetric)
            found[triple] = max(found.get(triple, 0.0), float(fact["score"]))
    pairs = [pair for pair in pairs if pair["tail"]]
    named = [pair for pair in pairs if pair["relation"] != none_label]
    triples = {_directed(pair["head"], pair["tail"], pair["relation"], symmetric) for pair in named}
    positive = {_ordered(*triple[:2]) for triple in triples}
    gold = Annotations(
        facts=triples,
        mentions={tuple(pair[role]) for pair in pairs for role in ("head", "tail")},
        none_pairs={_ordered(pair["head"], pair["tail"]) for pair in pairs} - positive,
    )
    joined = {mention for triple in found for mention in triple[:2]}
    return PostFacts(identity, gold, {tuple(mention) for mention in mentions} | joined, found)


def _directed(head: Sequence[int], tail: Sequence[int], relation: str, symmetric: set[str]) -> Triple:
    """The triple in the direction of its relation, or in text order where that points both ways."""
    if relation.endswith(INVERSE):
        head, tail, relation = tail, head, inverse_of(relation)
    return (*(_ordered(head, tail) if relation in symmetric else (tuple(head), tuple(tail))), relation)


def _ordered(head: Sequence[int], tail: Sequence[int]) -> tuple[Span, Span]:
    first, second = sorted([tuple(head), tuple(tail)])
    return first, second


def count_facts(posts: Sequence[PostFacts], min_score: float = 0.0) -> dict[str, np.ndarray]:
    """(S,) each: the counts of `RATIOS` of each post, of the facts whose score is at least `min_score`."""
    rows = [_counts_of_post(post, min_score) for post in posts]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _counts_of_post(post: PostFacts, min_score: float) -> dict[str, int]:
    facts = [triple for triple, score in post.facts.items() if score >= min_score]
    positive, on = {_ordered(*triple[:2]) for triple in post.gold.facts}, [_ordered(*triple[:2]) for triple in facts]
    none = post.gold.none_pairs
    found = {pair for pair in positive | none if post.mentions.issuperset(pair)}
    return {
        "correct": len(post.gold.facts.intersection(facts)),
        "facts": len(facts),
        "gold": len(post.gold.facts),
        "mentions_correct": len(post.mentions & post.gold.mentions),
        "mentions_found": len(post.mentions),
        "mentions": len(post.gold.mentions),
        "positive": len(positive),
        "positive_found": len(positive & found),
        "facts_on_pairs": sum(pair in found for pair in on),
        "gold_found": sum(_ordered(*triple[:2]) in found for triple in post.gold.facts),
        "none": len(none),
        "none_found": len(none & found),
        "none_with_fact": len(none.intersection(on)),
    }


def fact_scores(counts: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scores of `RATIOS`, fractions, from the counts of `count_facts`."""
    sums = {name: float(of.sum()) for name, of in counts.items()}
    return {
        name: _fraction(sum(sums[of] for of in above), sum(sums[of] for of in below))
        for name, (above, below) in RATIOS.items()
    }


def _fraction(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def intervals(runs: Sequence[Mapping[str, np.ndarray]], *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Of each score of `RATIOS` the mean over the runs (seeds of one system) with its 95 % interval, by a bootstrap
    over posts, which are the same in all runs: an `Interval` each.
    """
    found = {}
    for name, (above, below) in RATIOS.items():
        sides = [[sum(run[of] for of in side) for side in (above, below)] for run in runs]  # (runs, 2, S)
        counts = np.stack([np.stack(of_run, axis=-1) for of_run in sides]).astype(np.float64)
        found[name] = bootstrap_ratio(counts, resamples=resamples, seed=seed)
    return found


class CurvePoint(NamedTuple):
    """What facts with at least this score are worth."""

    score: float
    precision: float
    recall: float
    none_share: float  # of all None pairs
    none_share_of_found: float  # of the None pairs whose mentions are both found


def scored_facts(posts: Iterable[PostFacts]) -> list[tuple[float, bool]]:
    """Of each fact its score, and whether it is correct."""
    return [(score, triple in post.gold.facts) for post in posts for triple, score in post.facts.items()]


def fact_curve(posts: Sequence[PostFacts]) -> list[CurvePoint]:
    """A point for each score that a fact has, highest first; empty without facts."""
    if not (facts := scored_facts(posts)):
        return []
    scores, correct = (np.array(column) for column in zip(*sorted(facts, reverse=True), strict=True))
    best = sorted(score for post in posts for score in _none_pair_scores(post).values())
    sums = {name: float(of.sum()) for name, of in count_facts(posts).items()}
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # of the facts with one score
    points = []
    for place, right in zip(last, np.cumsum(correct)[last].tolist(), strict=True):
        num_none = len(best) - int(np.searchsorted(best, scores[place]))  # whose best fact has at least this score
        shares = [_fraction(num_none, sums[of]) for of in ("none", "none_found")]
        of_facts = _fraction(right, place + 1), _fraction(right, sums["gold"])
        points.append(CurvePoint(float(scores[place]), *map(float, of_facts), *shares))
    return points


def _none_pair_scores(post: PostFacts) -> dict[tuple[Span, Span], float]:
    """The best score of the facts on each None pair that has one."""
    found: dict[tuple[Span, Span], float] = {}
    for triple, score in post.facts.items():
        pair = _ordered(*triple[:2])
        if pair in post.gold.none_pairs:
            found[pair] = max(found.get(pair, 0.0), score)
    return found


def thinned(points: Sequence[CurvePoint], count: int = 100) -> list[CurvePoint]:
    """At most `count` points, evenly among all, the first and the last included."""
    if len(points) <= count:
        return list(points)
    return [points[i] for i in np.linspace(0, len(points) - 1, count).round().astype(int)]


def write_facts(path: Path, posts: Iterable[PostFacts]) -> None:
    """One JSON object a post and line; spans and names of relations, no text."""
    write_text(path, "".join(json_text(_row_of(post), str(path)) + "\n" for post in posts))


def _row_of(post: PostFacts) -> dict[str, Any]:
    fields = ("head", "tail", "relation")
    return {
        "id": post.id,
        "gold": [dict(zip(fields, triple, strict=True)) for triple in sorted(post.gold.facts)],
        "gold_mentions": sorted(post.gold.mentions),
        "none_pairs": sorted(post.gold.none_pairs),
        "mentions": sorted(post.mentions),
        "facts": [dict(zip(fields, triple), score=score) for triple, score in sorted(post.facts.items())],
    }


def read_facts(path: Path) -> list[PostFacts]:
    """What `write_facts` wrote; ValueError that names the line for anything else, and for no line."""
    posts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            gold = Annotations(
                {_triple(fact) for fact in row["gold"]},
                {tuple(mention) for mention in row["gold_mentions"]},
                {_ordered(*pair) for pair in row["none_pairs"]},
            )
            facts = {_triple(fact): float(fact["score"]) for fact in row["facts"]}
            posts.append(PostFacts(row["id"], gold, {tuple(mention) for mention in row["mentions"]}, facts))
        except (ValueError, KeyError, TypeError) as error:
            expected = "expected a post's facts as `python -m benchmarks.findings.facts` writes them"
            raise ValueError(f"{path}, line {number}: {expected}, received {line[:60]!r} ({error!r}).") from None
    if not posts:
        raise ValueError(f"{path}: expected one line a post, received no line.")
    return posts


def _triple(fact: Mapping[str, Any]) -> Triple:
    return tuple(fact["head"]), tuple(fact["tail"]), fact["relation"]
