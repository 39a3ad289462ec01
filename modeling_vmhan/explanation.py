"""Which hyperedges and nodes carried a decision: the attention of all layers, aggregated, with the nodes' names.

Shapes: P pairs, N nodes, E hyperedges.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batching import EncodedPair, EncodedPost
from .hypergraph import HEAD, TAIL, hyperedge_names
from .post_slots import PostGraph
from .posts import image_phrases_of, sentence_of


__all__ = ["AttentionRollout", "attention_rollout", "describe_nodes", "describe_post", "explain_pair", "explain_pairs"]
__all__ += ["read_nodes"]


class AttentionRollout(NamedTuple):
    node_weight: Tensor  # (P, N), sums to 1 over a pair's nodes
    edge_weight: Tensor  # (P, E), sums to 1 over its hyperedges (to 0 where it has none)
    member_weight: Tensor  # (G, E, N), sums to 1 over a hyperedge's members (to 0 where it has none)


def attention_rollout(
    attentions: tuple[tuple[Tensor, Tensor], ...], incidence: Tensor, read: tuple[Tensor, Tensor] | None = None
) -> AttentionRollout:
    """Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928) over nodes and hyperedges.

    With A_l = edge_to_node (N, E) and B_l = node_to_edge (E, N), mean of the heads, the shares of the initial nodes in
    what nodes and hyperedges hold are
        R_0 = I, Q_0 = membership / |e|, R_l+1 = (R_l + A_l Q_l) / 2, Q_l+1 = (Q_l + B_l R_l) / 2:
    a layer adds to what was there (equations 6 and 8), and both summands count alike. A node's weight is the mean of
    its shares in the final states of the nodes that the classifier reads: head and tail, in a post's hypergraph the
    pair's own node, too. A hyperedge's weight is the attention that they pay to it, averaged over them, heads and
    layers; its members' weights are their shares in it as the last layer read it. It says where the model looked, not
    what would have changed its answer.

    attentions are the model's, incidence is (G, N, E) bool. read: of each pair its hypergraph, (P,), and the r numbers
    of what is read there, (P, r); None: a hypergraph a pair, G = P. A layer without hyperedge attention is a
    ValueError.
    """
    if not attentions or any(to_edge is None or to_node is None for to_edge, to_node in attentions):
        raise ValueError("explain=True needs hypergraph_encoder='vhan': this model has no attention in every layer.")
    membership = incidence.transpose(1, 2).float()  # (P, E, N)
    in_edge = membership / membership.sum(dim=-1, keepdim=True).clamp(min=1)  # Q, (P, E, N)
    in_node = torch.eye(incidence.shape[1], device=incidence.device).expand(len(incidence), -1, -1)  # R, (P, N, N)
    if read is None:
        read = torch.arange(len(incidence)), torch.tensor([HEAD, TAIL]).expand(len(incidence), -1)
    entities = read[0].unsqueeze(1), read[1]  # (P, 1), (P, r)
    edge_weight, members = torch.zeros(()), in_edge
    for node_to_edge, edge_to_node in attentions:
        to_edge, to_node = node_to_edge.float().mean(dim=1), edge_to_node.float().mean(dim=1)  # (P, E, N), (P, N, E)
        edge_weight = edge_weight + to_node[entities].mean(dim=1) / len(attentions)  # (P, E)
        members = in_edge
        isolated = (to_node.sum(dim=-1, keepdim=True) == 0).float()  # (P, N, 1): a node that no hyperedge holds
        in_node, in_edge = (in_node * (1 + isolated) + to_node @ in_edge) / 2, (in_edge + to_edge @ in_node) / 2
    return AttentionRollout(in_node[entities].mean(dim=1), edge_weight, members)


def read_nodes(inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """What `attention_rollout` takes as `read` of a batch: of posts' hypergraphs, each pair's post and its nodes."""
    return (inputs["pair_to_example"], inputs["entity_nodes"]) if "entity_nodes" in inputs else None


def explain_pairs(
    posts: list[dict], encoded: list[EncodedPost], inputs: dict[str, Tensor], output: Any, families: list[str]
) -> list[dict[str, Any]]:
    """The explanation of every pair of a batch, from its posts and what the processor and the model made of them."""
    whole = attention_rollout(output.attentions, output.incidence, read_nodes(inputs))
    rollout = AttentionRollout(*(part.cpu() for part in whole))
    incidence, present = output.incidence.cpu(), output.node_mask.cpu()
    explained = []
    for number, (post, of_post) in enumerate(zip(posts, encoded, strict=True)):
        for j, (pair, of_pair) in enumerate(zip(post["pairs"], of_post.pairs, strict=True)):
            i = len(explained)
            if of_post.graph is None:
                of, nodes = i, describe_nodes(post, pair, of_pair, inputs)
                names = hyperedge_names([node.get("text", "") for node in nodes], families)
            else:
                of, (nodes, names) = number, describe_post(post, j, of_post.graph)
            weights = AttentionRollout(rollout.node_weight[i], rollout.edge_weight[i], rollout.member_weight[of])
            explained.append(explain_pair(nodes, present[of], weights, incidence[of], names))
    return explained


def describe_nodes(post: dict, pair: dict, encoded: EncodedPair, inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The N nodes of one pair in the model's order; a slot that this pair does not fill is {"kind": "empty"}.

    A node is a dict of kind (head, tail, text phrase, image, object, image phrase), text (the words, or the object's
    label), characters ([start, end) of the sentence, or None) and box (xyxy pixels, or None).
    """
    describe, empty = _describer(post), {"kind": "empty"}

    def filled(name: str, described: list[dict[str, Any]]) -> list[dict[str, Any]]:
        width = inputs[name].shape[1] if name in inputs else 0  # (P, slots, ...)
        return described[:width] + [empty] * (width - len(described))

    tail = encoded.tail_object if encoded.tail_object >= 0 else pair["tail"]
    nodes = [describe("head", pair["head"]), describe("tail", tail)]
    nodes += filled("text_phrase_tokens", [describe("text phrase", span) for span in pair.get("text_phrases", [])])
    if "pair_objects" in inputs:
        nodes.append(describe("image", None))
    nodes += filled("pair_objects", [describe("object", i) if i >= 0 else empty for i in encoded.objects])
    chosen = [describe("image phrase", i) if i >= 0 else empty for i in encoded.chosen_phrases]
    return nodes + filled("image_phrase_tokens", chosen)


