"""The layers of a pretrained BERT, run one step at a time, so that a baseline can reach into them.

Without a prefix and without fusion they give what transformers' BertModel gives.
Shapes: P rows, T tokens, n prefix positions, D hidden size = heads x d_head.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vmhan.baselines.base import text_inputs


__all__ = ["attend", "embed", "finish_layer", "project", "rows_of_pairs", "split_heads"]


def rows_of_pairs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The processor's tensors with the encoder rows in the order of the pairs, one a pair (`marker`)."""
    order = inputs["pair_to_sequence"]
    rows = {name: tensor[order] for name, tensor in text_inputs(inputs).items()}
    return {**inputs, **rows, "pair_to_sequence": torch.arange(len(order), device=order.device)}


def embed(encoder: PreTrainedModel, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Input embeddings (P, T, D) of the processor's rows, and which tokens are there (P, T) bool."""
    embedded = encoder.embeddings(input_ids=inputs["input_ids"], token_type_ids=inputs.get("token_type_ids"))
    return embedded, inputs["attention_mask"].bool()


def split_heads(states: Tensor, num_heads: int) -> Tensor:
    """(P, T, D) -> (P, heads, T, d_head)."""
    return states.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def project(layer: nn.Module, states: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Query, key and value of a BERT layer, each (P, heads, T, d_head), and the dropout of its attention."""
    attention = layer.attention.self
    heads, linears = attention.num_attention_heads, (attention.query, attention.key, attention.value)
    dropout = attention.dropout.p if attention.dropout.training else 0.0
    return *(split_heads(linear(states), heads) for linear in linears), dropout


def attend(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(query key^T / sqrt(d_head)) value over the keys where `key_mask` (P, keys) is True -> (P, T, D)."""
    mixed = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=key_mask[:, None, None], dropout_p=dropout
    )
    return mixed.transpose(1, 2).flatten(2)  # (P, T, D)


def finish_layer(layer: nn.Module, states: Tensor, context: Tensor, fusion: Tensor | None = None) -> Tensor:
    """What follows a BERT layer's attention: its output, residuals, norms and feed-forward network.

    states are the layer's input and context is `attend`'s, both (P, T, D); fusion (P, T, intermediate size) is added
    before the activation of the feed-forward network.
    """
    attended = layer.attention.output(context, states)  # (P, T, D)
    inner = layer.intermediate.dense(attended)  # (P, T, intermediate size)
    inner = inner if fusion is None else inner + fusion
    return layer.output(layer.intermediate.intermediate_act_fn(inner), attended)
