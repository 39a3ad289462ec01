"""Text encoders with a linear classifier: the baselines that see no image.

Shapes: P pairs, D encoder size.
"""

import torch
from torch import Tensor

from vmhan.baselines.base import EncoderBaseline
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["BareEncoder", "EntityMarkers"]


class EntityMarkers(EncoderBaseline):
    """MTB (Soares et al. 2019, section 3.2, variant (f), https://arxiv.org/abs/1906.03158).

    [E1] and [E2] stand before the mentions in the sentence; logits = W [h_E1; h_E2] + b with their last states, and
    softmax. Its pre-training by matching the blanks and its optional layer normalisation are left out, as where it is
    a baseline.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.add_classifier(2 * config.text_config.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.entity_states(self.encode_text(inputs), inputs).flatten(1)  # (P, 2 D)


class BareEncoder(EncoderBaseline):
    """The text encoder as it comes, no marker (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

    logits = W [h_CLS; mean of the head's states; mean of the tail's states] + b, one pass a sentence for all its
    pairs. Soares et al. 2019 call the mentions' part "mention pooling" (section 3.2, (b), with the maximum). It is the
    unit of time of the paper's Figure 6.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.add_classifier(3 * config.text_config.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        states = self.encode_text(inputs)  # (S, T, D)
        entities = self.entity_states(states, inputs).flatten(1)  # (P, 2 D)
        return torch.cat([states[inputs["pair_to_sequence"], 0], entities], dim=-1)  # (P, 3 D)
