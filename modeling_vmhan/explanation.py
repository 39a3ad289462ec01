"""Which hyperedges and nodes carried a decision: the attention of all layers, aggregated, with the nodes' names.

Shapes: P pairs, N nodes, E hyperedges.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batching import EncodedPair, EncodedPost
from .hypergraph import HEAD, TAIL, hyperedge_names
from .posts import image_phrases_of, sentence_of


__all__ = ["AttentionRollout", "attention_rollout", "describe_nodes", "explain_pair", "explain_pairs"]


class AttentionRollout(NamedTuple):
    node_weight: Tensor  # (P, N), sums to 1 over a pair's nodes
    edge_weight: Tensor  # (P, E), sums to 1 over its hyperedges (to 0 where it has none)
    member_weight: Tensor  # (P, E, N), sums to 1 over a hyperedge's members (to 0 where it has none)


def attention_rollout(attentions: tuple[tuple[Tensor, Tensor], ...], incidence: Tensor) -> AttentionRollout:
    """Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928) over nodes and hyperedges.

    With A_l = edge_to_node (N, E) and B_l = node_to_edge (E, N), mean of the heads, the shares of the initial nodes in
    what nodes and hyperedges hold are
        R_0 = I, Q_0 = membership / |e|, R_l+1 = (R_l + A_l Q_l) / 2, Q_l+1 = (Q_l + B_l R_l) / 2:
    a layer adds to what was there (equations 6 and 8), and both summands count alike. A node's weight is the mean of
    its shares in the head's and the tail's final state, which is what the classifier reads. A hyperedge's weight is
    the attention that head and tail pay to it, averaged over both, heads and layers; its members' weights are their
    shares in it as the last layer read it. It says where the model looked, not what would have changed its answer.

    attentions are the model's, incidence is (P, N, E) bool. A layer without hyperedge attention is a ValueError.
    """
    if not attentions or any(to_edge is None or to_node is None for to_edge, to_node in attentions):
        raise ValueError("explain=True needs hypergraph_encoder='vhan': this model has no attention in every layer.")
    membership = incidence.transpose(1, 2).float()  # (P, E, N)
    in_edge = membership / membership.sum(dim=-1, keepdim=True).clamp(min=1)  # Q, (P, E, N)
    in_node = torch.eye(incidence.shape[1], device=incidence.device).expand(len(incidence), -1, -1)  # R, (P, N, N)
    entities = slice(HEAD, TAIL + 1)
    edge_weight, read = torch.zeros(()), in_edge
    for node_to_edge, edge_to_node in attentions:
        to_edge, to_node = node_to_edge.float().mean(dim=1), edge_to_node.float().mean(dim=1)  # (P, E, N), (P, N, E)
        edge_weight = edge_weight + to_node[:, entities].mean(dim=1) / len(attentions)  # (P, E)
        read = in_edge
        isolated = (to_node.sum(dim=-1, keepdim=True) == 0).float()  # (P, N, 1): a node that no hyperedge holds
        in_node, in_edge = (in_node * (1 + isolated) + to_node @ in_edge) / 2, (in_edge + to_edge @ in_node) / 2
    return AttentionRollout(in_node[:, entities].mean(dim=1), edge_weight, read)


def explain_pairs(
    posts: list[dict], encoded: list[EncodedPost], inputs: dict[str, Tensor], output: Any, families: list[str]
) -> list[dict[str, Any]]:
    """The explanation of every pair of a batch, from its posts and what the processor and the model made of them."""
    rollout = AttentionRollout(*(part.cpu() for part in attention_rollout(output.attentions, output.incidence)))
    incidence, present = output.incidence.cpu(), output.node_mask.cpu()
    explained = []
    for post, of_post in zip(posts, encoded, strict=True):
        for pair, of_pair in zip(post["pairs"], of_post.pairs, strict=True):
            i, nodes = len(explained), describe_nodes(post, pair, of_pair, inputs)
            weights = AttentionRollout(*(part[i] for part in rollout))
            explained.append(explain_pair(nodes, present[i], weights, incidence[i], families))
    return explained


def describe_nodes(post: dict, pair: dict, encoded: EncodedPair, inputs: dict[str, Tensor]) -> list[dict[str, Any]]:
    """The N nodes of one pair in the model's order; a slot that this pair does not fill is {"kind": "empty"}.

    A node is a dict of kind (head, tail, text phrase, image, object, image phrase), text (the words, or the object's
    label), characters ([start, end) of the sentence, or None) and box (xyxy pixels, or None).
    """
    text, unit_spans = sentence_of(post)
    boxes, labels, about = post.get("boxes", []), post.get("object_labels", []), image_phrases_of(post)

    def node(kind: str, text: str, characters: list[int] | None = None, box: list[float] | None = None) -> dict:
        return {"kind": kind, "text": text, "characters": characters, "box": box}

    def words(kind: str, span: Any) -> dict[str, Any]:
        start, end = unit_spans[span[0]][0], unit_spans[span[1] - 1][1]
        return node(kind, text[start:end], [start, end])

    def region(kind: str, index: int) -> dict[str, Any]:
        label = labels[index] if index < len(labels) and labels[index] else f"object {index}"
        return node(kind, label, box=boxes[index] if index < len(boxes) else None)

    def filled(name: str, described: list[dict[str, Any]]) -> list[dict[str, Any]]:
        width = inputs[name].shape[1] if name in inputs else 0  # (P, slots, ...)
        return described[:width] + [{"kind": "empty"}] * (width - len(described))

    is_object = encoded.tail_object >= 0
    nodes = [words("head", pair["head"])]
    nodes.append(region("tail", encoded.tail_object) if is_object else words("tail", pair["tail"]))
    nodes += filled("text_phrase_tokens", [words("text phrase", span) for span in pair.get("text_phrases", [])])
    if "pair_objects" in inputs:
        nodes.append(node("image", "image"))
    objects = [region("object", i) if i >= 0 else {"kind": "empty"} for i in encoded.objects]
    nodes += filled("pair_objects", objects)
    chosen = [node("image phrase", about[i]) if i >= 0 else {"kind": "empty"} for i in encoded.chosen_phrases]
    return nodes + filled("image_phrase_tokens", chosen)


def explain_pair(
    nodes: list[dict[str, Any]], present: Tensor, rollout: AttentionRollout, incidence: Tensor, families: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """One pair's rollout as plain data: the present nodes with their weights, and the hyperedges that have members.

    nodes are `describe_nodes`', present is (N,) bool, the rollout of one pair (N,), (E,), (E, N), incidence (N, E). A
    hyperedge has a name, a weight, and members as {node: index into the present nodes, weight}.
    """
    names = hyperedge_names([node.get("text", "") for node in nodes], families)
    index = {slot: i for i, slot in enumerate(present.nonzero().flatten().tolist())}
    described = [{**nodes[slot], "weight": float(rollout.node_weight[slot])} for slot in index]
    hyperedges = []
    for edge, name in enumerate(names):
        slots, weights = incidence[:, edge].nonzero().flatten().tolist(), rollout.member_weight[edge]
        if slots:
            members = [{"node": index[slot], "weight": float(weights[slot])} for slot in slots]
            hyperedges.append({"name": name, "weight": float(rollout.edge_weight[edge]), "members": members})
    return {"nodes": described, "hyperedges": hyperedges}
