"""One set of posts becomes train, validation and test, with nothing of one in another: people bring one file.

Posts that share their text or their image go together. Each relation is shared out as the posts are, the rarest first
(iterative stratification, Sechidis et al. 2011, https://doi.org/10.1007/978-3-642-23808-6_10), and training gets the
first example of each.
"""

import logging
import random
from collections import Counter
from collections.abc import Sequence

import datasets
from networkx.utils import UnionFind


__all__ = ["SHARES", "split_posts"]

logger = logging.getLogger(__name__)

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}  # of the pairs of each relation


def split_posts(posts: datasets.Dataset, *, seed: int = 0) -> datasets.DatasetDict:
    """The posts in splits of SHARES, each in the order of the data; the same for the same posts and seed.

    A split that gets no post is left out, with a warning: so small are the data, or so many posts share one image.
    """
    groups = _groups(posts)
    relations = [[pair["relation"] for pair in pairs] for pairs in posts["pairs"]]
    random.Random(seed).shuffle(groups)
    counts = [Counter(relation for post in group for relation in relations[post]) for group in groups]
    places = _shared_out(counts)
    splits = datasets.DatasetDict()
    for split in SHARES:
        chosen = sorted(post for group, place in zip(groups, places, strict=True) if place == split for post in group)
        if chosen:
            splits[split] = posts.select(chosen).flatten_indices()  # the table is looked at without its indices
    said = ", ".join(f"{split} {len(rows)}" for split, rows in splits.items())
    logger.info("%d posts are split (seed %d): %s", len(posts), seed, said)
    if missing := SHARES.keys() - splits.keys():
        alike = max(map(len, groups))
        logger.warning(
            "no post is left for %s: of %d posts, %d hang together by their texts or images. Bring more posts, or "
            "files of your own for the splits",
            " and ".join(sorted(missing, reverse=True)), len(posts), alike,
        )  # fmt: skip
    return splits


def _groups(posts: datasets.Dataset) -> list[list[int]]:
    """The numbers of the posts that hang together by a text, whatever its case and white space, or by an image."""
    joined: UnionFind = UnionFind()
    columns = {name: posts[name] for name in ("tokens", "image_id")}
    for number, (tokens, image_id) in enumerate(zip(*columns.values(), strict=True)):
        joined.union(number, ("text", "".join(tokens).casefold()))
        if image_id is not None:
            joined.union(number, ("image", image_id))
    found: dict[int, list[int]] = {}
    for number in range(len(posts)):
        found.setdefault(joined[number], []).append(number)
    return list(found.values())


def _shared_out(counts: Sequence[Counter]) -> list[str]:
    """The split of each group, of whose pairs `counts` are the relations."""
    total = Counter()
    for count in counts:
        total.update(count)
    wanted = {split: Counter({name: share * total[name] for name in total}) for split, share in SHARES.items()}
    places: dict[int, str] = {}
    trained: set[int] = set()
    while len(places) < len(counts):
        left = Counter()
        for group in range(len(counts)):
            if group not in places:
                left.update(counts[group])
        rarest = min(left, key=lambda name: (left[name], name))
        for group in [g for g in range(len(counts)) if g not in places and rarest in counts[g]]:
            place = max(SHARES, key=lambda split: (wanted[split][rarest], sum(wanted[split].values())))
            places[group] = place = place if counts[group].keys() <= trained else "train"
            trained |= counts[group].keys() if place == "train" else set()
            wanted[place].subtract(counts[group])
    return [places[group] for group in range(len(counts))]
