"""Which phrases and objects become nodes of a pair's hypergraph (paper, section 4.1, "Multi-Modal Node Selection").

A selector answers for each pair (h, t) of a post: the M most relevant text phrases, as spans of the sentence; the Q
most relevant phrases about the image; the K most relevant objects. It knows the image, the sentence and the pair's own
words, and nothing else: never a relation, a line number or another pair.

This file stands on top of the others: the protocol, a selector by name, and how selections get into a post.
"""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub.constants import HF_HOME

from datasets_scripts.nodes.chat import CachedChatModel
from datasets_scripts.nodes.chat_openai import OpenAIChatModel
from datasets_scripts.nodes.chat_transformers import TransformersChatModel
from datasets_scripts.nodes.pairs import FIELDS, PairSelection, PostAndImage
from datasets_scripts.nodes.selection_heuristic import HeuristicSelector
from datasets_scripts.nodes.selection_llm import LLMSelector
from datasets_scripts.nodes.selection_spacy import SpacySelector
from model_cards.secrets import without_secrets
from modeling_vmhan.selection import distinct_phrases, moved_indices


__all__ = ["NodeSelector", "apply_selections", "make_selector", "select_posts"]

DEFAULT_CACHE = Path(HF_HOME) / "vmhan" / "answers"
BACK_ENDS: dict[str, type] = {"openai": OpenAIChatModel, "transformers": TransformersChatModel}


class NodeSelector(Protocol):
    """Chooses nodes for pairs."""

    description: dict[str, Any]  # JSON-able provenance
    window: int  # how many pairs it likes to be given at a time, to keep a server busy; 1 where that is no matter

    def select_window(self, posts: Sequence[PostAndImage]) -> list[list[PairSelection]]:
        """One selection for each pair of each (post, image)."""
        ...


def make_selector(spec: str, **options: Any) -> NodeSelector:
    """A selector by name.

    Args:
        spec: "heuristic"; "spacy:PIPELINE"; "openai:MODEL@BASE_URL" or "openai:TEXT_MODEL@BASE_URL,VLM@BASE_URL" (one
            address is enough where both models are there); "transformers:VLM" or "transformers:TEXT_MODEL,VLM".
        options: of `HeuristicSelector`, for "spacy" as well; or of `LLMSelector`, with `cache_dir` (where answers are
            kept) and the keyword arguments of `OpenAIChatModel` or `TransformersChatModel`. ValueError for an unknown
            or bad one.

    Example:
        >>> make_selector("heuristic", num_objects=5)
        >>> make_selector("openai:llama3,llava@http://localhost:11434/v1", cache_dir="answers", concurrency=4)
    """
    kind, _, rest = spec.partition(":")
    names = rest.split(",")
    back_end = BACK_ENDS.get(kind) if all(names) and len(names) <= 2 else None
    if not (spec == "heuristic" or kind == "spacy" and rest or back_end):
        raise ValueError(
            "spec: expected 'heuristic', 'spacy:PIPELINE', 'openai:MODEL@BASE_URL', 'transformers:MODEL', or two "
            f"models with a comma between them, received {without_secrets(spec)!r}"
        )
    of_selector = set(inspect.getfullargspec(LLMSelector if back_end else HeuristicSelector).kwonlyargs)
    of_model = set(inspect.getfullargspec(back_end).kwonlyargs) if back_end else set()
    known = of_selector | (of_model | {"cache_dir"} if back_end else set())
    if set(options) - known:
        raise ValueError(
            f"options: expected some of {sorted(known)} for {without_secrets(spec)!r}, received "
            f"{sorted(set(options) - known)}"
        )
    own = {name: value for name, value in options.items() if name in of_selector}
    if back_end is None:
        return SpacySelector(rest, **own) if rest else HeuristicSelector(**own)
    kinds = ("text", "image")[-len(names) :]  # a single model is an image model, which answers about text as well
    places = _addresses(names) if kind == "openai" else zip(names, kinds)
    keywords = {name: value for name, value in options.items() if name in of_model}
    folder = options.get("cache_dir") or DEFAULT_CACHE
    models = [CachedChatModel(back_end(*place, **keywords), folder) for place in places]
    return LLMSelector(models[0], models[-1], **own)


def _addresses(names: list[str]) -> list[tuple[str, str]]:
    """(model, base URL) of each "MODEL@BASE_URL"; one without a URL takes the other's."""
    parts = [name.partition("@http") for name in names]
    urls = [f"http{rest}" for _, found, rest in parts if found]
    if not urls:
        received = without_secrets(",".join(names))
        raise ValueError(f"spec: expected openai:MODEL@BASE_URL with an http(s) address, received {received!r}")
    return [(name, f"http{rest}" if found else urls[0]) for name, found, rest in parts]


def select_posts(selector: NodeSelector, posts: Iterable[PostAndImage]) -> Iterator[list[PairSelection]]:
    """Selections of each (post, image), in order; about `selector.window` pairs are asked for at a time."""
    window: list[PostAndImage] = []
    for post_and_image in posts:
        window.append(post_and_image)
        if sum(len(post["pairs"]) for post, _ in window) >= selector.window:
            yield from selector.select_window(window)
            window = []
    if window:
        yield from selector.select_window(window)


def apply_selections(
    post: dict[str, Any], selections: Sequence[PairSelection]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The post with its pairs' `text_phrases`, `image_phrases` and `objects` as selected, but for what a pair has
    already; nothing is changed in place.

    What was not asked stays as it is. The pairs' image phrases join the post's, each once (compared without case and
    spacing); a pair's are indices into them. What stayed empty or was left out comes beside the new post: {"pair":
    index, "field": name, "reason": text}.
    """
    named = [post.get("image_phrases") or [], *(selection.image_phrases or [] for selection in selections)]
    joined = distinct_phrases(*named)
    pairs, reasons = [], []
    for number, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
        spans, own = selection.text_phrases, selection.image_phrases
        spans, indices = spans and [list(span) for span in spans], own and moved_indices(range(len(own)), own, joined)
        chosen = dict(zip(FIELDS, (spans, indices, selection.objects)))
        given = {name: pair[name] for name in FIELDS if pair.get(name) is not None}
        if "image_phrases" in given:
            given["image_phrases"] = moved_indices(given["image_phrases"], post["image_phrases"], joined)
        pairs.append(pair | {name: values for name, values in chosen.items() if values is not None} | given)
        left = [name for name in FIELDS if name in selection.reasons and name not in given]
        reasons += [{"pair": number, "field": name, "reason": selection.reasons[name]} for name in left]
    return post | {"image_phrases": joined, "pairs": pairs}, reasons
