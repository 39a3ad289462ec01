"""Pairs that the data do not list, as examples of no relation."""

import datasets
import pytest

from datasets_scripts.leaks import ORDER_BLIND, mark_protocol
from datasets_scripts.schema import new_pair, new_post, post_features, with_hypergraph
from vmhan.training.posts.unlisted import with_unlisted_pairs


LABELS = ["peer", "None", "born"]


def splits(protocol=None):
    tokens = "Ann met Bob in Paris with ann".split()
    pairs = [new_pair((0, 1), (2, 3), "peer"), new_pair((6, 7), (4, 5), "born"), new_pair((2, 3), (6, 7), "None")]
    info = datasets.DatasetInfo()
    if protocol is not None:
        mark_protocol(info, protocol)
    post = with_hypergraph(new_post("a", tokens, None, pairs))
    features = post_features(LABELS, images=False, visual_feature_size=None)
    rows = datasets.Dataset.from_list([post], features=features)
    rows.info.description = info.description
    return datasets.DatasetDict(train=rows, validation=rows)


@pytest.mark.parametrize("protocol", [ORDER_BLIND, None])
def test_only_pairs_that_are_not_listed_are_added(protocol):
    """Not a listed pair, in either direction, and not two mentions with the same words (Ann and ann)."""
    before = splits(protocol)
    after = with_unlisted_pairs(before)
    pairs = after["train"][0]["pairs"]
    assert pairs[:3] == before["train"][0]["pairs"]
    added = [(tuple(pair["head"]), tuple(pair["tail"])) for pair in pairs[3:]]
    in_order = [((0, 1), (4, 5)), ((2, 3), (4, 5))]
    assert added == in_order if protocol else sorted(map(sorted, added)) == sorted(map(list, in_order))
    assert {pair["relation"] for pair in pairs[3:]} == {LABELS.index("None")}
    hypergraph = after["train"][0]["hypergraph"]
    assert {edge["pair"] for edge in hypergraph["pair_hyperedges"]} == set(range(len(pairs)))
    assert after["validation"][0] == before["validation"][0]


def test_without_an_order_both_directions_are_seen():
    rows = splits()["train"]
    many = datasets.Dataset.from_list([{**rows[0], "id": str(i)} for i in range(40)], features=rows.features)
    pairs = [
        pair for post in with_unlisted_pairs(datasets.DatasetDict(train=many))["train"] for pair in post["pairs"][3:]
    ]
    turned = sum(pair["head"] > pair["tail"] for pair in pairs)
    assert len(pairs) == 80
    assert 20 <= turned <= 60
