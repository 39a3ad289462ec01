"""HVPNeT's hierarchical visual prefix (Chen et al. 2022c, https://arxiv.org/abs/2205.03521).

Shapes: R regions, 4 positions of a pooled map, C channels of the pyramid, L text layers, P pairs, n prefix positions,
K objects a pair, D hidden size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vmhan.baselines.bert_layers import attend, embed, finish_layer, project, rows_of_pairs, split_heads
from vmhan.baselines.configuration import BaselineConfig
from vmhan.baselines.pyramid import POSITIONS, PyramidBaseline


__all__ = ["GatedAggregation", "HVPNeT", "encode_with_prefix"]

BLOCKS = 4  # hierarchical features that a gate chooses among


class GatedAggregation(nn.Module):
    """Dynamic gated aggregation: for each text layer its own mixture of the hierarchical features.

        V_1 ... V_4 = the four blocks of W_2 tanh(W_1 pyramid), each (4 positions, 2 D)
        g_l = softmax(LeakyReLU(W_l mean_i V_i + b_l));  prefix_l = sum_i g_l,i V_i

    As in the public code (models/bert_model.py of zjunlp/HVPNeT) one projection reads the whole pyramid, where the
    paper has one a stage. Departure: the positions are read as a sequence; the public code mixes channels and
    positions. feature_size is C, hidden_size D, num_layers L, and middle_size the projection's.
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
        """(R, L, 4 blocks), which sum to 1 in each layer."""
        mean = blocks.mean(dim=2).flatten(1)  # (R, 4 x 2 D)
        scores = torch.stack([gate(mean) for gate in self.gates], dim=1)  # (R, L, 4)
        return nn.functional.leaky_relu(scores).softmax(dim=-1)

    def forward(self, pyramid: Tensor) -> Tensor:
        """(R, 4 positions, C) -> keys and values of every layer, (R, L, 4 positions, 2 D)."""
        blocks = self.blocks(pyramid)
        return torch.einsum("rlb,rpbd->rlpd", self.gate(blocks), blocks)


def encode_with_prefix(
    encoder: PreTrainedModel, inputs: dict[str, Tensor], prefix: Tensor, prefix_mask: Tensor
) -> Tensor:
    """Visual prefix-guided fusion: softmax(Q [prefix_k; K]^T / sqrt(d)) [prefix_v; V] in every layer.

    encoder is of the BERT family, inputs its rows, prefix (P, L, n, 2 D) keys then values, prefix_mask (P, n) bool.
    """
    states, text_mask = embed(encoder, inputs)
    mask = torch.cat([prefix_mask, text_mask], dim=1)  # (P, n + T)
    for layer, of_layer in zip(encoder.encoder.layer, prefix.unbind(dim=1), strict=True):
        query, key, value, dropout = project(layer, states)
        prefix_key, prefix_value = (split_heads(half, query.shape[1]) for half in of_layer.chunk(2, dim=-1))
        key, value = torch.cat([prefix_key, key], dim=2), torch.cat([prefix_value, value], dim=2)
        states = finish_layer(layer, states, attend(query, key, value, mask, dropout))
    return states


class HVPNeT(PyramidBaseline):
    """HVPNeT: logits = W [h; t] + b over the markers' states of a BERT with a visual prefix in every layer.

    The pyramids go through `GatedAggregation`.

    Departures, beside those of `PyramidBaseline`: a missing object is masked, where the public code has an encoded
    black picture. A tail that is an object of the image is also in the prefix, and t is its mean value in the last
    layer.
    """

    reaches_into_layers = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text = config.text_config
        sizes = {"hidden_size": text.hidden_size, "num_layers": text.num_hidden_layers}
        self.aggregation = GatedAggregation(feature_size=self.pyramid.feature_size, **sizes)
        self.add_classifier(2 * text.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        pyramids, of_pair, present = self.region_pyramids(inputs)
        prefix = self.aggregation(self.normalised(pyramids))[of_pair].transpose(1, 2)  # (P, L, 2 + K, 4, 2 D)
        mask = present.repeat_interleave(POSITIONS, dim=1)  # (P, n)
        inputs = rows_of_pairs(inputs)
        states = encode_with_prefix(self.text_encoder, inputs, prefix.flatten(2, 3), mask)  # (P, T, D)
        tail = prefix[:, -1, -1, :, states.shape[-1] :].mean(dim=1)  # (P, D), the values
        return self.entity_states(states, inputs, tail)  # (P, 2 D)
