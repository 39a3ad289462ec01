"""VisualBERT: one BERT over the words and the regions (Li et al. 2019, https://arxiv.org/abs/1908.03557).

Shapes: P pairs, T tokens, K objects a pair, D encoder size.
"""

import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel, VisualBertConfig, VisualBertModel

from vmhan.baselines.base import VisualBaseline
from vmhan.baselines.bert_layers import rows_of_pairs
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["VisualBert"]


class VisualBert(VisualBaseline):
    """transformers' VisualBertModel, whose text side has the weights of the pretrained text encoder.

    Word, position and segment embeddings and all layers are the text encoder's; the embeddings of the visual segment
    and of the visual position start as the textual ones do (VisualBERT's special initialisation). Entities are marked
    by [E1] and [E2], whose last states the classifier reads: logits = W [h; t] + b.
    Not as published: without the pre-training on COCO's captions, whose weights fit bert-base-uncased alone; regions
    are the image and the pair's objects, their projection that of all baselines, where theirs is linear and reads Faster
    R-CNN's features. A tail that is an object of the image is one more visual token, whose state is t.

    Raises:
        ValueError: the text encoder is no BERT.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.text_encoder = _visual_bert(config.text_config)
        self.add_classifier(2 * config.text_config.hidden_size)

    def use_text_encoder(self, text_encoder: PreTrainedModel) -> None:
        """Copy a BERT's embeddings and layers into VisualBERT's, which bear the same names."""
        weights = {k: v for k, v in text_encoder.state_dict().items() if not k.startswith("pooler.")}
        self.text_encoder.load_state_dict(weights, strict=False)
        embeddings = self.text_encoder.embeddings
        with torch.no_grad():
            embeddings.visual_token_type_embeddings.weight.copy_(embeddings.token_type_embeddings.weight)
            embeddings.visual_position_embeddings.weight.copy_(embeddings.position_embeddings.weight)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        regions, present, tail_region = self.regions(inputs)
        visual = torch.cat([regions, tail_region.unsqueeze(1)], dim=1)  # (P, 2 + K, D)
        visual_mask = torch.cat([present, inputs["tail_object"].unsqueeze(1) >= 0], dim=1)
        inputs = rows_of_pairs(inputs)
        names = ("input_ids", "attention_mask", "token_type_ids")
        states = self.text_encoder(
            **{name: inputs[name] for name in names if inputs.get(name) is not None},
            visual_embeds=visual,
            visual_attention_mask=visual_mask.to(inputs["attention_mask"].dtype),
            return_dict=True,
        ).last_hidden_state  # (P, T + 2 + K, D)
        return self.entity_states(states, inputs, states[:, -1]).flatten(1)  # (P, 2 D)


def _visual_bert(text_config: PreTrainedConfig) -> VisualBertModel:
    if not isinstance(text_config, BertConfig):
        raise ValueError(
            f"visualbert is built around a BERT, whose weights fit VisualBertModel, received a text encoder of type "
            f"{text_config.model_type!r}. Take a BERT, or the baseline 'mkgformer'."
        )
    fields = text_config.to_dict()
    shared = set(VisualBertConfig().to_dict()) - {"model_type", "architectures", "transformers_version", "dtype"}
    config = VisualBertConfig(**{name: value for name, value in fields.items() if name in shared})
    config.visual_embedding_dim = text_config.hidden_size
    model = VisualBertModel(config, add_pooling_layer=False)
    model.embeddings.visual_projection = torch.nn.Identity()  # `VisualBaseline.regions` has projected them
    return model
