"""The hypergraphs of a post as data, in plain Python: which nodes there are, and which of them each hyperedge joins.

One table of nodes serves two scopes. In the pair's (paper section 4.1, equations 1 to 3) every pair has five
hyperedges of its own. In the post's, which is ours, mentions, phrases and objects of all its pairs are nodes of one
hypergraph, and so is each pair. The data hold every candidate; a model has the first ones of them, and leaves out of
the hyperedges what it does not have.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .posts import image_phrases_of
from .values import NODE_KINDS, shown


__all__ = [
    "MEMBERSHIP_OF", "PAIR_FAMILIES", "Node", "hypergraph_of", "memberships_of", "pair_nodes", "read_memberships",
]  # fmt: skip

PAIR_FAMILIES = ("global", "textual", "visual", "head-visual", "tail-visual")  # the columns of the given incidence
ROLES = ("head", "tail")


class Node(NamedTuple):
    """`place`: the span of words; the index of an object, an image phrase, a pair, or of the object that is a mention;
    None of the image.
    """

    kind: str
    place: Any = None

    @property
    def is_visual(self) -> bool:
        return self.kind in NODE_KINDS[3:] or (self.kind == "mention" and not isinstance(self.place, tuple))


def _joins(is_visual: bool, role: str | None = None) -> tuple[bool, ...]:
    """Which of `PAIR_FAMILIES` a node is in, by equations 1 to 3: beside the visual nodes head-visual has the head and
    tail-visual the tail, but not a tail that is one of them (see `hypergraph.build_incidence`).
    """
    return True, not is_visual, is_visual, is_visual ^ (role == "head"), is_visual ^ (role == "tail")


def _as_bits(joins: Iterable[bool]) -> int:
    return sum(joined << column for column, joined in enumerate(joins))


# The membership by equations 1 to 3 as bits, of what a slot of the model may hold.
MEMBERSHIP_OF = {
    "head": _as_bits(_joins(False, "head")),
    "tail": _as_bits(_joins(False, "tail")),
    "visual tail": _as_bits(_joins(True, "tail")),
    "textual": _as_bits(_joins(False)),
    "visual": _as_bits(_joins(True)),
}


def pair_nodes(pair: Mapping, objects: Iterable[int], image_phrases: Iterable[int]) -> tuple[list[Node], ...]:
    """The nodes of a pair with these objects and image phrases, in the model's order and four groups: head and tail;
    text phrases; the image and its objects; image phrases.
    """
    tail = pair.get("tail_object", -1)
    return (
        [Node("mention", tuple(pair["head"])), Node("mention", tail if tail >= 0 else tuple(pair["tail"]))],
        [Node("text_phrase", tuple(span)) for span in pair.get("text_phrases") or []],
        [Node("image"), *(Node("object", index) for index in objects)],
        [Node("image_phrase", index) for index in image_phrases],
    )


def hypergraph_of(post: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The column `hypergraph` of a post: its nodes, and the hyperedges that have members, of both scopes.

    A node is {kind, span, index}, where span (of a mention or a text phrase) or index (into `boxes`, `image_phrases`,
    of which a caption without phrases is one, or `pairs`) is None. A hyperedge is {family, pair, nodes}, of the post's
    scope with roles too: in a mention's hyperedge "head" or "tail" for each pair, whose end it is, None for itself.
    """
    of_pairs = [_candidates(post, pair) for pair in post["pairs"]]
    found = [node for nodes in of_pairs for node in nodes] + [Node("pair", i) for i in range(len(of_pairs))]
    order = dict.fromkeys(sorted(found, key=lambda node: NODE_KINDS.index(node.kind)))
    number = {node: i for i, node in enumerate(order)}

    def hyperedge(family: str, pair: int | None, members: Iterable[Node]) -> dict[str, Any]:
        return {"family": family, "pair": pair, "nodes": [number[node] for node in members]}

    return {
        "nodes": [_as_row(node) for node in order],
        "pair_hyperedges": [
            hyperedge(family, i, members) for i, nodes in enumerate(of_pairs) for family, members in _of_pair(nodes)
        ],
        "post_hyperedges": [
            hyperedge(*joined) | {"roles": roles} for *joined, roles in _of_post(of_pairs, list(order))
        ],
    }


def _as_row(node: Node) -> dict[str, Any]:
    is_span = isinstance(node.place, tuple)
    return {
        "kind": node.kind,
        "span": list(node.place) if is_span else None,
        "index": None if is_span else node.place,
    }


def _candidates(post: Mapping[str, Any], pair: Mapping[str, Any]) -> list[Node]:
    """All that may be nodes of the pair, in the model's order."""
    phrases, tail = image_phrases_of(post), pair.get("tail_object", -1)
    objects, chosen = pair.get("objects"), pair.get("image_phrases")
    if objects is None:
        given = (post.get(name) for name in ("boxes", "object_features"))
        objects = range(max(0 if regions is None else len(regions) for regions in given))
    if chosen is None:
        chosen = range(len(phrases))
    there = [i for i in chosen if i in range(len(phrases)) and phrases[i]]  # of mnre_published_objects they are texts
    groups = pair_nodes(pair, [i for i in objects if i not in (-1, tail)], there)
    images = [post[name] for name in ("image", "image_features") if name in post] or [post.get("image_id")]
    if all(image is None for image in images):
        groups[2].remove(Node("image"))
    return [node for group in groups for node in group]


