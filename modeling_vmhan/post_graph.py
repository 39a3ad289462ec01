"""One hypergraph a post, `hypergraph_scope="post"`: ours, after the paper's claim to model the correlations among the
entity pairs of a context, where its section 4.1 builds one graph a pair.

Nodes are the different mentions of a post, its pairs, the image, and the text phrases, objects and image phrases that
any pair chose; `hyperedges.post_hyperedges_of` says which of them a hyperedge joins. The encoder is read pair by pair,
as in the other scope, into slots; a node is the mean of its slots.

Shapes: B posts, P pairs, n slots of a pair, N nodes and E hyperedges of a post, D hidden size, otherwise as in
modeling_vmhan.py. Slots are in the order of its nodes, with the pair itself behind head and tail.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .hyperedges import POST_FAMILIES
from .nodes import Nodes
from .post_slots import SLOTS


__all__ = ["post_entities", "post_hypergraphs", "post_nodes", "read_ends", "with_pair_nodes"]

# Families that an ablation drops, by the family of `hypergraph.HYPEREDGE_FAMILIES`; the others are always there.
FAMILY_OF = {"mention-visual": "inter", "textual": "intra", "visual": "intra", "global": "global"}


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

    slots (P, n, ...), graphs of `post_slots.graph_arrays`. Hyperedges of other families than `families` have no
    member, nor have those of "mention-visual" in a post without visual nodes, as in `hypergraph.build_incidence`.
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
