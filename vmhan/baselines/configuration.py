"""Configurations of the baselines: what is common to all, and the shape of those that read words."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from modeling_vmhan.configuration_vmhan import (
    ENTITY_REPRESENTATIONS,
    _as_config,
    _check_choice,
    _check_number,
    _complete_labels,
    _reject_unknown,
)
from modeling_vmhan.labels import find_none_label


__all__ = ["BaselineConfig", "WordConvolutionConfig"]


class WordConvolutionConfig(PreTrainedConfig):
    """Shape of CNN and PCNN, which read words.

    Args:
        vocab_size: words.
        word_embedding_size: d_w (published: 50).
        position_embedding_size: d_p of each of the two relative positions (published: 5).
        max_relative_distance: distances to a mention, in words, are cut off there; the papers print no limit.
        num_filters: n_1 (published: 200 for CNN, 230 for PCNN).
        window_size: w, words under a filter, odd (published: 3).
        hidden_size: n_2 of CNN's second layer (published: 100); PCNN has none.

    Raises:
        ValueError: a field breaks its rule, or a keyword is unknown.
    """

    model_type = "vmhan_word_convolution"

    def __init__(
        self,
        vocab_size: int = 2,
        word_embedding_size: int = 50,
        position_embedding_size: int = 5,
        max_relative_distance: int = 60,
        num_filters: int = 230,
        window_size: int = 3,
        hidden_size: int = 100,
        **kwargs,
    ):
        _reject_unknown(kwargs, type(self))
        self.vocab_size = vocab_size
        self.word_embedding_size = word_embedding_size
        self.position_embedding_size = position_embedding_size
        self.max_relative_distance = max_relative_distance
        self.num_filters = num_filters
        self.window_size = window_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)
        sizes = ("word_embedding_size", "position_embedding_size", "max_relative_distance", "num_filters")
        for name in ("vocab_size", *sizes, "window_size", "hidden_size"):
            setattr(self, name, _check_number(name, getattr(self, name), whole=True, low=1))
        if window_size % 2 == 0:
            raise ValueError(f"window_size must be odd, so that a word stands in its middle, received {window_size}.")


AutoConfig.register(WordConvolutionConfig.model_type, WordConvolutionConfig)


class BaselineConfig(PreTrainedConfig):
    """Configuration of one baseline. Where `VMHANConfig` has the same field, it means the same.

    Args:
        baseline: its name in `baselines.BASELINES`.
        text_config: of the text encoder, or a `WordConvolutionConfig`; or the dict of either.
        entity_representation: what the processor makes, "marker", "span" or "packed"; `BASELINES` says which one a baseline
            takes.
        visual_feature_size: V; 0 for a baseline of words alone.
        num_objects: K. num_text_phrases: M. num_image_phrases: Q; 0 where the baseline reads none.
        pyramid: hvpnet's ResNet, "resnet50" (published) or "resnet18".
        classifier_dropout: before the classifier.
        calibration_temperature, none_label, initializer_range: as in `VMHANConfig`.
        **kwargs: what every PreTrainedConfig takes (`id2label`, `label2id`, `num_labels`, ...).

    Raises:
        ValueError: a field breaks its rule, or a keyword is unknown.
    """

    model_type = "vmhan_baseline"
    sub_configs = {"text_config": AutoConfig}
    keys_to_ignore_at_inference = ["relation_loss"]
    vision_encoder = None  # features are given; the processor asks

    def __init__(
        self,
        baseline: str = "mtb",
        text_config: PreTrainedConfig | dict | None = None,
        entity_representation: str = "marker",
        visual_feature_size: int = 0,
        num_objects: int = 0,
        num_text_phrases: int = 0,
        num_image_phrases: int = 0,
        pyramid: str = "resnet50",
        classifier_dropout: float = 0.1,
        calibration_temperature: float = 1.0,
        none_label: str | None = None,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        _reject_unknown(kwargs, type(self))
        self.baseline = baseline
        self.text_config = _as_config("text_config", {} if text_config is None else text_config)
        self.entity_representation = entity_representation
        self.visual_feature_size = visual_feature_size
        self.num_objects = num_objects
        self.num_text_phrases = num_text_phrases
        self.num_image_phrases = num_image_phrases
        self.pyramid = pyramid
        self.classifier_dropout = classifier_dropout
        self.calibration_temperature = calibration_temperature
        self.initializer_range = initializer_range
        super().__init__(**_complete_labels(kwargs, none_label))
        self.none_label = find_none_label(self.id2label.values(), none_label)
        _check_choice("entity_representation", entity_representation, ENTITY_REPRESENTATIONS)
        for name in ("visual_feature_size", "num_objects", "num_text_phrases", "num_image_phrases"):
            setattr(self, name, _check_number(name, getattr(self, name), whole=True, low=0))
        for name in ("calibration_temperature", "initializer_range"):
            setattr(self, name, _check_number(name, getattr(self, name), low=0, low_allowed=False))
        self.classifier_dropout = _check_number("classifier_dropout", classifier_dropout, low=0, below=1)

    @property
    def labels(self) -> list[str]:
        """Relation names in the order of their ids."""
        return [self.id2label[i] for i in range(len(self.id2label))]


AutoConfig.register(BaselineConfig.model_type, BaselineConfig)
