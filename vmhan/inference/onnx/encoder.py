"""The processor of an exported model without torch and transformers, out of export.json and tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer

from modeling_vmhan.encoder_rows import SpecialTokens
from modeling_vmhan.post_encoding import PostEncoder


__all__ = ["PlainEncoder", "answer_config", "described_config", "described_processor"]

OF_PROCESSOR = (
    "entity_representation", "image_text_visibility", "hypergraph_scope", "order_blind", "mentions", "mention_types",
    "max_length", "max_image_text_length", "num_objects", "num_text_phrases", "num_image_phrases",
    "visual_feature_size", "trained_on", "recipe",
)  # fmt: skip
OF_TOKENIZER = ("pad_token_id", "model_input_names")
OF_CONFIG = (  # what `asking` and `answers` read
    "labels", "none_label", "order_blind", "type_constraints", "functional_relations", "precision_table", "recipe",
    "visual_feature_size", "vision_encoder",
)  # fmt: skip


def described_processor(processor: Any) -> dict[str, Any]:
    """What `PlainEncoder` needs of a `VMHANProcessor`, as JSON has it."""
    tokenizer = {name: getattr(processor.tokenizer, name) for name in OF_TOKENIZER}
    special = SpecialTokens.of(processor.tokenizer)._asdict()
    return {name: getattr(processor, name) for name in OF_PROCESSOR} | {"tokenizer": tokenizer, "special": special}


def described_config(config: Any) -> dict[str, Any]:
    """What `answer_config` needs of a `VMHANConfig`, as JSON has it."""
    return {name: getattr(config, name) for name in OF_CONFIG}


def answer_config(described: Mapping[str, Any]) -> SimpleNamespace:
    """The fields of a `VMHANConfig` that answers depend on."""
    label2id = {label: i for i, label in enumerate(described["labels"])}
    return SimpleNamespace(**described, label2id=label2id)


class PlainEncoder(PostEncoder):
    """Encodes posts into the arrays of the tensors that the `VMHANProcessor` makes that `described` is of.

    tokenizer: path of its tokenizer.json.
    """

    def __init__(self, described: Mapping[str, Any], tokenizer: Path):
        for name in OF_PROCESSOR:
            setattr(self, name, described[name])
        self._special = SpecialTokens(**described["special"])
        self.tokenizer = _PlainTokenizer(tokenizer, **described["tokenizer"])


class _PlainTokenizer:
    """A fast tokenizer as far as `PostEncoder` asks it."""

    def __init__(self, path: Path, *, pad_token_id: int, model_input_names: list[str]):
        self.pad_token_id, self.model_input_names = pad_token_id, model_input_names
        self._backend = Tokenizer.from_file(str(path))
        self._backend.no_padding()
        self._backend.no_truncation()

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool, return_offsets_mapping: bool
    ) -> dict[str, Any]:
        self._backend.encode_special_tokens = split_special_tokens
        encoded = self._backend.encode(text, add_special_tokens=add_special_tokens)
        return {"input_ids": encoded.ids} | ({"offset_mapping": encoded.offsets} if return_offsets_mapping else {})

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self._backend.id_to_token(each) for each in ids]