def _of_pair(nodes: Sequence[Node]) -> Iterator[tuple[str, list[Node]]]:
    """(family, members) of a pair's hyperedges; nodes are head, tail and the others."""
    joins = [_joins(node.is_visual, role) for node, role in zip(nodes, (*ROLES, *[None] * len(nodes)))]
    has_visual = any(node.is_visual for node in nodes)
    for column, family in enumerate(PAIR_FAMILIES):
        members = dict.fromkeys(node for node, of_node in zip(nodes, joins) if of_node[column])
        if members and (has_visual or column < 3):  # nothing to relate across modalities
            yield family, list(members)


def _of_post(of_pairs: Sequence[Sequence[Node]], nodes: Sequence[Node]) -> Iterator[tuple]:
    """(family, pair, members, roles) of the hyperedges of the post's scope; roles are None where no member has one."""
    visual, mentions = [node for node in nodes if node.is_visual], [node for node in nodes if node.kind == "mention"]
    for i, of_pair in enumerate(of_pairs):
        yield "pair", i, [Node("pair", i), *dict.fromkeys(n for n in of_pair if n.kind != "image")], None
    for mention in mentions:
        ends = [(i, role) for i, ends in enumerate(of_pairs) for role, end in zip(ROLES, ends) if end == mention]
        yield "mention", None, [mention, *(Node("pair", i) for i, _ in ends)], [None, *(role for _, role in ends)]
    for mention in mentions:
        others = [node for node in visual if node != mention]
        if others:  # a mention that is visual is left out, as a pair's tail is of its tail-visual
            yield "mention-visual", None, ([] if mention.is_visual else [mention]) + others, None
    families = {"textual": [node for node in nodes if not node.is_visual], "visual": visual, "global": nodes}
    yield from ((family, None, members, None) for family, members in families.items() if members)


def read_memberships(hypergraph: Mapping[str, Any], num_pairs: int, name: str) -> list[dict[Node, int]]:
    """Of each pair, which of `PAIR_FAMILIES` each node is in, as bits. `hypergraph` is as `values.POST` reads it.

    A family that is not one of a pair's, or stands twice, a node that does, and numbers of pairs and nodes that are
    not there are ValueErrors. A node that the post or the model does not have is no error.
    """
    nodes = [Node(node["kind"], node.get("span", node.get("index"))) for node in hypergraph["nodes"]]
    if twice := [i for i, node in enumerate(nodes) if nodes.index(node) < i]:
        raise ValueError(f"{name}: nodes must be different, received node {twice[0]} as a second {nodes[twice[0]]}.")
    bits, seen = [[0] * len(nodes) for _ in range(num_pairs)], set()
    for i, joined in enumerate(hypergraph["pair_hyperedges"]):
        family, pair, numbers, of = joined["family"], joined["pair"], joined["nodes"], f"{name}, pair_hyperedges[{i}]"
        if family not in PAIR_FAMILIES:
            raise ValueError(f"{of}: family must be one of {PAIR_FAMILIES}, received {shown(family)}.")
        if not 0 <= pair < num_pairs:
            raise ValueError(f"{of}: pair must be the number of one of {num_pairs} pairs, received {pair}.")
        if (pair, family) in seen:
            raise ValueError(f"{of}: pair {pair} must have one hyperedge {family!r}, received a second: join them.")
        if wrong := [number for number in numbers if not 0 <= number < len(nodes)]:
            rule = f"nodes must be numbers of the {len(nodes)} nodes of the table"
            raise ValueError(f"{of}: {rule}, received {shown(wrong)}. Make the column anew with hypergraph_of(post).")
        seen.add((pair, family))
        for number in numbers:
            bits[pair][number] |= 1 << PAIR_FAMILIES.index(family)
    return [dict(zip(nodes, of_pair)) for of_pair in bits]


def memberships_of(groups: Sequence[list[Node]], given: Mapping[Node, int], *, is_turned: bool) -> list[list[int]]:
    """The bits of each node of `pair_nodes`; head and tail of a pair that is turned change places, and so do their
    hyperedges.
    """
    entities, *others = ([given.get(node, 0) for node in group] for group in groups)
    if groups[0][0] == groups[0][1]:  # one node of the table, in head-visual as the head, in tail-visual as the tail
        entities = [entities[0] & ~0b10000, entities[1] & ~0b1000]
    found = [entities[::-1] if is_turned else entities, *others]
    if not is_turned:
        return found
    return [[bits & 0b111 | bits >> 1 & 0b1000 | bits << 1 & 0b10000 for bits in group] for group in found]
