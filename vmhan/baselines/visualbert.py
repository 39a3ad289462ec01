"""VisualBERT: one BERT over the words and the regions (Li et al. 2019, https://arxiv.org/abs/1908.03557).

Shapes: P pairs, T tokens, K objects a pair, D encoder size.
"""

import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedModel, VisualBertConfig, VisualBertModel

from vmhan.baselines.base import VisualBaseline, text_inputs
from vmhan.baselines.bert_layers import rows_of_pairs
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["VisualBert"]


class VisualBert(VisualBaseline):
    """transformers' VisualBertModel with the pretrained text encoder's weights: logits = W [h; t] + b of the markers.

    The embeddings of the visual segment and position start as the textual ones do. ValueError if the encoder is no
    BERT.

    Departures: it has no pre-training on COCO's captions, whose weights fit bert-base-uncased alone. Regions are the
    image and the pair's objects with the projection that all baselines share, where the published one is linear and
    reads Faster R-CNN's features. A tail that is an object is one more visual token, whose state is t.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text = config.text_config
        if not isinstance(text, BertConfig):
            raise ValueError(f"visualbert is built around a BERT, received a text encoder of {text.model_type!r}.")
        shared = set(VisualBertConfig().to_dict()) - {"model_type", "architectures", "transformers_version", "dtype"}
        fields = {name: value for name, value in text.to_dict().items() if name in shared}
        visual_config = VisualBertConfig(**fields, visual_embedding_dim=text.hidden_size)
        self.text_encoder = VisualBertModel(visual_config, add_pooling_layer=False)
        self.text_encoder.embeddings.visual_projection = torch.nn.Identity()  # `regions` has projected them
        self.add_classifier(2 * text.hidden_size)

    def use_text_encoder(self, text_encoder: PreTrainedModel) -> None:
        """Copy a BERT's embeddings and layers into VisualBERT's, which bear the same names."""
        weights = {k: v for k, v in text_encoder.state_dict().items() if not k.startswith("pooler.")}
        self.text_encoder.load_state_dict(weights, strict=False)
        embeddings = self.text_encoder.embeddings
        with torch.no_grad():
            embeddings.visual_token_type_embeddings.weight.copy_(embeddings.token_type_embeddings.weight)
            embeddings.visual_position_embeddings.weight.copy_(embeddings.position_embeddings.weight)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        visual, present = self.regions(inputs)  # (P, 1 + K + 1, D)
        inputs = rows_of_pairs(inputs)
        mask = present.to(inputs["attention_mask"].dtype)
        encoded = self.text_encoder(
            **text_inputs(inputs), visual_embeds=visual, visual_attention_mask=mask, return_dict=True
        )
        states = encoded.last_hidden_state  # (P, T + 1 + K + 1, D)
        return self.entity_states(states, inputs, states[:, -1])  # (P, 2 D)
