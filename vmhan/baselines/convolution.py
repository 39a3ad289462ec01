"""CNN and PCNN: convolutions over words and their distances to the two mentions.

Shapes: S rows, T words, P pairs, d_w word embedding, d_p position embedding, n_1 filters, n_2 second layer.
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from vmhan.baselines.base import BaselineForRelationClassification
from vmhan.baselines.configuration import BaselineConfig


__all__ = ["PiecewiseWordConvolution", "WordConvolution", "masked_max", "segments"]


class WordConvolution(BaselineForRelationClassification):
    """CNN (Zeng et al. 2014, sections 3.2 to 3.5, https://aclanthology.org/C14-1220).

        x_t = [word embedding; position embedding of t - head; position embedding of t - tail]
        Z_t = W_1 [x_t-1; x_t; x_t+1] + b_1;  m = max_t Z_t;  g = tanh(W_2 m + b_2);  logits = W_3 g + b_3

    Departures: the lexical features (section 3.4), which need WordNet, are left out. Distances count from a mention's
    first word, and dropout stands before W_3.
    """

    reads_words = True
    is_piecewise = False

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        shape = config.text_config
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.word_embedding_size)
        distances = 2 * shape.max_relative_distance + 1
        self.head_distance = nn.Embedding(distances, shape.position_embedding_size)
        self.tail_distance = nn.Embedding(distances, shape.position_embedding_size)
        width = shape.word_embedding_size + 2 * shape.position_embedding_size
        self.convolution = nn.Conv1d(width, shape.num_filters, shape.window_size, padding=shape.window_size // 2)
        self.second = None if self.is_piecewise else nn.Linear(shape.num_filters, shape.hidden_size)
        self.add_classifier(3 * shape.num_filters if self.is_piecewise else shape.hidden_size)

    def use_word_vectors(self, vectors: dict[int, Tensor]) -> None:
        """Pretrained vectors (d_w,) by token id; the other words keep theirs."""
        with torch.no_grad():
            self.word_embeddings.weight[list(vectors)] = torch.stack(list(vectors.values()))

    def convolve(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Z (P, T, n_1); mask (P, T) bool; last word of each mention (P, 2)."""
        rows, entities = inputs["pair_to_sequence"], inputs["entity_tokens"]
        mask = inputs["attention_mask"].bool()[rows]  # (P, T)
        limit, length = self.config.text_config.max_relative_distance, mask.shape[1]
        first = entities.masked_fill(entities < 0, length).amin(dim=-1)  # (P, 2)
        distance = torch.arange(length, device=mask.device) - first.unsqueeze(-1)  # (P, 2, T)
        distance = distance.clamp(-limit, limit) + limit
        words = self.word_embeddings(inputs["input_ids"])[rows]  # (P, T, d_w)
        places = (self.head_distance(distance[:, 0]), self.tail_distance(distance[:, 1]))
        x = torch.cat([words, *places], dim=-1).masked_fill(~mask.unsqueeze(-1), 0)  # (P, T, d_w + 2 d_p)
        return self.convolution(x.transpose(1, 2)).transpose(1, 2), mask, entities.amax(dim=-1)

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        filtered, mask, _ = self.convolve(inputs)
        return torch.tanh(self.second(masked_max(filtered, mask)))  # (P, n_2)

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.word_embeddings = value

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Embeddings with the spread of pretrained vectors, Xavier's weights; the classifier as in all baselines."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.1)
        elif isinstance(module, nn.Conv1d) or module is self.second:
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


class PiecewiseWordConvolution(WordConvolution):
    """PCNN (Zeng et al. 2015, section 3, https://aclanthology.org/D15-1203), without its multi-instance learning.

    Z as in CNN; m = [max Z over segment 1; 2; 3] (`segments`); logits = W_3 dropout(tanh(m)) + b_3.
    """

    is_piecewise = True

    def pair_features(self, inputs: dict[str, Tensor]) -> Tensor:
        filtered, mask, ends = self.convolve(inputs)
        piece = segments(ends, mask.shape[1])
        pooled = [masked_max(filtered, mask & (piece == number)) for number in range(3)]
        return torch.tanh(torch.cat(pooled, dim=-1))  # (P, 3 n_1)


def segments(ends: Tensor, length: int) -> Tensor:
    """(P, T): 0 up to the end of the mention that ends first, 1 up to the end of the other, 2 after it.

    ends are (P, 2) indices of each mention's last word, length is T.
    """
    position = torch.arange(length, device=ends.device)
    return (position > ends.amin(dim=-1, keepdim=True)).long() + (position > ends.amax(dim=-1, keepdim=True))


def masked_max(states: Tensor, mask: Tensor) -> Tensor:
    """Maximum over the words where `mask` (P, T) is True, of states (P, T, n) -> (P, n); 0 where there is none."""
    highest = states.masked_fill(~mask.unsqueeze(-1), torch.finfo(states.dtype).min).amax(dim=1)
    return highest.masked_fill(~mask.any(dim=1, keepdim=True), 0)
