"""What the baselines share: one forward for the Trainer, the text encoder, the pooled mentions, the projected regions.

Shapes in the notation of modeling_vmhan.py: S encoder rows, T tokens, P pairs, K objects a pair, D encoder size,
V visual feature size, R relations, F features of a pair that the classifier reads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from modeling_vmhan.initialisation import initialise
from modeling_vmhan.nodes import project_regions, region_nodes
from modeling_vmhan.text_encoding import pool_tokens
from modeling_vmhan.visual_projection import VisualProjection
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["EncoderBaseline", "BaselineForRelationClassification", "BaselineOutput", "VisualBaseline"]

HEAD, TAIL = 0, 1


@dataclass
class BaselineOutput(ModelOutput):
    """loss and relation_loss: cross-entropy, the mean over pairs, with labels. logits: (P, R)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    relation_loss: Tensor | None = None


class BaselineForRelationClassification(PreTrainedModel):
    """A baseline: `pair_features` of its own, then dropout, a linear classifier and cross-entropy.

    A baseline's `__init__` calls `super().__init__(config)`, makes its layers and ends in `add_classifier(F)`.
    """

    config_class = BaselineConfig
    reads_words = False  # of a `WordConvolutionConfig`'s vocabulary, instead of having a text encoder
    accepts_loss_kwargs = False  # the loss is a mean over pairs: Trainer must not divide it again
    _supports_sdpa = True

    def add_classifier(self, feature_size: int) -> None:
        """The classifier over F = `feature_size`, and the initial weights of all that is not pretrained."""
        self.dropout = nn.Dropout(self.config.classifier_dropout)
        self.classifier = nn.Linear(feature_size, self.config.num_labels)
        self.post_init()

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        """The processor's tensors -> (P, F)."""
        raise NotImplementedError(f"{type(self).__name__} must define pair_features(inputs) -> (P, F).")

    @can_return_tuple
    def forward(self, labels: Tensor | None = None, **inputs: Tensor) -> BaselineOutput:
        """labels: (P,) relation ids; the other inputs are all that `VMHANProcessor` makes."""
        logits = self.classifier(self.dropout(self.pair_features(inputs)))  # (P, R)
        if labels is None:
            return BaselineOutput(logits=logits)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        return BaselineOutput(loss=loss, logits=logits, relation_loss=loss.detach())

    def _init_weights(self, module: nn.Module) -> None:
        initialise(module, std=self.config.initializer_range)


class EncoderBaseline(BaselineForRelationClassification):
    """A baseline around a pretrained text encoder, which is `self.text_encoder` (the Trainer's lower learning rate)."""

    supports_gradient_checkpointing = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text_encoder = AutoModel.from_config(config.text_config, dtype=torch.get_default_dtype())
        self.text_encoder = _without_pooler(text_encoder)

    def use_text_encoder(self, text_encoder: PreTrainedModel) -> None:
        """Take over pretrained weights; a baseline that has changed its encoder overrides this."""
        self.text_encoder = _without_pooler(text_encoder).to(self.dtype)

    def encode_text(self, inputs: dict[str, Tensor]) -> Tensor:
        """States (S, T, D) of the processor's rows."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        given = {name: inputs[name] for name in names if inputs.get(name) is not None}
        return self.text_encoder(**given, return_dict=True).last_hidden_state

    def entity_states(self, states: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Head and tail (P, 2, D): the opening marker's state (`marker`) or the mention's mean state (`span`)."""
        return pool_tokens(states, inputs["pair_to_sequence"], inputs["entity_tokens"])[0]

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)


class VisualBaseline(EncoderBaseline):
    """A baseline that reads features of the image and its objects, too.

    They go through `VisualProjection`, the normalised projection of VM-HAN, so that no baseline loses for the scale of
    its visual features alone.

    Raises:
        ValueError: there are no visual features.
    """

    def __init__(self, config: BaselineConfig):
        if not config.visual_feature_size:
            raise ValueError(
                f"the baseline {config.baseline!r} reads visual features, received visual_feature_size=0: give posts with "
                "image_features, or take a baseline of words alone ('mtb', 'pcnn')."
            )
        super().__init__(config)
        self.visual_projection = VisualProjection(
            feature_size=config.visual_feature_size, hidden_size=config.text_config.hidden_size
        )

    def regions(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Image and objects (P, 1 + K, D), their presence (P, 1 + K), and the tail's region (P, D)."""
        given = (inputs[name] for name in ("image_features", "image_mask", "object_features", "object_mask"))
        projected, example = project_regions(self.visual_projection, *given), inputs["pair_to_example"]
        nodes = region_nodes(projected, inputs["image_mask"], example, inputs["pair_objects"])
        return nodes.features, nodes.present, projected[example, inputs["tail_object"] + 1]

    def entity_states(self, states: Tensor, inputs: dict[str, Tensor], tail_region: Tensor | None = None) -> Tensor:
        """Head and tail (P, 2, D); a tail that is an object of the image is its region (`tail_region` (P, D))."""
        entities = super().entity_states(states, inputs)
        if tail_region is None:
            return entities
        is_object = (inputs["tail_object"] >= 0).unsqueeze(-1)  # (P, 1)
        tail = torch.where(is_object, tail_region.to(entities.dtype), entities[:, TAIL])
        return torch.stack([entities[:, HEAD], tail], dim=1)


def _without_pooler(text_encoder: PreTrainedModel) -> PreTrainedModel:
    """No baseline reads the pooled state; kept, it would be parameters without a gradient."""
    if getattr(text_encoder, "pooler", None) is not None:
        text_encoder.pooler = None
    return text_encoder
