"""MEGA-style alignment of a text graph and a scene graph (Zheng et al. 2021, "Multimodal Relation Extraction with
Efficient Graph Alignment", ACM MM, pages 5298 to 5306; code https://github.com/thecharm/Mega).

Shapes: P pairs, T tokens, G visual nodes, N = T + G nodes of both graphs, D hidden size.
"""

import math

import torch
from torch import Tensor, nn

from modeling_vmhan.layers import masked_softmax
from vmhan.baselines.base import VisualBaseline
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["GraphAlignment", "Mega", "structural_alignment", "structural_features", "text_graph"]

HOPS = 2  # neighbourhoods that a node's structural feature counts
DISCOUNT = 0.01  # of each further hop, as in the public code


def text_graph(key_tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """Adjacency (P, T, T) bool of the sentence, in place of its dependency tree, symmetric, 0 on the diagonal.

    Each token is linked to the next, and the key tokens (the first of each mention and phrase) to one another.
    key_tokens are (P, n) positions, filled up by -1, attention_mask (P, T).
    """
    rows, tokens = attention_mask.shape
    position = torch.arange(tokens, device=attention_mask.device)
    chain = (position[:, None] - position[None]).abs() == 1  # (T, T)
    is_key = attention_mask.new_zeros(rows, tokens + 1, dtype=torch.bool)
    is_key.scatter_(1, torch.where(key_tokens < 0, tokens, key_tokens), True)  # fillers go to the column behind
    is_key = is_key[:, :tokens]
    clique = is_key[:, :, None] & is_key[:, None] & (position[:, None] != position[None])
    present = attention_mask.bool()
    return (chain | clique) & present[:, :, None] & present[:, None]


def structural_features(adjacency: Tensor, node_mask: Tensor) -> Tensor:
    """xNetMF's descriptor (Heimann et al. 2018, https://arxiv.org/abs/1802.06257), (P, N, buckets).

    d_i = sum over hops k = 0 ... 2 of 0.01^k times the histogram of floor(log2 degree) over the nodes k hops away.
    A node without neighbours counts nowhere, and a missing node has zeros. adjacency is (P, N, N), node_mask (P, N)
    bool.
    """
    degree = adjacency.sum(dim=-1)  # (P, N)
    num_buckets = int(math.log2(max(adjacency.shape[-1] - 1, 1))) + 1
    bucket = degree.clamp(min=1).float().log2().long()
    histogram = nn.functional.one_hot(bucket, num_buckets).float() * (degree > 0).unsqueeze(-1)  # (P, N, buckets)
    itself = torch.eye(adjacency.shape[-1], dtype=torch.bool, device=adjacency.device)
    ring, seen = itself & node_mask.unsqueeze(-1), itself | adjacency
    features = ring.float() @ histogram
    ring = adjacency
    for hop in range(1, HOPS + 1):
        features = features + DISCOUNT**hop * (ring.float() @ histogram)
        ring = (ring.float() @ adjacency.float() > 0) & ~seen
        seen = seen | ring
    return features


def structural_alignment(features: Tensor) -> Tensor:
    """Similarity of nodes by their place in the graphs, (P, N, buckets) -> (P, N, N), symmetric, 1 on the diagonal.

    s = exp(-|d_i - d_j|) is factorised as Y Y^T and alignment = exp(-|y_i - y_j|). With every node a landmark, the
    rows of Y have length 1, so that |y_i - y_j| = sqrt(2 - 2 s) without a factorisation.
    """
    distance = (features.unsqueeze(2) - features.unsqueeze(1)).norm(dim=-1)  # (P, N, N)
    return (-(2 - 2 * (-distance).exp()).clamp(min=0).sqrt()).exp()


class GraphAlignment(nn.Module):
    """Text that the visual nodes point at, by place in the graphs and by attention, as in the public code:

        semantic_j = sigmoid(softmax(W_q o_j (W_k x)^T / sqrt(2 D)) W_v x), over the tokens x
        structural_j = sum_i alignment(i, j) x_i / sum_i alignment(i, j)
        output = sum_j W [semantic_j; structural_j]
    over the objects o_j that are there; all have size 2 D. Departure: the public sum over tokens is not divided by its
    weights, so that a sentence's length sets the scale.
    """

    def __init__(self, *, hidden_size: int):
        super().__init__()
        size = 2 * hidden_size
        self.text_projection = nn.Linear(hidden_size, size)
        self.visual_projection = nn.Linear(hidden_size, size)
        self.query, self.value = nn.Linear(size, size), nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)  # a bias would add the same to all scores of a query
        self.output = nn.Linear(2 * size, size)

    def forward(self, text: Tensor, text_mask: Tensor, visual: Tensor, visual_mask: Tensor, graph: Tensor) -> Tensor:
        """text (P, T, D), text_mask (P, T), visual (P, G, D), visual_mask (P, G) bool, text's adjacency (P, T, T)
        -> (P, 2 D), zeros for a pair without a visual node.
        """
        with torch.no_grad():
            tokens, different = text.shape[1], ~torch.eye(visual.shape[1], dtype=torch.bool, device=text.device)
            both = nn.functional.pad(graph, (0, len(different)) * 2)  # (P, N, N), the graphs are not linked
            both[:, tokens:, tokens:] = visual_mask[:, :, None] & visual_mask[:, None] & different
            features = structural_features(both, torch.cat([text_mask, visual_mask], dim=1))
            alignment = structural_alignment(features)[:, tokens:, :tokens]  # (P, G, T)
            weights = alignment.masked_fill(~text_mask.unsqueeze(1), 0).to(text.dtype)
            weights = weights / weights.sum(dim=-1, keepdim=True)
        text, visual = self.text_projection(text), self.visual_projection(visual)  # (P, T, 2 D), (P, G, 2 D)
        scores = self.query(visual) @ self.key(text).transpose(1, 2) / math.sqrt(text.shape[-1])  # (P, G, T)
        semantic = (masked_softmax(scores, text_mask.unsqueeze(1)) @ self.value(text)).sigmoid()  # (P, G, 2 D)
        aligned = self.output(torch.cat([semantic, weights @ text], dim=-1))  # (P, G, 2 D)
        return aligned.masked_fill(~visual_mask.unsqueeze(-1), 0).sum(dim=1)


