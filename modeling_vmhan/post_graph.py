"""One hypergraph a post, `hypergraph_scope="post"`: ours, after the paper's claim to model the correlations among the
entity pairs of a context, where its section 4.1 builds one graph a pair.

Nodes are the different mentions of a post, its pairs, the image, and the text phrases, objects and image phrases that
any pair chose; `hyperedges.post_hyperedges_of` says which of them a hyperedge joins. The encoder is read pair by pair,
as in the other scope, into slots; a node is the mean of its slots.

Shapes: B posts, P pairs, n slots of a pair, N nodes and E hyperedges of a post, D hidden size, otherwise as in
modeling_vmhan.py. Slots are in the order of its nodes, with the pair itself behind head and tail.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .hyperedges import POST_FAMILIES, ROLES, Node, PostHyperedge, post_hyperedges_of, post_nodes_of
from .nodes import Nodes
from .posts import pad_rows


__all__ = [
    "MOST_PAIRS", "PairSlots", "PostGraph", "graph_tensors", "post_entities", "post_graph", "post_hypergraphs",
    "post_nodes", "read_ends", "with_pair_nodes",
]  # fmt: skip

MOST_PAIRS = 512  # of a post, with whose square the memory of its hypergraph grows
SLOTS = ("entity_nodes", "text_phrase_nodes", "image_nodes", "object_nodes", "image_phrase_nodes")
# Families that an ablation drops, by the family of `hypergraph.HYPEREDGE_FAMILIES`; the others are always there.
FAMILY_OF = {"mention-visual": "inter", "textual": "intra", "visual": "intra", "global": "global"}


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


def graph_tensors(graphs: Sequence[PostGraph], kinds: Sequence[bool]) -> dict[str, Tensor]:
    """The graphs of a batch as `VMHANModel.forward` takes them: numbers of nodes by `SLOTS`, (P, ...), membership
    (B, N, E) and hyperedge_family (B, E), of `POST_FAMILIES`. `kinds` says which of `SLOTS` the model has.
    """
    slots = zip(*(of_pair for graph in graphs for of_pair in graph.slots))
    batch = {name: pad_rows(list(rows), -1) for name, rows, is_there in zip(SLOTS, slots, kinds) if is_there}
    shape = [len(graphs), *(max(len(graph[part]) for graph in graphs) for part in (0, 2))]  # [B, N, E]
    batch["membership"] = torch.zeros(shape, dtype=torch.long)
    found = [
        (post, node, edge, code)
        for post, graph in enumerate(graphs)
        for edge, members in enumerate(graph.members)
        for node, code in members.items()
    ]
    if found:
        *places, codes = torch.tensor(found).T
        batch["membership"][tuple(places)] = codes
    families = [[POST_FAMILIES.index(edge.family) for edge in graph.hyperedges] for graph in graphs]
    batch["hyperedge_family"] = pad_rows(families, -1)
    return batch


def with_pair_nodes(entities: Nodes, projection: nn.Module) -> Nodes:
    """Head, tail and the pair itself, the projection of [h; t]: (P, 2, D) -> (P, 3, D)."""
    pair = projection(entities.features.flatten(1)).to(entities.features.dtype).unsqueeze(1)  # (P, 1, D)
    present = entities.present.all(dim=1, keepdim=True)  # (P, 1)
    parts = zip(entities, (pair, present, torch.zeros_like(present)))
    return Nodes(*(torch.cat(both, dim=1) for both in parts))


def post_nodes(slots: Nodes, numbers: Tensor, pair_to_example: Tensor, shape: Sequence[int]) -> Nodes:
    """Each node of a post as the mean of its slots that are present, (B, N, ...); a node without one is absent.

    slots (P, n, ...), numbers (P, n) of nodes, -1 for none, pair_to_example (P,), shape is [B, N].
    """
    posts, count = shape
    place = pair_to_example.unsqueeze(1) * count + numbers  # (P, n)
    place = torch.where(slots.present & (numbers >= 0), place, posts * count).flatten()  # the last one is cut off

    def total(values: Tensor) -> Tensor:  # (P, n, F) -> (B, N, F), in float32, which counts right
        summed = values.new_zeros(posts * count + 1, values.shape[-1], dtype=torch.float32)
        return summed.index_add(0, place, values.flatten(0, 1).float())[:-1].unflatten(0, (posts, count))

    size = total(slots.present.unsqueeze(-1))  # (B, N, 1)
    features = (total(slots.features) / size.clamp(min=1)).to(slots.features.dtype)
    return Nodes(features, size.squeeze(-1) > 0, total(slots.is_visual.unsqueeze(-1)).squeeze(-1) > 0)


def post_entities(numbers: Tensor, pair_to_example: Tensor, shape: Sequence[int]) -> Tensor:
    """Which nodes of a post are a mention or a pair, (B, N) bool.

    numbers (P, 3) of head, tail and pair, pair_to_example (P,), shape is [B, N].
    """
    is_entity = torch.zeros(tuple(shape), dtype=torch.bool, device=numbers.device)
    return is_entity.index_put((pair_to_example.unsqueeze(1), numbers), is_entity.new_ones(()))


def post_hypergraphs(
    slots: Nodes, pair_to_example: Tensor, graphs: Mapping[str, Tensor], *, families: Sequence[str]
) -> tuple[Nodes, Tensor, tuple[Tensor]]:
    """Nodes (B, N, ...), incidence (B, N, E) bool, and of each membership its roles, (B, N, E, 2) of 0 and 1: as head,
    and as tail.

    slots (P, n, ...), graphs of `graph_tensors`. Hyperedges of other families than `families` have no member, nor have
    those of "mention-visual" in a post without visual nodes, as in `hypergraph.build_incidence`.
    """
    if "membership" not in graphs:
        raise ValueError("a model with hypergraph_scope='post' needs the posts' membership: use its own processor.")
    membership, family_of = graphs["membership"], graphs["hyperedge_family"]
    numbers = torch.cat([graphs[name] for name in SLOTS if name in graphs], dim=1)  # (P, n)
    nodes = post_nodes(slots, numbers, pair_to_example, membership.shape[:2])
    has_visual = (nodes.present & nodes.is_visual).any(dim=1, keepdim=True)  # (B, 1)
    kept = (family_of != POST_FAMILIES.index("mention-visual")) | has_visual  # (B, E)
    for family, of in FAMILY_OF.items():
        if of not in families:
            kept = kept & (family_of != POST_FAMILIES.index(family))
    incidence = (membership > 0) & nodes.present.unsqueeze(-1) & kept.unsqueeze(1)
    roles = torch.stack([(membership == role) | (membership == 4) for role in (2, 3)], dim=-1)  # 4: as both
    return nodes, incidence, (roles.to(nodes.features.dtype),)


def read_ends(final: Tensor, own: Tensor | None, initial: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
    """What the classifier reads of head, tail and pair, (P, 3, D), of means or of variances.

    A mention's node starts as the mean over its pairs. What the pair's own markers saw of it would reach the
    classifier through the pair's node alone, and nothing could start as a text-only model does. So of layers that add
    to their nodes own + (final - initial) is read: the pair's `own` state, and what the graph has added to the
    mention's. Layers that replace theirs (own None) are read as they are.

    final and initial (B, N, D), own (P, 3, D), place: the post (P, 1) and the numbers of the nodes (P, 3).
    """
    return final[place] if own is None else own + (final[place] - initial[place])
