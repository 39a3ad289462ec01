"""The numbers of the nodes of a post's hypergraph, `hypergraph_scope="post"` (post_graph.py), in arrays.

Shapes: B posts, P pairs, N nodes and E hyperedges of a post. Slots are in the order of a pair's nodes, with the pair
itself behind head and tail.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .hyperedges import POST_FAMILIES, ROLES, Node, PostHyperedge, post_hyperedges_of, post_nodes_of
from .posts import pad_rows


__all__ = ["MOST_PAIRS", "SLOTS", "PairSlots", "PostGraph", "graph_arrays", "post_graph"]

MOST_PAIRS = 512  # of a post, with whose square the memory of its hypergraph grows
SLOTS = ("entity_nodes", "text_phrase_nodes", "image_nodes", "object_nodes", "image_phrase_nodes")


class PairSlots(NamedTuple):
    """`groups` are of `hyperedges.pair_nodes`, cut to what the model has, with -1 for an empty place, and head and
    tail in its direction. `cut` are the nodes that the pair chose and for which the model has no place.
    """

    groups: Sequence[list[Node]]
    cut: set[Node]
    is_turned: bool


class PostGraph(NamedTuple):
    """A post's nodes, of each pair their numbers by `SLOTS` (-1 for an empty place), and its hyperedges, in which
    `members` are {number: 1 + 1 for a role as head + 2 for one as tail}.
    """

    nodes: list[Node]
    slots: list[tuple[list[int], ...]]
    hyperedges: list[PostHyperedge]
    members: list[dict[int, int]]


def post_graph(pairs: Sequence[PairSlots], name: str, given: Sequence[PostHyperedge] | None = None) -> PostGraph:
    """The hypergraph of a post, with the hyperedges of the data where there are any.

    Of these, a node that the model does not have is left out, and so is a pair's own node that was cut. More than
    MOST_PAIRS pairs are a ValueError, which calls the post `name`.
    """
    if len(pairs) > MOST_PAIRS:
        rule = f"{name}: a post must have at most {MOST_PAIRS} pairs in one hypergraph (hypergraph_scope='post')"
        fix = "ask about fewer pairs or mentions, or train with hypergraph_scope='pair'"
        raise ValueError(f"{rule}, received {len(pairs)}: {fix}.")
    of_pairs = [[node for group in pair.groups for node in group if node.place != -1] for pair in pairs]
    nodes = post_nodes_of(of_pairs)
    number = {node: i for i, node in enumerate(nodes)}
    slots = []
    for i, pair in enumerate(pairs):
        entities, phrases, regions, image_phrases = ([number.get(node, -1) for node in of] for of in pair.groups)
        slots.append((entities + [number[Node("pair", i)]], phrases, regions[:1], regions[1:], image_phrases))
    hyperedges = list(post_hyperedges_of(of_pairs, nodes)) if given is None else list(given)
    members = []
    for family, of, joined, roles in hyperedges:
        found: dict[int, set] = {}
        for node, role in zip(joined, roles or [None] * len(joined), strict=True):
            if node not in number or (family == "pair" and node in pairs[of].cut):
                continue
            if given is not None and role is not None and node.kind == "pair" and pairs[node.place].is_turned:
                role = ROLES[1 - ROLES.index(role)]
            found.setdefault(number[node], set()).add(role)
        members.append({node: 1 + ("head" in of_node) + 2 * ("tail" in of_node) for node, of_node in found.items()})
    return PostGraph(nodes, slots, hyperedges, members)


def graph_arrays(graphs: Sequence[PostGraph], kinds: Sequence[bool]) -> dict[str, np.ndarray]:
    """The graphs of a batch as `VMHANModel.forward` takes them: numbers of nodes by `SLOTS`, (P, ...), membership
    (B, N, E) and hyperedge_family (B, E), of `POST_FAMILIES`. `kinds` says which of `SLOTS` the model has.
    """
    slots = zip(*(of_pair for graph in graphs for of_pair in graph.slots))
    batch = {name: pad_rows(list(rows), -1) for name, rows, is_there in zip(SLOTS, slots, kinds) if is_there}
    shape = [len(graphs), *(max(len(graph[part]) for graph in graphs) for part in (0, 2))]  # [B, N, E]
    batch["membership"] = np.zeros(shape, np.int64)
    found = [
        (post, node, edge, code)
        for post, graph in enumerate(graphs)
        for edge, members in enumerate(graph.members)
        for node, code in members.items()
    ]
    if found:
        *places, codes = np.array(found).T
        batch["membership"][tuple(places)] = codes
    families = [[POST_FAMILIES.index(edge.family) for edge in graph.hyperedges] for graph in graphs]
    batch["hyperedge_family"] = pad_rows(families, -1)
    return batch
