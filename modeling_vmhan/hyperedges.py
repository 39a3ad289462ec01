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
    "MEMBERSHIP_OF", "PAIR_FAMILIES", "POST_FAMILIES", "ROLES", "Node", "PostHyperedge", "check_ends",
    "hypergraph_of", "memberships_of", "pair_nodes", "post_hyperedges_of", "post_nodes_of", "read_memberships",
    "read_post_hyperedges",
]  # fmt: skip

PAIR_FAMILIES = ("global", "textual", "visual", "head-visual", "tail-visual")  # the columns of the given incidence
POST_FAMILIES = ("pair", "mention", "mention-visual", "textual", "visual", "global")
ROLES = ("head", "tail")
ANEW = "After a change of the pairs leave the column out, or make it anew with hypergraph_of(post)"


class Node(NamedTuple):
    """`place`: the span of words; the index of an object, an image phrase, a pair, or of the object that is a mention;
    None of the image.
    """

    kind: str
    place: Any = None

    @property
    def is_visual(self) -> bool:
        return self.kind in NODE_KINDS[3:] or (self.kind == "mention" and not isinstance(self.place, tuple))


class PostHyperedge(NamedTuple):
    """`pair` is a number in the family "pair". `roles` of members are "head", "tail" or None; [] is None of all."""

    family: str
    pair: int | None
    members: list[Node]
    roles: list[str | None]


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
    order = post_nodes_of(of_pairs)
    number = {node: i for i, node in enumerate(order)}

    def hyperedge(family: str, pair: int | None, members: Iterable[Node]) -> dict[str, Any]:
        return {"family": family, "pair": pair, "nodes": [number[node] for node in members]}

    return {
        "nodes": [_as_row(node) for node in order],
        "pair_hyperedges": [
            hyperedge(family, i, members) for i, nodes in enumerate(of_pairs) for family, members in _of_pair(nodes)
        ],
        "post_hyperedges": [
            hyperedge(*joined) | {"roles": roles or None} for *joined, roles in post_hyperedges_of(of_pairs, order)
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


def post_nodes_of(of_pairs: Sequence[Sequence[Node]]) -> list[Node]:
    """The different nodes of a post, by kind: those of its pairs, and the pairs themselves."""
    found = [node for nodes in of_pairs for node in nodes] + [Node("pair", i) for i in range(len(of_pairs))]
    return list(dict.fromkeys(sorted(found, key=lambda node: NODE_KINDS.index(node.kind))))


def post_hyperedges_of(of_pairs: Sequence[Sequence[Node]], nodes: Sequence[Node]) -> Iterator[PostHyperedge]:
    """The hyperedges of the post's scope that have members, of its pairs' nodes (head and tail first) and of all."""
    visual, mentions = [node for node in nodes if node.is_visual], [node for node in nodes if node.kind == "mention"]
    ends = {mention: [] for mention in mentions}
    for i, of_pair in enumerate(of_pairs):
        members = [Node("pair", i), *dict.fromkeys(node for node in of_pair if node.kind != "image")]
        yield PostHyperedge("pair", i, members, [])
        for role, end in zip(ROLES, of_pair):
            ends[end].append((Node("pair", i), role))
    for mention, pairs in ends.items():
        members, roles = zip((mention, None), *pairs)
        yield PostHyperedge("mention", None, list(members), list(roles))
    for mention in mentions:
        others = [node for node in visual if node != mention]
        if others:  # a mention that is visual is left out, as a pair's tail is of its tail-visual
            yield PostHyperedge("mention-visual", None, ([] if mention.is_visual else [mention]) + others, [])
    families = {"textual": [node for node in nodes if not node.is_visual], "visual": visual, "global": list(nodes)}
    yield from (PostHyperedge(family, None, members, []) for family, members in families.items() if members)


def read_memberships(hypergraph: Mapping[str, Any], num_pairs: int, name: str) -> list[dict[Node, int]]:
    """Of each pair, which of `PAIR_FAMILIES` each node is in, as bits. `hypergraph` is as `values.POST` reads it.

    A family that is not one of a pair's, or stands twice, a node that does, and numbers of pairs and nodes that are
    not there are ValueErrors. A node that the post or the model does not have is no error.
    """
    nodes = _read_nodes(hypergraph, name)
    bits, seen = [[0] * len(nodes) for _ in range(num_pairs)], set()
    for i, joined in enumerate(hypergraph["pair_hyperedges"]):
        family, pair, of = joined["family"], joined["pair"], f"{name}, pair_hyperedges[{i}]"
        _check_hyperedge(joined, PAIR_FAMILIES, num_pairs, len(nodes), of)
        if (pair, family) in seen:
            raise ValueError(f"{of}: pair {pair} must have one hyperedge {family!r}, received a second: join them.")
        seen.add((pair, family))
        for number in joined["nodes"]:
            bits[pair][number] |= 1 << PAIR_FAMILIES.index(family)
    return [dict(zip(nodes, of_pair)) for of_pair in bits]


def check_ends(ends: Sequence[Node], given: Mapping[Node, int], name: str) -> None:
    """A pair's hyperedges that join a mention beside its head and tail were made of another pair: a ValueError."""
    for node, bits in given.items():
        if bits and node.kind == "mention" and node not in ends:
            rule = f"its pair_hyperedges must join no mention but head and tail, {shown([end.place for end in ends])}"
            raise ValueError(f"{name}: {rule}, received {shown(node.place)}. {ANEW}.")


def read_post_hyperedges(hypergraph: Mapping[str, Any], num_pairs: int, name: str) -> list[PostHyperedge] | None:
    """The hyperedges of the post's scope, None where the column has none; errors are as in `read_memberships`."""
    if "post_hyperedges" not in hypergraph:
        return None
    nodes, read = _read_nodes(hypergraph, name), []
    for i, joined in enumerate(hypergraph["post_hyperedges"]):
        family, of = joined["family"], f"{name}, post_hyperedges[{i}]"
        _check_hyperedge(joined, POST_FAMILIES, num_pairs, len(nodes), of)
        members, roles = [nodes[number] for number in joined["nodes"]], joined.get("roles", [])
        if roles and (len(roles) != len(members) or not set(roles) <= {None, *ROLES}):
            rule = f"roles must be one for each of {len(members)} nodes, of {(*ROLES, None)}"
            raise ValueError(f"{of}: {rule}, received {shown(roles)}.")
        read.append(PostHyperedge(family, joined.get("pair"), members, roles))
    return read


def _read_nodes(hypergraph: Mapping[str, Any], name: str) -> list[Node]:
    nodes = [Node(node["kind"], node.get("span", node.get("index"))) for node in hypergraph["nodes"]]
    if len(set(nodes)) < len(nodes):
        i = next(i for i, node in enumerate(nodes) if nodes.index(node) < i)
        raise ValueError(f"{name}: nodes must be different, received node {i} as a second {nodes[i]}.")
    return nodes


def _check_hyperedge(joined: Mapping, families: tuple[str, ...], num_pairs: int, num_nodes: int, of: str) -> None:
    family, pair = joined["family"], joined.get("pair")
    if family not in families:
        raise ValueError(f"{of}: family must be one of {families}, received {shown(family)}.")
    if (families is PAIR_FAMILIES or family == "pair") and (pair is None or not 0 <= pair < num_pairs):
        rule = f"pair must be the number of one of {num_pairs} pairs"
        raise ValueError(f"{of}: {rule}, received {pair}. {ANEW}.")
    if wrong := [number for number in joined["nodes"] if not 0 <= number < num_nodes]:
        rule = f"nodes must be numbers of the {num_nodes} nodes of the table"
        raise ValueError(f"{of}: {rule}, received {shown(wrong)}. {ANEW}.")


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
