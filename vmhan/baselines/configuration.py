"""Configurations of the baselines: what is common to all, and the shape of those that read words."""

import math
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from modeling_vmhan.configuration_vmhan import ENTITY_REPRESENTATIONS, _as_config, _complete_labels, _reject_unknown
from modeling_vmhan.labels import check_choice, check_number, find_none_label


__all__ = ["BaselineConfig", "WordConvolutionConfig"]

COUNTS = ("visual_feature_size", "depth_size", "num_objects", "num_text_phrases", "num_image_phrases")
POSITIVE = {"low": 0, "low_allowed": False}
NUMBERS = {
    **dict.fromkeys(COUNTS, {"whole": True, "low": 0}),
    "calibration_temperature": POSITIVE,
    "none_bias": {"low": -math.inf, "low_allowed": False},
    "initializer_range": POSITIVE,
    "classifier_dropout": {"low": 0, "below": 1},
}


class WordConvolutionConfig(PreTrainedConfig):
    """Shape of CNN and PCNN, which read words; ValueError for a wrong field or an unknown keyword."""

    model_type = "vmhan_word_convolution"

    def __init__(
        self,
        vocab_size: int = 2,
        word_embedding_size: int = 50,  # d_w (published: 50)
        position_embedding_size: int = 5,  # d_p of each of the two relative positions (published: 5)
        max_relative_distance: int = 60,  # in words, where distances to a mention are cut off; no limit is published
        num_filters: int = 230,  # n_1 (published: 200 for CNN, 230 for PCNN)
        window_size: int = 3,  # words under a filter, odd (published: 3)
        hidden_size: int = 100,  # n_2 of CNN's second layer (published: 100); PCNN has none
        **kwargs: Any,
    ):
        sizes = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        _reject_unknown(kwargs, type(self))
        super().__init__(**kwargs)
        for name, value in sizes.items():
            setattr(self, name, check_number(name, value, whole=True, low=1))
        if self.window_size % 2 == 0:
            raise ValueError(f"window_size must be odd, so that a word stands in its middle, received {window_size}.")


class BaselineConfig(PreTrainedConfig):
    """Configuration of one baseline; a field that `VMHANConfig` has, too, means the same.

    ValueError for a wrong field or an unknown keyword; **kwargs are those of PreTrainedConfig (`id2label`, ...).
    """

    model_type = "vmhan_baseline"
    sub_configs = {"text_config": AutoConfig}
    keys_to_ignore_at_inference = ["relation_loss"]
    vision_encoder = None  # features are given; the processor asks
    mentions, mention_types, recipe = False, (), None  # it asks about these, too
    image_text_visibility, hypergraph_scope = "joint", "pair"

    def __init__(
        self,
        baseline: str = "mtb",  # its name in `vmhan.baselines.BASELINES`
        text_config: PreTrainedConfig | dict | None = None,  # of the text encoder, or a `WordConvolutionConfig`
        entity_representation: str = "marker",  # `BASELINES` says which one a baseline takes
        order_blind: bool = False,
        visual_feature_size: int = 0,  # V; 0 for a baseline of words alone
        depth_size: int = 0,  # values of an object's depth map, which moreformer reads; 0 without depth
        num_objects: int = 0,  # K, M and Q are 0 where the baseline reads none
        num_text_phrases: int = 0,
        num_image_phrases: int = 0,
        pyramid: str = "resnet50",  # the ResNet of those that read pixels, or "resnet18"
        classifier_dropout: float = 0.1,
        calibration_temperature: float = 1.0,
        none_bias: float = 0.0,
        none_label: str | None = None,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        fields = {name: value for name, value in locals().items() if name not in ("self", "kwargs", "__class__")}
        _reject_unknown(kwargs, type(self))
        check_choice("entity_representation", entity_representation, ENTITY_REPRESENTATIONS)
        check_choice("order_blind", order_blind, (True, False))
        fields |= {name: check_number(name, fields[name], **rule) for name, rule in NUMBERS.items()}
        fields["text_config"] = _as_config("text_config", {} if text_config is None else text_config)
        for name, value in fields.items():
            setattr(self, name, value)
        super().__init__(**_complete_labels(kwargs, none_label))
        self.none_label = find_none_label(self.id2label.values(), none_label)

    @property
    def labels(self) -> list[str]:
        """Relation names in the order of their ids."""
        return [self.id2label[i] for i in range(len(self.id2label))]

    @property
    def without(self) -> str | None:
        """What of the published system's inputs the data did not have."""
        return "depth" if self.baseline == "moreformer" and not self.depth_size else None


for config_class in (WordConvolutionConfig, BaselineConfig):
    AutoConfig.register(config_class.model_type, config_class)
