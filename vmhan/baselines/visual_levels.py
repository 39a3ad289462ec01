"""HVFormer's mixture of visual levels (Liu et al. 2024, "Multimodal Relation Extraction via a Mixture of Hierarchical
Visual Context Learners", WWW, https://doi.org/10.1145/3589334.3645603; code https://github.com/liuxiyang641/HVFormer).

Shapes: P pairs, n words of a pair, G region positions, C_l channels of level l, L levels, D hidden size.
"""

import torch
from torch import Tensor, nn

from vmhan.baselines.bert_layers import attend, split_heads
from vmhan.baselines.configuration import BaselineConfig
from vmhan.baselines.pyramid import POSITIONS, STAGES, PyramidBaseline


__all__ = ["HVFormer", "LevelAttention", "LevelMixture"]


class LevelAttention(nn.Module):
    """What each word takes from one level: LayerNorm(W_o MultiHead(W_q words, W_k level, W_v level))."""

    def __init__(self, *, level_size: int, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(level_size, hidden_size, bias=False)  # it would add the same to all scores of a query
        self.value = nn.Linear(level_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, words: Tensor, level: Tensor, mask: Tensor) -> Tensor:
        """words (P, n, D), level (P, G, C_l), mask (P, G) bool with a True in each row -> (P, n, D)."""
        parts = self.query(words), self.key(level), self.value(level)
        query, key, value = (split_heads(part, self.num_heads) for part in parts)
        return self.norm(self.output(attend(query, key, value, mask, self.dropout if self.training else 0.0)))


class LevelMixture(nn.Module):
    """The mixture of experts: the words as they are, and an expert for each level.

    g = softmax(W_g [words; seen_1; ...; seen_L] + b_g)
    output = g_0 words + sum_l g_l (words + W_2,l gelu(W_1,l [words; seen_l] + b_1,l) + b_2,l)
    """

    def __init__(self, *, num_levels: int, hidden_size: int):
        super().__init__()
        self.router = nn.Linear((1 + num_levels) * hidden_size, 1 + num_levels)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))
            for _ in range(num_levels)
        )

    def forward(self, words: Tensor, seen: list[Tensor]) -> Tensor:
        """words and, of each level, what they saw of it, all (P, n, D) -> (P, n, D)."""
        weights = self.router(torch.cat([words, *seen], dim=-1)).softmax(dim=-1)  # (P, n, 1 + L)
        of_experts = [words + expert(torch.cat([words, s], dim=-1)) for expert, s in zip(self.experts, seen)]
        return (torch.stack([words, *of_experts], dim=-1) @ weights.unsqueeze(-1)).squeeze(-1)


class HVFormer(PyramidBaseline):
    """HVFormer: logits = W [h; t] + b of the markers' states, after `LevelAttention` to each level and `LevelMixture`.

    Departures, beside those of `PyramidBaseline`: the levels are the four stages of the ResNet, each with an attention
    and an expert, where the public code has 13 attentions to the states of CLIP's ViT-B/32 and experts for its
    embeddings, its middle and its last layer. Both networks are frozen (the public code detaches the states). Its
    patches of crops are here the 2 x 2 positions of each region. A missing object is masked; a post without any region
    sees zeros. A tail that is an object of the image is its mean value of the last level.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        text = config.text_config
        sizes = {"num_heads": text.num_attention_heads, "dropout": config.classifier_dropout}
        self.level_sizes = [self.pyramid.feature_size * 2**i // (2**STAGES - 1) for i in range(STAGES)]
        self.attentions = nn.ModuleList(
            LevelAttention(level_size=size, hidden_size=text.hidden_size, **sizes) for size in self.level_sizes
        )
        self.mixture = LevelMixture(num_levels=STAGES, hidden_size=text.hidden_size)
        self.add_classifier(2 * text.hidden_size)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        pyramids, of_pair, present = self.region_pyramids(inputs)
        regions = self.normalised(pyramids)[of_pair]  # (P, 2 + K, 4, C)
        mask = (present | ~present.any(dim=1, keepdim=True)).repeat_interleave(POSITIONS, dim=1)  # (P, G)
        levels = regions.flatten(1, 2).split(self.level_sizes, dim=-1)
        tail = self.attentions[-1].value(levels[-1][:, -POSITIONS:]).mean(dim=1)  # (P, D)
        words = self.entity_states(self.encode_text(inputs), inputs, tail).unflatten(-1, (2, -1))  # (P, 2, D)
        seen = [attention(words, level, mask) for attention, level in zip(self.attentions, levels)]
        return self.mixture(words, seen).flatten(1)  # (P, 2 D)
