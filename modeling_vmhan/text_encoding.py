"""What the model asks of a text encoder: the packed attention mask, its positions, and states pooled over tokens.

Shapes: S encoder rows, T tokens, P pairs, n text nodes of a pair, L tokens of the longest of them, D encoder size.
"""

from typing import Any

import torch
from torch import Tensor


__all__ = [
    "PACKED_ENCODERS",
    "num_positions",
    "packed_attention_mask",
    "padding_attention_mask",
    "pool_tokens",
    "position_offset",
    "takes_4d_mask",
]

# Encoders with absolute positions that take a 4-D mask and explicit position ids.
PACKED_ENCODERS = ("bert", "roberta", "xlm-roberta")


def packed_attention_mask(attention_mask: Tensor, marker_pair: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive 4-D mask of the packed encoding, (S, 1, T, T): 0 where query i may read key j, else the least number.

    Sentence tokens see the sentence only; a pair's markers see the sentence and the markers of their own pair.

    Args:
        attention_mask: (S, T), 1 for real tokens. marker_pair: (S, T), 0 for sentence tokens, 1 + p for the markers
            of the row's p-th pair. dtype: of the encoder.
    """
    key, query = marker_pair.unsqueeze(1), marker_pair.unsqueeze(2)
    visible = ((key == 0) | (key == query)) & attention_mask.unsqueeze(1).bool()  # (S, T, T)
    return _additive(visible.unsqueeze(1), dtype)


def padding_attention_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive 4-D mask that hides the padding, (S, T) -> (S, 1, 1, T).

    transformers makes the same, but first asks whether any token is padding: the host then waits for the device.
    """
    return _additive(attention_mask[:, None, None].bool(), dtype)


def takes_4d_mask(model_type: str, attention: str) -> bool:
    """Whether the encoder, with this attention implementation, takes an additive 4-D mask as it is."""
    return model_type in PACKED_ENCODERS and attention in ("eager", "sdpa")


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
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
    """Mean encoder state over each text node's tokens: (P, n, D), zeros for absent nodes, and present (P, n) bool.

    states (S, T, D), pair_to_sequence (P,) row of each pair, token_index (P, n, L), -1 fills up; a node with no token
    is absent.
    """
    valid = token_index >= 0  # (P, n, L)
    gathered = states[pair_to_sequence.view(-1, 1, 1), token_index.clamp(min=0)]  # (P, n, L, D)
    total = gathered.masked_fill(~valid.unsqueeze(-1), 0).sum(dim=2)  # (P, n, D)
    return total / valid.sum(dim=-1, keepdim=True).clamp(min=1), valid.any(dim=-1)
