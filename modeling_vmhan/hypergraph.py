"""The multi-modal hypergraph of one entity pair (paper section 4.1, equations 1 to 3).

Shapes: P pairs, N nodes, E hyperedges. Node 0 is the head entity, node 1 the tail.
"""

import torch
from torch import Tensor


__all__ = ["HYPEREDGE_FAMILIES", "build_incidence", "first_members", "hyperedge_names", "with_self_loops"]

HEAD, TAIL = 0, 1


def _global(node_mask: Tensor, node_is_visual: Tensor) -> Tensor:
    """Equation 1: all nodes. (P, N, 1)"""
    return node_mask.unsqueeze(-1)


def _intra_modal(node_mask: Tensor, node_is_visual: Tensor) -> Tensor:
    """Equation 2: the textual nodes; the visual nodes. (P, N, 2)

    The paper names no hyperedge for the phrases: here and in `_inter_modal` they join by their modality.
    """
    return torch.stack([node_mask & ~node_is_visual, node_mask & node_is_visual], dim=-1)


def _inter_modal(node_mask: Tensor, node_is_visual: Tensor) -> Tensor:
    """Equation 3: the head with the visual nodes; the tail with the visual nodes. (P, N, 2)

    A pair without any visual node has nothing to relate across modalities: both hyperedges are then empty. A visual
    tail (MORE's) is left out of tail-visual, which would be a copy of the visual hyperedge with it.
    """
    visual = (node_mask & node_is_visual).unsqueeze(-1)  # (P, N, 1)
    nodes = torch.arange(node_mask.shape[1], device=node_mask.device)
    own = nodes.unsqueeze(-1) == nodes[: TAIL + 1]  # (N, 2): the head in the first, the tail in the second
    return (visual ^ own) & node_mask.unsqueeze(-1) & visual.any(dim=1, keepdim=True)


def _pairwise(node_mask: Tensor, node_is_visual: Tensor) -> Tensor:
    """The "no_hypergraph" row of Table 2: every pair of present nodes is an edge of size 2. (P, N, N (N - 1) / 2)"""
    num_nodes = node_mask.shape[1]
    first, second = torch.triu_indices(num_nodes, num_nodes, offset=1, device=node_mask.device)  # (E,), i < j
    nodes = torch.arange(num_nodes, device=node_mask.device).unsqueeze(-1)  # (N, 1)
    both_present = node_mask[:, first] & node_mask[:, second]  # (P, E)
    return ((nodes == first) | (nodes == second)) & both_present.unsqueeze(1)


# Every family with its builder, in the order of the columns.
_BUILDERS = {"global": _global, "intra": _intra_modal, "inter": _inter_modal, "pairwise": _pairwise}
HYPEREDGE_FAMILIES = tuple(_BUILDERS)


def hyperedge_names(node_names: list[str], families: list[str] | tuple[str, ...]) -> list[str]:
    """Names of the E hyperedges over these N nodes, in the order of `build_incidence`'s columns."""
    names = {
        "global": ["global"],
        "intra": ["textual", "visual"],
        "inter": ["head-visual", "tail-visual"],
        "pairwise": [f"{first} + {second}" for i, first in enumerate(node_names) for second in node_names[i + 1 :]],
    }
    return [name for family in HYPEREDGE_FAMILIES if family in families for name in names[family]]


def build_incidence(
    node_mask: Tensor,
    node_is_visual: Tensor,
    *,
    families: list[str] | tuple[str, ...] = ("global", "intra", "inter"),
    given: Tensor | None = None,
) -> Tensor:
    """Incidence matrix of each pair's hypergraph (equations 1 to 3).

    Args:
        node_mask: (P, N) bool, True where the node is present.
        node_is_visual: (P, N) bool; what an absent node says is ignored.
        families: which of `HYPEREDGE_FAMILIES` to build (at least one). An ablation drops a family.
        given: (P, N, 5) bool, hyperedges of the data, which stand for those of equations 1 to 3, in their order.

    Returns:
        incidence (P, N, E) bool. Columns in the order global; textual, visual; head-visual, tail-visual; pairwise
        (i < j, row-major). An absent node belongs to no hyperedge; a hyperedge may have no member.
    """
    if not families or not set(families) <= _BUILDERS.keys():
        raise ValueError(f"families must name at least one of {HYPEREDGE_FAMILIES}, received {list(families)}.")
    of_data = {}
    if given is not None:
        given = given & node_mask.unsqueeze(-1)  # (P, N, 5)
        visual = (node_mask & node_is_visual).any(dim=1)[:, None, None]  # (P, 1, 1)
        of_data = {"global": given[..., :1], "intra": given[..., 1:3], "inter": given[..., 3:] & visual}
    built = [
        of_data[family] if family in of_data else build(node_mask, node_is_visual)
        for family, build in _BUILDERS.items()
        if family in families
    ]
    return torch.cat(built, dim=-1)  # (P, N, E)


def first_members(incidence: Tensor, is_entity: Tensor | None = None) -> Tensor:
    """Which members a hyperedge starts as with hyperedge_start="entities": the entities, as far as they are members,
    and where none is, all. (P, N, E) bool -> (P, N, E) bool.

    is_entity: (P, N) bool; None: head and tail.
    """
    if is_entity is None:
        is_entity = (torch.arange(incidence.shape[1], device=incidence.device) <= TAIL).unsqueeze(0)  # (1, N)
    entities = incidence & is_entity.unsqueeze(-1)  # (P, N, E)
    return torch.where(entities.any(dim=1, keepdim=True), entities, incidence)


def with_self_loops(incidence: Tensor) -> Tensor:
    """The hypergraph in which each node also has a hyperedge of its own: (P, N, E) bool -> (P, N, E + N) bool.

    A node without any hyperedge, as an absent one is, gets none.
    """
    return torch.cat([incidence, torch.diag_embed(incidence.any(dim=-1))], dim=-1)