class Mega(VisualBaseline):
    """MEGA-style: logits = W (W_f [h; t; aligned]) + b, h and t the markers' states, aligned = `GraphAlignment`.

    Departures: `text_graph` stands for the dependency tree, and a complete graph over the image, the pair's objects
    and a tail in the image for the scene graph of ten objects with predicted relations.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        size = config.text_config.hidden_size
        self.alignment = GraphAlignment(hidden_size=size)
        self.fusion = nn.Linear(4 * size, 2 * size)
        self.add_classifier(2 * size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        visual, visual_mask = self.regions(inputs)  # (P, 1 + K + 1, D)
        states = self.encode_text(inputs)  # (S, T, D)
        rows = inputs["pair_to_sequence"]
        text_mask = inputs["attention_mask"][rows].bool()  # (P, T)
        graph = text_graph(_key_tokens(inputs), text_mask)
        aligned = self.alignment(states[rows], text_mask, visual, visual_mask, graph)  # (P, 2 D)
        entities = self.entity_states(states, inputs, visual[:, -1])  # (P, 2 D)
        return self.fusion(torch.cat([entities, aligned], dim=-1))


def _key_tokens(inputs: dict[str, Tensor]) -> Tensor:
    """First token of each mention and text phrase, (P, 2 + M), -1 where there is none."""
    groups = [inputs[name] for name in ("entity_tokens", "text_phrase_tokens") if inputs.get(name) is not None]
    return torch.cat([tokens[..., 0] for tokens in groups if tokens.shape[-1]], dim=1)
