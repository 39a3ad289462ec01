"""Incidence and clique adjacency against sets written by hand (equations 1 to 3)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_vmhan.hypergraph import HYPEREDGE_FAMILIES, build_incidence, clique_adjacency, hyperedge_names


FIVE = ("global", "intra", "inter")

# nodes of the pairs below: 0 head, 1 tail, 2 and 3 text phrases, 4 image, 5 and 6 objects, 7 image phrase
VISUAL = [False, False, False, False, True, True, True, True]

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
    head_visual = ({0} & nodes) | visual_nodes if visual_nodes else set()
    tail_visual = ({1} & nodes) | visual_nodes if visual_nodes else set()
    return [nodes, nodes - visual_nodes, visual_nodes, head_visual, tail_visual]


# ---------------------------------------------------------------- the five hyperedges


def test_pair_with_everything():
    incidence = incidence_of([True] * 8, VISUAL)
    assert incidence.dtype == torch.bool
    assert incidence.shape == (1, 8, 5)
    assert members(incidence) == [
        {0, 1, 2, 3, 4, 5, 6, 7},  # global
        {0, 1, 2, 3},  # textual
        {4, 5, 6, 7},  # visual
        {0, 4, 5, 6, 7},  # head-visual
        {1, 4, 5, 6, 7},  # tail-visual
    ]


def test_pair_without_image_has_only_the_global_and_textual_hyperedges():
    incidence = incidence_of([True, True, True, False, False, False, False, False], VISUAL)
    assert members(incidence) == [{0, 1, 2}, {0, 1, 2}, set(), set(), set()]


def test_visual_tail_of_more_is_a_visual_node():
    visual = [False, True, False, False, True, True, True, True]
    assert members(incidence_of([True] * 8, visual)) == [
        {0, 1, 2, 3, 4, 5, 6, 7},
        {0, 2, 3},
        {1, 4, 5, 6, 7},
        {0, 1, 4, 5, 6, 7},
        {1, 4, 5, 6, 7},
    ]


def test_visual_tail_alone_carries_the_visual_hyperedges():
    visual = [False, True, False, False, True, True, True, True]
    present = [True, True, False, False, False, False, False, False]
    assert members(incidence_of(present, visual)) == [{0, 1}, {0}, {1}, {0, 1}, {1}]


def test_absent_nodes_belong_to_no_hyperedge():
    present = [True, True, True, False, True, False, True, False]
    incidence = incidence_of(present, VISUAL)
    assert members(incidence) == [{0, 1, 2, 4, 6}, {0, 1, 2}, {4, 6}, {0, 4, 6}, {1, 4, 6}]
    assert not incidence[0, ~torch.tensor(present)].any()


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


# ---------------------------------------------------------------- families: ablations and pairwise


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


def test_the_five_hyperedges_are_the_default():
    node_mask, node_is_visual = torch.tensor([[True] * 8]), torch.tensor([VISUAL])
    assert torch.equal(build_incidence(node_mask, node_is_visual), incidence_of([True] * 8, VISUAL))


def test_pairwise_is_every_two_present_nodes_row_major():
    incidence = incidence_of([True, True, False, True], [False, False, False, True], ("pairwise",))
    assert incidence.shape == (1, 4, 6)  # 4 * 3 / 2, absent nodes included in the count
    # columns: 01 02 03 12 13 23, node 2 is absent
    assert members(incidence) == [{0, 1}, set(), {0, 3}, set(), {1, 3}, set()]


def test_pairwise_columns_come_last():
    incidence = incidence_of([True, True, True], [False, False, True], ("pairwise", "global"))
    assert members(incidence) == [{0, 1, 2}, {0, 1}, {0, 2}, {1, 2}]


@pytest.mark.parametrize("families", [FIVE, ("global",), ("intra",), ("pairwise",), HYPEREDGE_FAMILIES])
@pytest.mark.parametrize("num_nodes", [2, 5, 8])
def test_every_column_has_a_name(families, num_nodes):
    node_mask = torch.ones(1, num_nodes, dtype=torch.bool)
    incidence = build_incidence(node_mask, torch.zeros_like(node_mask), families=families)
    assert len(hyperedge_names([str(i) for i in range(num_nodes)], families)) == incidence.shape[-1]


def test_unknown_family_is_refused_by_name():
    with pytest.raises(ValueError, match=r"families.*(?s:.*)intermodal"):
        incidence_of([True] * 8, VISUAL, ("global", "intermodal"))


def test_no_family_is_refused():
    with pytest.raises(ValueError, match=r"families"):
        incidence_of([True] * 8, VISUAL, ())


# ---------------------------------------------------------------- clique expansion


def test_clique_adjacency_by_hand():
    incidence = torch.zeros(1, 5, 3, dtype=torch.bool)
    incidence[0, [0, 1, 2], 0] = True  # {0, 1, 2}
    incidence[0, 3, 1] = True  # {3}: alone, keeps its self-loop; column 2 and node 4 are empty
    expected = [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    adjacency = clique_adjacency(incidence)
    assert adjacency.dtype == torch.bool
    assert torch.equal(adjacency[0], torch.tensor(expected, dtype=torch.bool))


@settings(max_examples=40, deadline=None)
@given(masks, st.sampled_from([FIVE, ("intra",), ("inter",), ("pairwise",)]))
def test_clique_adjacency_joins_exactly_the_nodes_that_share_a_hyperedge(drawn, families):
    incidence = incidence_of(*drawn, families)
    edges = members(incidence)
    num_nodes = len(drawn[0])
    expected = [[any({i, j} <= edge for edge in edges) for j in range(num_nodes)] for i in range(num_nodes)]
    assert clique_adjacency(incidence)[0].tolist() == expected


def test_inter_modal_family_leaves_the_textual_phrases_isolated():
    adjacency = clique_adjacency(incidence_of([True] * 8, VISUAL, ("inter",)))
    assert not adjacency[0, [2, 3]].any()
    assert adjacency[0, 0].tolist() == [True, False, False, False, True, True, True, True]
