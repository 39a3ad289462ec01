"""What both models share: initialisation, loading, and the factory around a pretrained text encoder."""

import os

from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, PreTrainedModel

from .configuration_vmhan import VMHANConfig
from .frozen import STORED_DTYPE
from .layers import initialise
from .regions import PixelTransform
from .weights import referenced_encoder


__all__ = ["VMHANPreTrainedModel", "without_pooler"]


class VMHANPreTrainedModel(PreTrainedModel):
    config_class = VMHANConfig
    base_model_prefix = "vmhan"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over pairs: Trainer must not divide it again
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        initialise(module, std=self.config.initializer_range)

    def post_init(self) -> None:
        """As in transformers, whose `_init_weights` leaves out modules without weights of their own."""
        super().post_init()
        if self.config.safe_start:
            for module in self.modules():
                if hasattr(module, "start_safely"):
                    module.start_safely()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """As in transformers, but a file of weights that is cut off or otherwise damaged is an OSError too, and vision
        weights by reference are found or downloaded (an OSError where they cannot be had or are others).
        """
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            name = str(pretrained_model_name_or_path)
            raise OSError(f"the weights of {name!r} are damaged ({error}): copy model.safetensors again.") from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        if getattr(model.config, "vision_weights", None) is not None:
            model.base_model.vision_encoder = referenced_encoder(model.config).to(model.device)
        return loaded

    @classmethod
    def from_text_encoder(
        cls,
        text_encoder: str | PreTrainedModel,
        config: VMHANConfig | None = None,
        *,
        vocab_size: int | None = None,
        vision: tuple[nn.Module, PixelTransform] | None = None,
        **fields,
    ):
        """A new model around a pretrained text encoder, in evaluation mode; everything else has fresh weights.

        Args:
            text_encoder: name or folder for `AutoModel.from_pretrained`, or a loaded model.
            config: whose `text_config` (and `vision_config`) is replaced by the encoder's own; or give `fields` of
                `VMHANConfig` instead, of which `visual_feature_size` may then be left to the vision encoder.
            vocab_size: resize the token embeddings to it; `len(processor.tokenizer)`, whose markers are new tokens.
            vision: the vision encoder that `config` names and how its pixels are made (`load_region_encoder`).

        Example:
            model = VMHANForRelationClassification.from_text_encoder(
                "bert-base-uncased", id2label={0: "None", 1: "/per/per/peer"}, vocab_size=len(processor.tokenizer)
            )
        """
        if config is not None and fields:
            raise ValueError(f"give config or fields of VMHANConfig, not both; received fields {sorted(fields)}.")
        if isinstance(text_encoder, str):
            text_encoder = AutoModel.from_pretrained(text_encoder)
        given = dict(fields) if config is None else config.to_dict()
        if (vision is None) != (given.get("vision_encoder") is None):
            received = f"vision={vision and type(vision[0])} and vision_encoder={given.get('vision_encoder')!r}"
            raise ValueError(f"vision goes with a vision_encoder, and the other way round, received {received}.")
        if vision is not None:
            encoder, transform = vision
            given.setdefault("visual_feature_size", encoder.feature_size)
            given["image_transform"] = given.get("image_transform") or transform.to_dict()
            given["vision_config"] = encoder.backbone.config if hasattr(encoder, "backbone") else None
        model = cls(VMHANConfig(**{**given, "text_config": text_encoder.config}))
        base = model.base_model
        base.text_encoder = without_pooler(text_encoder).to(model.dtype)
        if vision is not None:
            base.vision_encoder = encoder.to(STORED_DTYPE)
        if vocab_size is not None and vocab_size != text_encoder.config.vocab_size:
            model.resize_token_embeddings(vocab_size)
        return model.eval()

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.text_encoder.set_input_embeddings(value)


def without_pooler(text_encoder: PreTrainedModel) -> PreTrainedModel:
    """No node reads the pooled state; kept, it would be parameters without a gradient."""
    if getattr(text_encoder, "pooler", None) is not None:
        text_encoder.pooler = None
    return text_encoder
