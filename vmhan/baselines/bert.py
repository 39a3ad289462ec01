"""Text encoders with a linear classifier: alone (BERT, MTB), and with the objects' features beside them (BERT+SG).

Shapes: S encoder rows, P pairs, K objects a pair, D encoder size.
"""

import torch
from torch import Tensor, nn

from modeling_vmhan.layers import masked_softmax
from vmhan.baselines.base import EncoderBaseline, VisualBaseline
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["BareEncoder", "EntityMarkers", "SceneGraph", "SceneGraphAttention"]


class EntityMarkers(EncoderBaseline):
    """MTB (Soares et al. 2019, section 3.2, variant (f)): logits = W [h_E1; h_E2] + b, the markers' last states.

    Departures: its pre-training by matching the blanks and its optional layer normalisation are left out.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.add_classifier(2 * config.text_config.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.entity_states(self.encode_text(inputs), inputs)  # (P, 2 D)


class BareEncoder(EncoderBaseline):
    """BERT without markers (Devlin et al. 2019): logits = W [h_CLS; mean of the head; mean of the tail] + b.

    One pass a sentence serves all its pairs. It is the unit of time of the paper's Figure 6.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.add_classifier(3 * config.text_config.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        states = self.encode_text(inputs)  # (S, T, D)
        first = states[inputs["pair_to_sequence"], 0]  # (P, D)
        return torch.cat([first, self.entity_states(states, inputs)], dim=-1)  # (P, 3 D)


class SceneGraph(VisualBaseline):
    """BERT+SG, a baseline that came with MNRE: logits = W [h; t; mean of the pair's objects] + b, 0 without objects.

    Zheng et al. 2021 (https://doi.org/10.1109/ICME51207.2021.9428274; MEGA, section 5.2) give no equation. Departure:
    the objects are the detected ones that all baselines share, not a scene graph generator's. The text side is that of
    MTB.
    """

    attends = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        size = config.text_config.hidden_size
        self.query = nn.Linear(2 * size, size) if self.attends else None
        self.add_classifier(3 * size)

    def object_weights(self, text: Tensor, objects: Tensor, present: Tensor) -> Tensor:
        """text (P, 2 D), objects (P, K, D), present (P, K) -> weights (P, K) that sum to 1, or 0 without objects."""
        scores = objects.new_zeros(present.shape)
        if self.query is not None:
            scores = (objects @ self.query(text).unsqueeze(-1)).squeeze(-1) / objects.shape[-1] ** 0.5
        return masked_softmax(scores, present)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        regions, present = self.regions(inputs)  # (P, 1 + K + 1, D)
        text = self.entity_states(self.encode_text(inputs), inputs, regions[:, -1])  # (P, 2 D)
        objects = regions[:, 1:-1]  # (P, K, D)
        weights = self.object_weights(text, objects, present[:, 1:-1])
        return torch.cat([text, (weights.unsqueeze(1) @ objects).squeeze(1)], dim=-1)  # (P, 3 D)


class SceneGraphAttention(SceneGraph):
    """BERT+SG+Att, the same with attended objects: softmax over k of (W_q [h; t] + b_q) . o_k / sqrt(D)."""

    attends = True
