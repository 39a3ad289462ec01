"""MKGformer's two streams and its M-Encoder (Chen et al. 2022b, https://arxiv.org/abs/2205.02357).

Shapes: P rows, T tokens, G visual tokens, D hidden size = heads x d_head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from modeling_vmhan.layers import masked_softmax
from vmhan.baselines.base import VisualBaseline
from vmhan.baselines.bert_layers import attend, embed, finish_layer, project, rows_of_pairs, split_heads
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["MEncoder", "MKGformer", "VisualLayer", "correlate", "num_fusion_layers"]


def num_fusion_layers(num_layers: int) -> int:
    """How many of the last layers fuse: a third, as the published 4 (layers 9 to 12 of the public code) of 12."""
    return max(1, num_layers // 3)


def correlate(text: Tensor, visual: Tensor, visual_mask: Tensor) -> Tensor:
    """What each token takes from the visual tokens it is like: softmax(text visual^T) visual, not scaled.

    text (P, T, D), visual (P, G, D), visual_mask (P, G) bool -> (P, T, D).
    """
    return masked_softmax(text @ visual.transpose(1, 2), visual_mask.unsqueeze(1)) @ visual


class VisualLayer(nn.Module):
    """A pre-norm transformer layer, as CLIP's, whose attention may have a prefix of keys and values.

    It has the heads of the text layer whose keys it reads; `dropout` is that of the attention.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, intermediate_size: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.projections = nn.Linear(hidden_size, 3 * hidden_size)  # query, key, value
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        layers = nn.Linear(hidden_size, intermediate_size), nn.GELU(), nn.Linear(intermediate_size, hidden_size)
        self.feed_forward = nn.Sequential(nn.LayerNorm(hidden_size), *layers)

    def forward(self, visual: Tensor, mask: Tensor, prefix: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """visual (P, G, D), mask (P, G) bool with a True in each row -> (P, G, D).

        The prefix, for prefix-guided interaction, is key and value (P, heads, T, d_head) and their mask (P, T) bool.
        """
        projected = self.projections(self.attention_norm(visual)).chunk(3, dim=-1)
        query, key, value = (split_heads(part, self.num_heads) for part in projected)
        if prefix is not None:
            key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
            mask = torch.cat([prefix[2], mask], dim=1)  # (P, T + G)
        mixed = attend(query, key, value, mask, self.dropout if self.training else 0.0)  # (P, G, D)
        visual = visual + self.attention_output(mixed)
        return visual + self.feed_forward(visual)


class MEncoder(nn.Module):
    """A visual stream beside the text encoder, and what joins them in the last layers.

    Prefix-guided interaction: the visual attention also reads the keys and values of the text layer below.
    Correlation-aware fusion: the text layer's feed-forward network is act(x W_1 + b_1 + Agg W_3) W_2 + b_2 with Agg =
    `correlate`, of the attention's mixture before its output layer, as in the public code. All sizes are the text
    encoder's.
    """

    def __init__(self, *, num_layers: int, hidden_size: int, intermediate_size: int, dropout: float = 0.0, **sizes):
        super().__init__()
        sizes |= {"hidden_size": hidden_size, "intermediate_size": intermediate_size, "dropout": dropout}
        self.visual_layers = nn.ModuleList(VisualLayer(**sizes) for _ in range(num_layers))
        self.fusions = nn.ModuleList(  # W_3
            nn.Linear(hidden_size, intermediate_size, bias=False) for _ in range(num_fusion_layers(num_layers))
        )

    @classmethod
    def for_text(cls, text: PreTrainedConfig) -> "MEncoder":
        """Of the sizes of a text encoder of the BERT family."""
        sizes = {"hidden_size": text.hidden_size, "intermediate_size": text.intermediate_size}
        sizes |= {"num_layers": text.num_hidden_layers, "num_heads": text.num_attention_heads}
        return cls(**sizes, dropout=text.attention_probs_dropout_prob)

    def forward(
        self,
        encoder: PreTrainedModel,
        inputs: dict[str, Tensor],
        visual: Tensor,
        visual_mask: Tensor,
        before_fusion: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Both streams, layer by layer: text states (P, T, D) and visual states (P, G, D).

        encoder is of the BERT family, inputs its rows, visual (P, G, D), visual_mask (P, G) bool with a True in each
        row. before_fusion gives the visual states and mask that the layers that fuse go on with.
        """
        text, text_mask = embed(encoder, inputs)
        first = len(self.visual_layers) - len(self.fusions)  # layers before it do not fuse
        prefix = None
        for i, (layer, visual_layer) in enumerate(zip(encoder.encoder.layer, self.visual_layers, strict=True)):
            if i == first and before_fusion is not None:
                visual, visual_mask = before_fusion(visual, visual_mask)
            visual = visual_layer(visual, visual_mask, prefix if i >= first else None)
            query, key, value, dropout = project(layer, text)
            context = attend(query, key, value, text_mask, dropout)  # (P, T, D)
            fusion = None
            if i >= first:
                fusion = self.fusions[i - first](correlate(context, visual, visual_mask))
            text = finish_layer(layer, text, context, fusion)
            prefix = (key, value, text_mask)
        return text, visual


class MKGformer(VisualBaseline):
    """MKGformer: logits = W [h; t] + b over the markers' states of the text stream of `MEncoder`.

    Departures: the visual stream has fresh weights and reads one token a region, made of the features that all
    baselines share, where the published one is CLIP's ViT-B/32 over the patches of crops. A learnt class token, as
    published, is also what a post without an image has. A tail that is an object of the image is one more visual
    token, whose state is t.
    """

    reaches_into_layers = True

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text = config.text_config
        self.visual_kinds = nn.Embedding(4, text.hidden_size)  # class token, image, object, tail
        self.visual_norm = nn.LayerNorm(text.hidden_size)
        self.m_encoder = MEncoder.for_text(text)
        self.add_classifier(2 * text.hidden_size)

    def visual_tokens(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Class token, image, K objects, tail: (P, 3 + K, D), and which are there, (P, 3 + K)."""
        regions, present = self.regions(inputs)  # (P, 2 + K, D)
        tokens = nn.functional.pad(regions, (0, 0, 1, 0))  # the class token is its embedding alone
        kinds = torch.tensor([0, 1, *[2] * (regions.shape[1] - 2), 3], device=tokens.device)
        return self.visual_norm(tokens + self.visual_kinds(kinds)), nn.functional.pad(present, (1, 0), value=True)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        inputs = rows_of_pairs(inputs)
        states, visual = self.m_encoder(self.text_encoder, inputs, *self.visual_tokens(inputs))
        return self.entity_states(states, inputs, visual[:, -1])  # (P, 2 D)
