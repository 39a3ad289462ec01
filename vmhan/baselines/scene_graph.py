"""BERT+SG and BERT+SG+Att, the baselines that came with MNRE.

Zheng et al. 2021a, "MNRE: A Challenge Multimodal Dataset for Neural Relation Extraction with Visual Evidence in Social
Media Posts", https://doi.org/10.1109/ICME51207.2021.9428274. Both put visual features beside the text's; what is
concatenated and what attended is said in words, without an equation (also in Zheng et al. 2021b, MEGA, section 5.2,
https://doi.org/10.1145/3474085.3476968).

Departure: published, the features are those of a scene graph generator's objects (Tang et al. 2020); here they are the
detected objects of the data set, which all baselines share. The text side is that of MTB.

Shapes: P pairs, K objects a pair, D encoder size.
"""

import torch
from torch import Tensor, nn

from modeling_vmhan.layers import masked_softmax
from vmhan.baselines.base import VisualBaseline
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["SceneGraph", "SceneGraphAttention"]


class SceneGraph(VisualBaseline):
    """logits = W [h; t; mean of the pair's objects] + b; zeros where there is no object."""

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
        regions, present, tail_region = self.regions(inputs)
        text = self.entity_states(self.encode_text(inputs), inputs, tail_region).flatten(1)  # (P, 2 D)
        objects = regions[:, 1:]  # (P, K, D)
        weights = self.object_weights(text, objects, present[:, 1:])
        return torch.cat([text, (weights.unsqueeze(1) @ objects).squeeze(1)], dim=-1)  # (P, 3 D)


class SceneGraphAttention(SceneGraph):
    """The same with attended objects: weights = softmax over objects of (W_q [h; t] + b_q) . o_k / sqrt(D)."""

    attends = True
