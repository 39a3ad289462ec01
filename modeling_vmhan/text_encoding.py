"""What the model asks of a text encoder: the packed attention mask, its positions, and states pooled over tokens.

Shapes: S encoder rows, T tokens, P pairs, n text nodes of a pair, L tokens of the longest of them, D encoder size.
"""

from typing import Any

import torch
from torch import Tensor


__all__ = ["PACKED_ENCODERS", "additive_mask", "num_positions", "packed_mask", "pool_tokens", "position_offset"]

# Encoders with absolute positions that take a 4-D mask and explicit position ids.
PACKED_ENCODERS = ("bert", "roberta", "xlm-roberta")


def packed_mask(attention_mask: Tensor, marker_pair: Tensor) -> Tensor:
    """Which key each query of the packed encoding may read, (S, 1, T, T) bool.

    Sentence tokens see the sentence only; a pair's markers see the sentence and the markers of their own pair.
    attention_mask is (S, T), 1 for real tokens; marker_pair (S, T), 0 for sentence tokens, 1 + p for the markers of
    the row's p-th pair.
    """
    key, query = marker_pair[:, None, None], marker_pair[:, None, :, None]
    return ((key == 0) | (key == query)) & attention_mask[:, None, None].bool()  # (S, 1, T, T)


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
