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
    """A tokenizer whose tokens are lower-case words between spaces; no token stands before or behind the sentence.

    Example:
        >>> word_tokenizer(["ann", "met"])("Ann met Bob")["input_ids"]
        [2, 3, 1]
    """
    vocabulary = {word: i for i, word in enumerate([PAD, UNKNOWN, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)  # as the processor would; span rows have none of them
    return tokenizer


def read_word_vectors(path: str | os.PathLike, words: Collection[str]) -> dict[str, Tensor]:
    """Vectors of `words` out of a text file as GloVe's (https://nlp.stanford.edu/projects/glove): `word 0.1 -0.2 ...`.

    The header that word2vec writes is skipped. Of other words only the number of fields is looked at.

    Returns:
        word -> (d_w,), for those that are in the file.

    Raises:
        OSError: the file cannot be read. ValueError: a line has another number of fields than the first, or something
        that is not a finite number; no word is in the file.
    """
    found: dict[str, Tensor] = {}
    width = None
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            fields = line.rstrip().split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                continue
            width = len(fields) - 1 if width is None else width
            spare = len(fields) - 1 - width  # fields of a word that has spaces in it; such a one ends in no number
            if width < 1 or spare < 0 or (spare > 0 and _is_number(fields[spare])):
                raise ValueError(
                    f"{path}, line {number}: expected a word and {width or 'at least 1'} numbers, as in the lines "
                    f"before, received {len(fields) - 1} fields behind {fields[0]!r}. Is the file cut off?"
                )
            word = fields[0]
            if spare == 0 and word in words and word not in found:
                found[word] = _vector(fields[1:], f"{path}, line {number}")
    if not found:
        raise ValueError(
            f"{path} has a vector for none of the data's {len(words)} words (lower case): give a file of word vectors "
            "for their language."
        )
    return found


def _vector(fields: list[str], place: str) -> Tensor:
    wrong = [field for field in fields if not (_is_number(field) and math.isfinite(float(field)))]
    if wrong:
        raise ValueError(f"{place}: {wrong[0]!r} is not a finite number; expected a word and its vector.")
    return torch.tensor([float(field) for field in fields])


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
