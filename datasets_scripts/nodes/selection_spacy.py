"""Node selection by rule over the noun chunks of a spaCy pipeline (`pip install "vmhan[spacy]"`)."""

import functools
from collections.abc import Collection, Sequence
from typing import Any

from datasets_scripts.nodes.selection_heuristic import HeuristicSelector
from modeling_vmhan.words import Span


__all__ = ["SpacySelector"]


class SpacySelector(HeuristicSelector):
    """As `HeuristicSelector`, but text phrases are the sentence's noun chunks that share no token with a mention.

    `pipeline` is the name or folder of one with a parser, such as "en_core_web_sm". ImportError without spaCy, OSError
    without the pipeline.
    """

    def __init__(self, pipeline: str, **numbers: int):
        super().__init__(**numbers)
        try:
            import spacy
        except ImportError as error:
            raise ImportError('spaCy finds noun chunks and is not installed: pip install "vmhan[spacy]"') from error
        self._nlp = spacy.load(pipeline)
        self._version = f"{self._nlp.meta['lang']}_{self._nlp.meta['name']} {self._nlp.meta['version']}"
        self._chunks = functools.lru_cache(maxsize=1)(self._noun_chunks)  # the pairs of a post ask one after the other

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"selector": "spacy", "pipeline": self._version}

    def _phrases(self, tokens: Sequence[str], *, blocked: Collection[int]) -> list[Span]:
        chunks = self._chunks(tuple(tokens))
        return [(start, end) for start, end in chunks if set(blocked).isdisjoint(range(start, end))]

    def _noun_chunks(self, tokens: tuple[str, ...]) -> list[Span]:
        from spacy.tokens import Doc

        return [(chunk.start, chunk.end) for chunk in self._nlp(Doc(self._nlp.vocab, words=tokens)).noun_chunks]
