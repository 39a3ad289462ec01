"""HVPNeT's hierarchical visual prefix (Chen et al. 2022c, https://arxiv.org/abs/2205.03521).

Shapes: R regions, 4 positions of a pooled map, C channels of the pyramid, L text layers, P rows, n prefix positions,
D hidden size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rivals.bert_layers import attend, embed, finish_layer, project, split_heads
from rivals.pyramid import POSITIONS


__all__ = ["GatedAggregation", "encode_with_prefix"]

BLOCKS = 4  # hierarchical features that a gate chooses among


class GatedAggregation(nn.Module):
    """Dynamic gated aggregation: for each text layer its own mixture of the hierarchical features.

        V_1 ... V_4 = the four blocks of W_2 tanh(W_1 pyramid), each (4 positions, 2 D)
        g_l = softmax(LeakyReLU(W_l mean_i V_i + b_l));  prefix_l = sum_i g_l,i V_i

    The blocks are those of the public code (models/bert_model.py of zjunlp/HVPNeT), where one projection reads the
    whole pyramid; the paper writes one projection a stage. Its positions are read as a sequence here; the public code
    cuts the flattened (channels, 2, 2) map into four rows instead, which mixes channels and positions.

    Args:
        feature_size: C. hidden_size: D. num_layers: L. middle_size: of the projection (published: 800).
    """

    def __init__(self, *, feature_size: int, hidden_size: int, num_layers: int, middle_size: int = 800):
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(feature_size, middle_size), nn.Tanh(), nn.Linear(middle_size, BLOCKS * 2 * hidden_size)
        )
        self.gates = nn.ModuleList(nn.Linear(POSITIONS * 2 * hidden_size, BLOCKS) for _ in range(num_layers))

    def blocks(self, pyramid: Tensor) -> Tensor:
        """(R, 4 positions, C) -> (R, 4 positions, 4 blocks, 2 D)."""
        return self.projection(pyramid).unflatten(-1, (BLOCKS, -1))

    def gate(self, blocks: Tensor) -> Tensor:
        """(R, L, 4 blocks), a layer's sum to 1."""
        mean = blocks.mean(dim=2).flatten(1)  # (R, 4 x 2 D)
        scores = torch.stack([gate(mean) for gate in self.gates], dim=1)  # (R, L, 4)
        return nn.functional.leaky_relu(scores).softmax(dim=-1)

    def forward(self, pyramid: Tensor) -> Tensor:
        """(R, 4 positions, C) -> keys and values of every layer, (R, L, 4 positions, 2 D)."""
        blocks = self.blocks(pyramid)
        return torch.einsum("rlb,rpbd->rlpd", self.gate(blocks), blocks)


def encode_with_prefix(
    encoder: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None,
    prefix: Tensor,
    prefix_mask: Tensor,
) -> Tensor:
    """Visual prefix-guided fusion: softmax(Q [prefix_k; K]^T / sqrt(d)) [prefix_v; V] in every layer.

    Args:
        encoder: of the BERT family. input_ids, attention_mask, token_type_ids: (P, T).
        prefix: (P, L, n, 2 D), keys then values; n may be 0. prefix_mask: (P, n) bool.

    Returns:
        states (P, T, D).
    """
    states = embed(encoder, input_ids, token_type_ids)  # (P, T, D)
    mask = torch.cat([prefix_mask, attention_mask.bool()], dim=1)  # (P, n + T)
    for layer, of_layer in zip(encoder.encoder.layer, prefix.unbind(dim=1), strict=True):
        query, key, value = project(layer, states)
        prefix_key, prefix_value = (split_heads(half, query.shape[1]) for half in of_layer.chunk(2, dim=-1))
        key, value = torch.cat([prefix_key, key], dim=2), torch.cat([prefix_value, value], dim=2)
        states = finish_layer(layer, states, attend(layer, query, key, value, mask))
    return states
