"""Node selection by rule, without a model or a network."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from datasets_scripts.nodes import pairs
from datasets_scripts.nodes.pairs import FIELDS, PairSelection, PostAndImage, Span
from datasets_scripts.nodes.phrases import content_words, token_phrases


__all__ = ["HeuristicSelector"]


class HeuristicSelector:
    """Chooses by rule.

    - Text phrases: the sentence's phrases (`phrases.token_phrases`) outside the pair's mentions, each once without
      regard to case, those with the fewest tokens between them and the two mentions together first.
    - Image phrases: those of `post["image_phrases"]` that share most words with the pair first, then in their order.
    - Objects: those whose label shares most words with the pair first, then with the pair's text phrases, then by
      `post["object_scores"]` where the post has them, then in their order. The pair's own tail object is left out.

    Words are compared in lower case and without function words. A pair's words are those of its mentions and of its
    tail object's label. `num_text_phrases`, `num_image_phrases` and `num_objects` are M, Q and K (paper: 3).
    With 0, or where there is nothing to choose from, nothing is asked, which a pair keeps as None.

    Example:
        >>> post = {"tokens": "Ann poses beside Bob in Oslo".split(), "pairs": [{"head": [0, 1], "tail": [3, 4]}]}
        >>> HeuristicSelector().select(post, None)[0].text_phrases
        [(1, 2), (5, 6)]
    """

    window = 1

    def __init__(self, *, num_text_phrases: int = 3, num_image_phrases: int = 3, num_objects: int = 3):
        self.numbers = pairs.node_numbers(num_text_phrases, num_image_phrases, num_objects)

    @property
    def description(self) -> dict[str, Any]:
        return {"selector": "heuristic", **{f"num_{field}": number for field, number in self.numbers.items()}}

    def select(self, post: dict[str, Any], image: Image.Image | None = None) -> list[PairSelection]:
        """One selection for each of the post's pairs. The image's pixels are not looked at."""
        return [self._select_pair(post, pair) for pair in post["pairs"]]

    def select_window(self, posts: Sequence[PostAndImage]) -> list[list[PairSelection]]:
        """See `selection.NodeSelector`."""
        return [self.select(post) for post, _ in posts]

    def _select_pair(self, post: dict[str, Any], pair: dict[str, Any]) -> PairSelection:
        num_spans, num_phrases, num_objects = self.numbers.values()
        texts = [" ".join(post["tokens"][start:end]) for start, end in pairs.mention_spans(pair)]
        if pairs.tail_object(pair) is not None:
            texts.append(pairs.object_labels(post)[pairs.tail_object(pair)])
        words = set().union(*map(content_words, texts))
        spans = self._closest_phrases(post["tokens"], pairs.mention_spans(pair))[:num_spans]
        phrases = sorted(post.get("image_phrases") or [], key=lambda phrase: -len(content_words(phrase) & words))
        text = [content_words(" ".join(post["tokens"][start:end])) for start, end in spans]
        objects = _rank_objects(post, pair, words, set().union(*text))[:num_objects]
        found = dict(zip(FIELDS, (spans, phrases[:num_phrases], objects)))
        reasons = {
            name: f"the post has no {name.replace('_', ' ')} to choose from"
            for name, values in found.items()
            if not values and self.numbers[name]
        }
        return PairSelection(**{name: values for name, values in found.items() if values}, reasons=reasons)

    def _closest_phrases(self, tokens: Sequence[str], mentions: list[Span]) -> list[Span]:
        """The sentence's phrases outside the mentions, by their distance from them, each once."""
        inside = {index for start, end in mentions for index in range(start, end)}
        distinct: dict[str, Span] = {}
        phrases = self._phrases(tokens, inside)
        for start, end in sorted(phrases, key=lambda span: pairs.distance(span, mentions)):
            distinct.setdefault(pairs.folded(" ".join(tokens[start:end])), (start, end))
        return list(distinct.values())

    def _phrases(self, tokens: Sequence[str], inside: set[int]) -> list[Span]:
        """The sentence's phrases that have none of the tokens `inside`."""
        return token_phrases(tokens, blocked=inside)


def _rank_objects(post: dict[str, Any], pair: dict[str, Any], words: set[str], phrase_words: set[str]) -> list[int]:
    scores = pairs.values_of_boxes(post, "object_scores", missing=0.0)
    ranks = []
    for index, label in pairs.candidate_objects(post, pair):
        label_words = content_words(label)
        ranks.append((-len(label_words & words), -len(label_words & phrase_words), -scores[index], index))
    return [index for *_, index in sorted(ranks)]
