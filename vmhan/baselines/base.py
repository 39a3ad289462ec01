"""What the baselines share: one forward for the Trainer, the text encoder, the pooled mentions, the projected regions.

Shapes in the notation of modeling_vmhan.py: S encoder rows, T tokens, P pairs, K objects a pair, D encoder size,
V visual feature size, R relations, F features of a pair that the classifier reads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple

from modeling_vmhan.layers import initialise
from modeling_vmhan.nodes import VisualProjection, project_regions, region_nodes
from modeling_vmhan.text_encoding import PACKED_ENCODERS, pool_tokens
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["BaselineForRelationClassification", "BaselineOutput", "EncoderBaseline", "VisualBaseline", "text_inputs"]


@dataclass
class BaselineOutput(ModelOutput):
    """loss and relation_loss: cross-entropy, the mean over pairs, with labels. logits: (P, R)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    relation_loss: Tensor | None = None


class BaselineForRelationClassification(PreTrainedModel):
    """A baseline: `pair_features(inputs)` of its own, (P, F), then dropout, a linear classifier and cross-entropy.

    Its `__init__` calls `super().__init__(config)`, makes its layers and ends in `add_classifier(F)`.
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
    """A baseline around a pretrained text encoder, `self.text_encoder`, which has the lower learning rate.

    ValueError if it reads images and visual_feature_size is 0, or if it reaches into the layers of a text encoder that
    is not of the BERT family.
    """

    supports_gradient_checkpointing = True
    reads_images = False
    reaches_into_layers = False

    def __init__(self, config: BaselineConfig):
        model_type = config.text_config.model_type
        if self.reads_images and not config.visual_feature_size:
            raise ValueError(
                f"the baseline {config.baseline!r} reads images, received visual_feature_size=0: give posts with "
                "images or their features, or take a baseline of words alone ('mtb', 'pcnn')."
            )
        if self.reaches_into_layers and model_type not in PACKED_ENCODERS:
            raise ValueError(
                f"the baseline {config.baseline!r} reaches into the layers of its text encoder, which must be of "
                f"{list(PACKED_ENCODERS)}, received {model_type!r}."
            )
        super().__init__(config)
        self.text_encoder = AutoModel.from_config(config.text_config, dtype=torch.get_default_dtype())
        EncoderBaseline.use_text_encoder(self, self.text_encoder)

    def use_text_encoder(self, text_encoder: PreTrainedModel) -> None:
        """Take over an encoder without its pooler, which no baseline reads and which would have no gradient."""
        if getattr(text_encoder, "pooler", None) is not None:
            text_encoder.pooler = None
        self.text_encoder = text_encoder.to(self.dtype)

    def encode_text(self, inputs: dict[str, Tensor]) -> Tensor:
        """States (S, T, D) of the processor's rows."""
        return self.text_encoder(**text_inputs(inputs), return_dict=True).last_hidden_state

    def entity_states(self, states: Tensor, inputs: dict[str, Tensor], tail_region: Tensor | None = None) -> Tensor:
        """Head and tail, one after the other, (P, 2 D): a mention's opening marker (`marker`) or mean state (`span`).

        A tail that is an object of the image is its region, `tail_region` (P, D).
        """
        head, tail = pool_tokens(states, inputs["pair_to_sequence"], inputs["entity_tokens"])[0].unbind(dim=1)
        if tail_region is not None:
            tail = torch.where(inputs["tail_object"].unsqueeze(-1) >= 0, tail_region.to(tail.dtype), tail)
        return torch.cat([head, tail], dim=-1)

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)


class VisualBaseline(EncoderBaseline):
    """A baseline that also reads features of the image and its objects, through VM-HAN's normalised projection."""

    reads_images = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        sizes = {"feature_size": config.visual_feature_size, "hidden_size": config.text_config.hidden_size}
        self.visual_projection = VisualProjection(**sizes)

    def regions(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Image, K objects, and the tail where it is an object: (P, 1 + K + 1, D), and which of them are there."""
        given = (inputs[name] for name in ("image_features", "image_mask", "object_features", "object_mask"))
        projected, example = project_regions(self.visual_projection, *given), inputs["pair_to_example"]
        nodes = region_nodes(projected, inputs["image_mask"], example, inputs["pair_objects"])
        tail = projected[example, inputs["tail_object"] + 1].unsqueeze(1)  # (P, 1, D)
        is_object = inputs["tail_object"].unsqueeze(1) >= 0  # (P, 1)
        return torch.cat([nodes.features, tail], dim=1), torch.cat([nodes.present, is_object], dim=1)


def text_inputs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a text encoder takes of the processor's tensors."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: inputs[name] for name in names if inputs.get(name) is not None}
