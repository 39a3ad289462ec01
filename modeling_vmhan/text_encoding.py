"""What the model asks of a text encoder: the packed attention mask, its positions, and states pooled over tokens.

Shapes: S encoder rows, T tokens, P pairs, n text nodes of a pair, L tokens of the longest of them, D encoder size.
"""

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from .windows import ISOLATED


__all__ = [
    "ISOLATED", "PACKED_ENCODERS", "SentenceMemory", "additive_mask", "num_positions", "packed_mask",
    "pool_tokens", "position_offset", "remembering",
]  # fmt: skip

# Encoders with absolute positions that take a 4-D mask and explicit position ids.
PACKED_ENCODERS = ("bert", "roberta", "xlm-roberta")


def packed_mask(attention_mask: Tensor, marker_pair: Tensor) -> Tensor:
    """Which key each query of the packed encoding may read, (S, 1, T, T) bool.

    Sentence tokens see the sentence only; a pair's markers see the sentence and the markers of their own pair;
    isolated image text sees itself only. attention_mask is (S, T), 1 for real tokens; marker_pair (S, T), 0 for
    sentence tokens, 1 + p for the markers of the row's p-th pair, `ISOLATED` for isolated image text.
    """
    key, query = marker_pair[:, None, None], marker_pair[:, None, :, None]
    return (((key == 0) & (query != ISOLATED)) | (key == query)) & attention_mask[:, None, None].bool()  # (S, 1, T, T)


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What transformers adds to attention scores: 0 where `visible`, else the least number of `dtype`."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)


def position_offset(model_type: str, pad_token_id: int) -> int:
    """What the encoder adds to a position: RoBERTa counts from padding_idx + 1, BERT from 0."""
    return 0 if model_type == "bert" else pad_token_id + 1


def num_positions(text_config: Any) -> int | None:
    """Tokens of the longest row that one of `PACKED_ENCODERS` takes; None for other encoders, which are not known."""
    if text_config.model_type not in PACKED_ENCODERS:
        return None
    return text_config.max_position_embeddings - position_offset(text_config.model_type, text_config.pad_token_id)


def pool_tokens(states: Tensor, pair_to_sequence: Tensor, token_index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean encoder state over each text node's tokens: (P, n, D), and present (P, n) bool, False for no token.

    states (S, T, D), pair_to_sequence (P,) row of each pair, token_index (P, n, L), -1 fills up.
    """
    valid = token_index >= 0  # (P, n, L)
    gathered = states[pair_to_sequence.view(-1, 1, 1), token_index.clamp(min=0)]  # (P, n, L, D)
    total = gathered.masked_fill(~valid.unsqueeze(-1), 0).sum(dim=2)  # (P, n, D)
    return total / valid.sum(dim=-1, keepdim=True).clamp(min=1), valid.any(dim=-1)


class SentenceMemory(NamedTuple):
    """What a text encoder of packed rows computed for them before their pairs were known: no sentence token sees a
    marker, so that keys, values and states stay as they are, and only the markers are left to compute.
    """

    cache: DynamicCache
    states: Tensor  # (S, T, D)
    attention_mask: Tensor  # (S, T)
    marker_pair: Tensor  # (S, T), 0 or `ISOLATED`

    def of_rows(self, rows: list[int]) -> "SentenceMemory":
        """The memory of these rows alone. Like what `encode_markers` does, it changes the cache: each once."""
        index = torch.tensor(rows, device=self.states.device)
        self.cache.batch_select_indices(index)
        return SentenceMemory(self.cache, *(each[index] for each in self[1:]))

    def encode_markers(self, encoder: nn.Module, marker_pair: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """States (S, T', D) of the same rows with markers behind each sentence; marker_pair and inputs are (S, T')."""
        is_real = self.attention_mask.bool()
        start, count = is_real.sum(dim=1, keepdim=True), (marker_pair > 0).sum(dim=1, keepdim=True)
        index = start + torch.arange(int(count.max()), device=count.device)  # (S, K)
        is_own = index < start + count
        index = torch.where(is_own, index, 0)
        pair = marker_pair.gather(1, index)
        of_markers = (pair[:, :, None] == pair[:, None]) & is_own[:, None]  # (S, K, K)
        is_sentence = is_real & (self.marker_pair == 0)
        visible = torch.cat([is_sentence[:, None].expand(-1, index.shape[1], -1), of_markers], dim=-1)
        markers = {name: value.gather(1, index) for name, value in inputs.items()}
        markers["attention_mask"] = additive_mask(visible[:, None], encoder.dtype)
        states = encoder(**markers, **remembering(encoder, self.cache), return_dict=True).last_hidden_state
        length = max(marker_pair.shape[1], self.states.shape[1])
        whole = nn.functional.pad(self.states, (0, 0, 0, length + 1 - self.states.shape[1]))
        place = torch.where(is_own, index, length).unsqueeze(-1).expand_as(states)  # the last one is cut off
        return whole.scatter(1, place, states)[:, : marker_pair.shape[1]]


def remembering(encoder: nn.Module, cache: DynamicCache) -> dict[str, DynamicCache]:
    """The keyword argument that makes an encoder put its keys and values behind those of the cache."""
    name = "cache" if "cache" in inspect.signature(encoder.forward).parameters else "past_key_values"
    return {name: cache}
