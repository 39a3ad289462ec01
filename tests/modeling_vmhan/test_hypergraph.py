"""Incidence and clique adjacency against sets written by hand (equations 1 to 3)."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_vmhan.hypergraph import (
    HYPEREDGE_FAMILIES,
    build_incidence,
    first_members,
    hyperedge_names,
    with_self_loops,
)


FIVE = ("global", "intra", "inter")

# nodes of the pairs below: 0 head, 1 tail, 2 and 3 text phrases, 4 image, 5 and 6 objects, 7 image phrase
VISUAL = [False, False, False, False, True, True, True, True]
VISUAL_TAIL = [False, True, False, False, True, True, True, True]

masks = st.integers(2, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.booleans(), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


def members(incidence, pair=0):
    """The hyperedges of one pair as a list of sets of node numbers, in column order."""
    return [set(column.nonzero().flatten().tolist()) for column in incidence[pair].T]


def incidence_of(present, visual, families=FIVE):
    return build_incidence(torch.tensor([present]), torch.tensor([visual]), families=families)


def sets_by_definition(present, visual):
    """The five hyperedges of one pair, written with sets."""
    nodes = {i for i, here in enumerate(present) if here}
    visual_nodes = {i for i in nodes if visual[i]}
    head_visual = visual_nodes ^ ({0} & nodes) if visual_nodes else set()  # ^: a visual tail is left out of its own
    tail_visual = visual_nodes ^ ({1} & nodes) if visual_nodes else set()
    return [nodes, nodes - visual_nodes, visual_nodes, head_visual, tail_visual]


@pytest.mark.parametrize(
    ("present", "visual", "expected"),
    [
        ([1] * 8, VISUAL, [{*range(8)}, {0, 1, 2, 3}, {4, 5, 6, 7}, {0, 4, 5, 6, 7}, {1, 4, 5, 6, 7}]),
        ([1, 1, 1, 0, 0, 0, 0, 0], VISUAL, [{0, 1, 2}, {0, 1, 2}, set(), set(), set()]),  # no image
        ([1, 1, 1, 0, 1, 0, 1, 0], VISUAL, [{0, 1, 2, 4, 6}, {0, 1, 2}, {4, 6}, {0, 4, 6}, {1, 4, 6}]),
        ([1, 1, 1, 0, 1, 0, 0, 0], VISUAL_TAIL, [{0, 1, 2, 4}, {0, 2}, {1, 4}, {0, 1, 4}, {4}]),  # as in MORE
        ([1, 1, 0, 0, 0, 0, 0, 0], VISUAL_TAIL, [{0, 1}, {0}, {1}, {0, 1}, set()]),
    ],
)
def test_the_five_hyperedges_by_hand(present, visual, expected):
    incidence = build_incidence(torch.tensor([present]).bool(), torch.tensor([visual]))
    assert incidence.dtype == torch.bool and incidence.shape == (1, 8, 5)
    assert members(incidence) == expected


def test_pairs_of_a_batch_do_not_mix():
    node_mask = torch.tensor([[True] * 8, [True, True, True] + [False] * 5, [False] * 8])
    incidence = build_incidence(node_mask, torch.tensor([VISUAL] * 3), families=FIVE)
    assert incidence.shape == (3, 8, 5)
    for pair in range(3):
        assert members(incidence, pair) == sets_by_definition(node_mask[pair].tolist(), VISUAL)
    assert not incidence[2].any()


@settings(max_examples=60, deadline=None)
@given(masks)
def test_incidence_equals_the_definition_for_any_masks(drawn):
    present, visual = drawn
    assert members(incidence_of(present, visual)) == sets_by_definition(present, visual)


@pytest.mark.parametrize(
    ("families", "columns"),
    [
        (("intra", "inter"), [1, 2, 3, 4]),  # no_global
        (("global", "inter"), [0, 3, 4]),  # no_intra
        (("global", "intra"), [0, 1, 2]),  # no_inter
        (("global",), [0]),
        (("inter",), [3, 4]),
        (("inter", "global"), [0, 3, 4]),  # the column order is fixed, whatever the order asked for
    ],
)
def test_each_ablation_drops_its_family(families, columns):
    present = [True, True, True, False, True, False, True, True]
    everything = incidence_of(present, VISUAL)
    assert torch.equal(incidence_of(present, VISUAL, families), everything[:, :, columns])


def test_pairwise_is_every_two_present_nodes_row_major():
    incidence = incidence_of([True, True, False, True], [False, False, False, True], ("pairwise",))
    assert incidence.shape == (1, 4, 6)  # 4 * 3 / 2, absent nodes included in the count
    # columns: 01 02 03 12 13 23, node 2 is absent
    assert members(incidence) == [{0, 1}, set(), {0, 3}, set(), {1, 3}, set()]


@pytest.mark.parametrize(
    ("visual", "expected"),
    [
        (VISUAL, [{0, 1}, {0, 1}, {4, 5, 6, 7}, {0}, {1}]),
        (VISUAL_TAIL, [{0, 1}, {0}, {1}, {0, 1}, {4, 5, 6, 7}]),  # a visual tail is in visual and head-visual
    ],
)
def test_a_hyperedge_starts_as_its_entities_or_without_any_as_all_its_members(visual, expected):
    assert members(first_members(incidence_of([True] * 8, visual))) == expected


@pytest.mark.parametrize("families", [FIVE, ("global",), ("intra",), ("pairwise",), HYPEREDGE_FAMILIES])
@pytest.mark.parametrize("num_nodes", [2, 5, 8])
def test_every_column_has_a_name(families, num_nodes):
    node_mask = torch.ones(1, num_nodes, dtype=torch.bool)
    incidence = build_incidence(node_mask, torch.zeros_like(node_mask), families=families)
    assert len(hyperedge_names([str(i) for i in range(num_nodes)], families)) == incidence.shape[-1]


@pytest.mark.parametrize("families", [("global", "intermodal"), ()])
def test_unknown_families_are_refused(families):
    with pytest.raises(ValueError, match=re.escape(f"received {list(families)}")):
        incidence_of([True] * 8, VISUAL, families)


@settings(max_examples=40, deadline=None)
@given(masks, st.sampled_from([FIVE, ("intra",), ("inter",), ("pairwise",)]))
def test_self_loops_are_a_hyperedge_of_its_own_for_each_node_that_has_any(drawn, families):
    incidence = incidence_of(*drawn, families)
    edges = members(incidence)
    alone = [{node} & set().union(*edges) for node in range(len(drawn[0]))]
    assert members(with_self_loops(incidence)) == [*edges, *alone]
