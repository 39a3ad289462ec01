"""One file of posts becomes three splits: nothing is in two of them, and each relation is in all if it can be."""

from collections import Counter

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_scripts.schema import new_pair, new_post
from datasets_scripts.splitting import SHARES, split_posts


def dataset(rows):
    """Posts of (text, image, relation ids)."""
    posts = [
        new_post(str(i), text.split(), image, [new_pair([0, 1], [0, 1], relation) for relation in relations])
        for i, (text, image, relations) in enumerate(rows)
    ]
    plain = [{name: post[name] for name in ("id", "tokens", "image_id", "pairs")} for post in posts]
    return datasets.Dataset.from_list(
        [{**p, "pairs": [{"relation": q["relation"]} for q in p["pairs"]]} for p in plain]
    )


ROW = st.tuples(
    st.sampled_from(["ann met bob", "Ann met  Bob", "a b", "ab", *(f"post {i}" for i in range(30))]),
    st.none() | st.sampled_from([f"{i}.png" for i in range(20)]),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
)


@settings(max_examples=40)
@given(st.lists(ROW, min_size=1, max_size=40), st.integers(0, 99))
def test_no_post_text_or_image_is_in_two_splits_and_training_has_every_relation(rows, seed):
    splits = split_posts(dataset(rows), seed=seed)
    ids = [post["id"] for posts in splits.values() for post in posts]
    assert sorted(ids, key=int) == [str(i) for i in range(len(rows))]
    for of in (lambda post: "".join(post["tokens"]).casefold(), lambda post: post["image_id"]):
        seen = [{of(post) for post in posts} - {None} for posts in splits.values()]
        assert sum(map(len, seen)) == len(set().union(*seen))
    trained = {pair["relation"] for post in splits["train"] for pair in post["pairs"]}
    assert trained == {relation for _, _, relations in rows for relation in relations}


def test_each_relation_has_its_share_in_each_split():
    sizes = {0: 400, 1: 100, 2: 40, 3: 20}
    splits = split_posts(dataset([(f"{r} {i}", None, [r]) for r, size in sizes.items() for i in range(size)]))
    for name, share in SHARES.items():
        counts = Counter(pair["relation"] for post in splits[name] for pair in post["pairs"])
        assert counts == {relation: pytest.approx(share * size, abs=1) for relation, size in sizes.items()}


def test_the_seed_alone_decides_and_the_order_stays():
    posts = dataset([(f"post {i}", None, [i % 3]) for i in range(60)])
    first, again, other = (split_posts(posts, seed=seed) for seed in (1, 1, 2))
    assert all(first[name]["id"] == again[name]["id"] == sorted(first[name]["id"], key=int) for name in SHARES)
    assert first["test"]["id"] != other["test"]["id"]


def test_posts_that_all_hang_together_are_for_training_with_a_warning(caplog):
    splits = split_posts(dataset([(f"post {i}", "logo.png", [i % 2]) for i in range(12)]))
    assert list(splits) == ["train"] and len(splits["train"]) == 12
    assert "validation and test: of 12 posts, 12 hang together" in caplog.text
