"""Words for CNN and PCNN: the vocabulary, its tokenizer, and pretrained vectors out of a text file."""

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from modeling_vmhan.windows import MARKERS


__all__ = ["count_words", "read_word_vectors", "word_tokenizer"]

PAD, UNKNOWN = "[PAD]", "[UNK]"


def count_words(sentences: Iterable[list[str]]) -> Counter:
    """How often each lower-case word stands in these lists of tokens."""
    return Counter(word for tokens in sentences for word in " ".join(tokens).lower().split())


def word_tokenizer(words: Collection[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are lower-case words between spaces; it adds no token before or after the sentence."""
    vocabulary = {word: i for i, word in enumerate([PAD, UNKNOWN, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = ["input_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, unk_token=UNKNOWN, model_input_names=names
    )
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)  # as the processor would; span rows have none of them
    return tokenizer


def read_word_vectors(path: str | os.PathLike, words: Collection[str]) -> dict[str, Tensor]:
    """word -> (d_w,) of those `words` that are in a text file as GloVe's: `word 0.1 -0.2 ...`; of two lines the first.

    word2vec's header is skipped. OSError if the file cannot be read. ValueError for a line with another number of
    fields than the first, for something that is not a finite number, and if no word is in the file.
    """
    found: dict[str, Tensor] = {}
    width = 0
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            word, *fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 1 and word.isdigit() and fields[0].isdigit():
                continue
            width = width or len(fields)
            spare = fields[: len(fields) - width]  # of a word that has spaces in it; such a one ends in no number
            if not width or len(fields) < width or (spare and _is_finite(spare[-1])):
                expected = f"a word and {width or 'some'} numbers"
                raise ValueError(f"{path}, line {number}: expected {expected}, received {len(fields)} after {word!r}.")
            if word in words and word not in found and not spare:
                if wrong := [field for field in fields if not _is_finite(field)]:
                    raise ValueError(f"{path}, line {number}: expected finite numbers, received {wrong[0]!r}.")
                found[word] = torch.tensor([float(field) for field in fields])
    if not found:
        raise ValueError(f"{path} has a vector for none of the data's {len(words)} words (lower case).")
    return found


def _is_finite(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False
