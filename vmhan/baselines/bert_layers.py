"""The layers of a pretrained BERT, run one step at a time, so that a baseline can reach into them.

transformers' BertModel takes no prefix of keys and values as an encoder. These functions run its own sub-modules with
its own weights; without a prefix and without fusion they give what the model gives (tested).

Shapes: P rows, T tokens, n prefix positions, D hidden size = heads x d_head.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modeling_vmhan.text_encoding import PACKED_ENCODERS


__all__ = ["attend", "check_bert_family", "embed", "finish_layer", "project", "rows_of_pairs", "split_heads"]


def check_bert_family(model_type: str, baseline: str) -> None:
    """ValueError unless encoders of `model_type` have BERT's layers (those that take the packed encoding have)."""
    if model_type not in PACKED_ENCODERS:
        raise ValueError(
            f"{baseline} reaches into the layers of its text encoder, which must be of {list(PACKED_ENCODERS)}, received "
            f"{model_type!r}. Use such an encoder, or a baseline that takes any."
        )


def rows_of_pairs(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The processor's tensors with the encoder rows in the order of the pairs, one a pair (`marker`)."""
    order = inputs["pair_to_sequence"]
    names = ("input_ids", "attention_mask", "token_type_ids")
    rows = {name: inputs[name][order] for name in names if inputs.get(name) is not None}
    return {**inputs, **rows, "pair_to_sequence": torch.arange(len(order), device=order.device)}


def embed(encoder: PreTrainedModel, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
    """Input embeddings (P, T, D) of ids (P, T)."""
    return encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)


def split_heads(states: Tensor, num_heads: int) -> Tensor:
    """(P, T, D) -> (P, heads, T, d_head)."""
    return states.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def project(layer: nn.Module, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of a BERT layer, each (P, heads, T, d_head)."""
    attention = layer.attention.self
    heads = attention.num_attention_heads
    return tuple(split_heads(linear(states), heads) for linear in (attention.query, attention.key, attention.value))


def attend(layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(d_head)) value over the keys where `key_mask` (P, keys) is True -> (P, T, D)."""
    dropout = layer.attention.self.dropout
    mixed = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=key_mask[:, None, None], dropout_p=dropout.p if dropout.training else 0.0
    )
    return mixed.transpose(1, 2).flatten(2)  # (P, T, D)


def finish_layer(layer: nn.Module, states: Tensor, context: Tensor, fusion: Tensor | None = None) -> Tensor:
    """What follows a BERT layer's attention: its output, residuals, norms and feed-forward network.

    Args:
        states: (P, T, D), the layer's input. context: (P, T, D), `attend`'s. fusion: (P, T, intermediate size), added
            before the activation of the feed-forward network.
    """
    attended = layer.attention.output(context, states)  # (P, T, D)
    inner = layer.intermediate.dense(attended)  # (P, T, intermediate size)
    if fusion is not None:
        inner = inner + fusion
    return layer.output(layer.intermediate.intermediate_act_fn(inner), attended)
