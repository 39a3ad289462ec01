"""Node selection by rule, without a model or a network."""

from collections.abc import Collection, Sequence
from typing import Any

from PIL import Image

from datasets_scripts.nodes.pairs import PairSelection, PostAndImage, node_numbers
from modeling_vmhan.phrases import token_phrases
from modeling_vmhan.selection import choose_by_rule
from modeling_vmhan.words import Span


__all__ = ["HeuristicSelector"]


class HeuristicSelector:
    """Chooses by the rule of `modeling_vmhan.selection.choose_by_rule`.

    `num_text_phrases`, `num_image_phrases` and `num_objects` are M, Q and K (paper: 3). With 0, or where there is
    nothing to choose from, nothing is asked, which a pair keeps as None.

    Example:
        >>> post = {"tokens": "Ann poses beside Bob in Oslo".split(), "pairs": [{"head": [0, 1], "tail": [3, 4]}]}
        >>> HeuristicSelector().select(post, None)[0].text_phrases
        [(1, 2), (5, 6)]
    """

    window = 1

    def __init__(self, *, num_text_phrases: int = 3, num_image_phrases: int = 3, num_objects: int = 3):
        self.numbers = node_numbers(num_text_phrases, num_image_phrases, num_objects)

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
        ranked = choose_by_rule(post, pair, self._phrases)
        ranked["image_phrases"] = [post["image_phrases"][index] for index in ranked["image_phrases"]]
        found = {name: ranked[name][:number] for name, number in self.numbers.items()}
        reasons = {
            name: f"the post has no {name.replace('_', ' ')} to choose from"
            for name, values in found.items()
            if not values and self.numbers[name]
        }
        return PairSelection(**{name: values for name, values in found.items() if values}, reasons=reasons)

    def _phrases(self, tokens: Sequence[str], *, blocked: Collection[int]) -> list[Span]:
        """The sentence's phrases that have none of the tokens `blocked`."""
        return token_phrases(tokens, blocked=blocked)
