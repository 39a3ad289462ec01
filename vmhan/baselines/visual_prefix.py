"""HVPNeT's hierarchical visual prefix (Chen et al. 2022c, https://arxiv.org/abs/2205.03521).

Shapes: R regions, 4 positions of a pooled map, C channels of the pyramid, L text layers, P pairs, n prefix positions,
B examples, O objects of an example, K objects a pair, D hidden size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modeling_vmhan.nodes import masked_batch_norm
from vmhan.baselines.base import EncoderBaseline
from vmhan.baselines.bert_layers import attend, embed, finish_layer, project, rows_of_pairs, split_heads
from vmhan.baselines.configuration import BaselineConfig
from vmhan.baselines.pyramid import POSITIONS, PyramidEncoder


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


class HVPNeT(EncoderBaseline):
    """HVPNeT: logits = W [h; t] + b over the markers' states of a BERT with a visual prefix in every layer.

    The pixels of the image and of the pair's objects go through a frozen ResNet at each step, and through
    `GatedAggregation`; visual_feature_size is C.

    Departures: a region that several pairs use is encoded once. A missing object is masked, where the public code has
    an encoded black picture. The ResNet stays in evaluation mode. The objects are those of the data set, because the
    public ones leak. The pyramid is normalised; without this the prefix was not learned from random weights. A tail
    that is an object of the image is also in the prefix, and t is its mean value in the last layer.
    """

    reads_images = True
    reaches_into_layers = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text = config.text_config
        self.pyramid = PyramidEncoder(config.pyramid)
        size = self.pyramid.feature_size
        self.feature_norm = nn.LayerNorm(size, elementwise_affine=False)
        self.region_norm = nn.BatchNorm1d(size, affine=False, momentum=None)
        sizes = {"hidden_size": text.hidden_size, "num_layers": text.num_hidden_layers}
        self.aggregation = GatedAggregation(feature_size=size, **sizes)
        self.add_classifier(2 * text.hidden_size)

    def use_pyramid(self, weights: str) -> None:
        """Load the ResNet's weights, see `PyramidEncoder.from_weights`."""
        self.pyramid = PyramidEncoder.from_weights(self.config.pyramid, weights).to(self.dtype)

    def train(self, mode: bool = True) -> "HVPNeT":
        """As `nn.Module.train`, but the ResNet stays frozen (`from_pretrained` would not leave it so) and in eval."""
        super().train(mode)
        self.pyramid.eval().requires_grad_(False)
        return self

    def region_pyramids(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the ResNet makes of every region that a pair uses, each once: pyramids (1 + R, 4, C), the first of them
        zeros for what is missing; of_pair (P, 2 + K), which of them are the pair's image, objects and tail; present
        (P, 2 + K) bool. ValueError for posts without pixels.
        """
        example, tail = inputs["pair_to_example"], inputs["tail_object"][:, None] + 1  # (P,), (P, 1)
        columns = torch.cat([torch.zeros_like(tail), inputs["pair_objects"] + 1, tail], dim=1)  # image 0, object i + 1
        has_image = inputs["image_mask"][example].unsqueeze(1)  # (P, 1)
        present = has_image & torch.cat([torch.ones_like(has_image), columns[:, 1:] > 0], dim=1)  # (P, 2 + K)
        pixels = inputs.get("pixel_values")
        if pixels is None and present.any():
            raise ValueError("hvpnet reads pixels, received a batch with image_features and without pixel_values.")
        used = inputs["image_mask"].new_zeros(len(inputs["image_mask"]), 1 + inputs["object_mask"].shape[1])
        used[example.unsqueeze(1).expand_as(columns)[present], columns[present]] = True  # (B, 1 + O)
        pyramids = self.classifier.weight.new_zeros(1, POSITIONS, self.pyramid.feature_size)
        if used.any():
            with torch.no_grad():
                pyramids = torch.cat([pyramids, self.pyramid(pixels[used].to(pyramids.dtype))])
        number = used.flatten().cumsum(dim=0).view_as(used)  # 1 + the region's place among those used
        return pyramids, number[example.unsqueeze(1), columns].masked_fill(~present, 0), present

    def normalised(self, pyramids: Tensor) -> Tensor:
        """(1 + R, 4, C) as `VisualProjection` normalises features; the first, which is no region, stays zero."""
        is_region = torch.arange(len(pyramids), device=pyramids.device) > 0
        mask = is_region.unsqueeze(1).expand(-1, POSITIONS)  # (1 + R, 4)
        return masked_batch_norm(self.region_norm, self.feature_norm(pyramids), mask)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        pyramids, of_pair, present = self.region_pyramids(inputs)
        prefix = self.aggregation(self.normalised(pyramids))[of_pair].transpose(1, 2)  # (P, L, 2 + K, 4, 2 D)
        mask = present.repeat_interleave(POSITIONS, dim=1)  # (P, n)
        inputs = rows_of_pairs(inputs)
        states = encode_with_prefix(self.text_encoder, inputs, prefix.flatten(2, 3), mask)  # (P, T, D)
        tail = prefix[:, -1, -1, :, states.shape[-1] :].mean(dim=1)  # (P, D), the values
        return self.entity_states(states, inputs, tail)  # (P, 2 D)