def describe_post(post: dict, pair: int, graph: PostGraph) -> tuple[list[dict[str, Any]], list[str]]:
    """The nodes of a post's hypergraph as `describe_nodes` has them, and the names of its hyperedges. Further kinds
    are mention, of other pairs, and pair.
    """
    describe = _describer(post)
    head, tail, _ = graph.slots[pair][0]
    texts = [None if node.kind == "pair" else describe(node.kind, node.place)["text"] for node in graph.nodes]
    for first, second, own in (slots[0] for slots in graph.slots):
        texts[own] = f"{texts[first]} - {texts[second]}"
    nodes = []
    for i, node in enumerate(graph.nodes):
        kind = "head" if i == head else "tail" if i == tail else node.kind.replace("_", " ")
        is_pair = node.kind == "pair"
        nodes.append(describe(kind, None) | {"text": texts[i]} if is_pair else describe(kind, node.place))
    names = []
    for family, _, members, _ in graph.hyperedges:
        own = (node for node in members if node.kind == family.removesuffix("-visual") and node in graph.nodes)
        of = [texts[graph.nodes.index(node)] for node in own]
        names.append(f"{family}: {of[0]}" if of else family)
    return nodes, names


def _describer(post: dict) -> Callable[[str, Any], dict[str, Any]]:
    """`describe(kind, place)`: a node of the post, at a span of its units, an index, or None."""
    text, unit_spans = sentence_of(post)
    boxes, labels, about = post.get("boxes", []), post.get("object_labels", []), image_phrases_of(post)

    def describe(kind: str, place: Any) -> dict[str, Any]:
        node = {"kind": kind, "text": kind, "characters": None, "box": None}
        if place is None:
            return node
        if not isinstance(place, int):
            start, end = unit_spans[place[0]][0], unit_spans[place[1] - 1][1]
            return node | {"text": text[start:end], "characters": [start, end]}
        if kind in ("image phrase", "image_phrase"):
            return node | {"text": about[place]}
        label = labels[place] if place < len(labels) and labels[place] else f"object {place}"
        return node | {"text": label, "box": boxes[place] if place < len(boxes) else None}

    return describe


def explain_pair(
    nodes: list[dict[str, Any]], present: Tensor, rollout: AttentionRollout, incidence: Tensor, names: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """One pair's rollout as plain data: the present nodes with their weights, and the hyperedges that have members.

    nodes are `describe_nodes`', present is (N,) bool, the rollout of one pair (N,), (E,), (E, N), incidence (N, E),
    and names are of the hyperedges. A hyperedge has a name, a weight, and members as {node: index into the present
    nodes, weight}.
    """
    index = {slot: i for i, slot in enumerate(present.nonzero().flatten().tolist())}
    described = [{**nodes[slot], "weight": float(rollout.node_weight[slot])} for slot in index]
    hyperedges = []
    for edge, name in enumerate(names):
        slots, weights = incidence[:, edge].nonzero().flatten().tolist(), rollout.member_weight[edge]
        if slots:
            members = [{"node": index[slot], "weight": float(weights[slot])} for slot in slots]
            hyperedges.append({"name": name, "weight": float(rollout.edge_weight[edge]), "members": members})
    return {"nodes": described, "hyperedges": hyperedges}
