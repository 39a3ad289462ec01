"""The paper's node selection (section 4.1): text phrases from an LLM, image phrases and objects from a VLM.

For each pair of a post up to three questions are asked, see `selection_prompts`. An answer that is not the JSON asked
for is sent back once with what is wrong; after that the field stays empty and the reason is recorded.
"""

import inspect
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.constants import HF_HOME
from PIL import Image

from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatError, ChatRequest
from datasets_scripts.nodes.chat_openai import OpenAIChatModel
from datasets_scripts.nodes.chat_transformers import TransformersChatModel
from datasets_scripts.nodes.prompts import (
    PROMPTS,
    REPAIR_PROMPT,
    indices_schema,
    object_list,
    object_name,
    parse_answer,
    phrases_schema,
    prompt_provenance,
    take_image_phrases,
    take_objects,
    take_text_phrases,
)
from datasets_scripts.nodes.selection import (
    PairSelection,
    candidate_objects,
    check_counts,
    mention_spans,
    object_labels,
    tail_object,
)


__all__ = ["LLMSelector", "make_llm_selector"]

DEFAULT_CACHE = Path(HF_HOME) / "vmhan" / "answers"


@dataclass(frozen=True)
class _Case:
    """A pair to choose for: its post, the selection to fill, a name for errors, and the image as size and JPEG."""

    post: dict[str, Any]
    pair: dict[str, Any]
    selection: PairSelection
    name: str
    image_size: tuple[int, int] | None
    image: bytes | None

    def prompt(self, field: str, number: int, **filled_in: str) -> str:
        """The prompt of a field, filled in."""
        start, end = self.pair["head"]
        head, paper, ours = " ".join(self.post["tokens"][start:end]), *PROMPTS[field]
        tail = self._tail(in_image=field != "text_phrases")
        return f"{paper.format(number=number, head=head, tail=tail)}\n\n{ours.format(**filled_in)}"

    def _tail(self, *, in_image: bool) -> str:
        """The tail in words: its mention, or the object's label, with its place for who sees the image."""
        index = tail_object(self.pair)
        if index is None:
            start, end = self.pair["tail"]
            return " ".join(self.post["tokens"][start:end])
        label = object_labels(self.post)[index]
        if in_image:
            return object_name(label, self.post["boxes"][index], self.image_size)
        return label or "an object of the image"


@dataclass(frozen=True)
class _Question:
    """What is asked for one field of one pair's selection, and how values and a reason are taken from the answer."""

    selection: PairSelection
    field: str
    request: ChatRequest
    take: Callable[[dict[str, Any]], tuple[list[Any], str]]


class LLMSelector:
    """Chooses nodes by asking language models.

    A text model sees the sentence and the pair's names; an image model sees the image, the pair's names and, to choose
    from, the objects with labels and places. Not asked: what is not wanted (a number of 0), about an image that is not
    there, and about objects when there is at most one. The pair's own tail object is a node already and never offered.

    Args:
        text_model, image_model: who is asked; may be the same.
        num_text_phrases: M. num_image_phrases: Q. num_objects: K (paper: 3).
        max_image_side: pixels to which the longer side of a larger image is reduced before it is sent.
        window: pairs whose questions are asked together; some times the server's concurrency.

    Raises:
        ValueError: a negative number, or a `max_image_side` or `window` below 1.

    Example:
        >>> llama = CachedChatModel(OpenAIChatModel("llama3", "http://localhost:11434/v1"), "answers")
        >>> llava = CachedChatModel(OpenAIChatModel("llava", "http://localhost:11434/v1"), "answers")
        >>> selections = LLMSelector(llama, llava).select(post, image)  # doctest: +SKIP
    """

    def __init__(
        self,
        text_model: CachedChatModel,
        image_model: CachedChatModel,
        *,
        num_text_phrases: int = 3,
        num_image_phrases: int = 3,
        num_objects: int = 3,
        max_image_side: int = 1024,
        window: int = 64,
    ):
        self.numbers = {
            "text_phrases": num_text_phrases,
            "image_phrases": num_image_phrases,
            "objects": num_objects,
        }
        check_counts(**{f"num_{field}": number for field, number in self.numbers.items()})
        for name, value in (("max_image_side", max_image_side), ("window", window)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: expected an int of at least 1, received {value!r}")
        self.text_model, self.image_model = text_model, image_model
        self.max_image_side, self.window = max_image_side, window

    @property
    def description(self) -> dict[str, Any]:
        """Models, prompts with their sha256, and numbers."""
        return {
            "selector": "llm",
            "text_model": self.text_model.description,
            "image_model": self.image_model.description,
            "prompts": prompt_provenance(),
            "max_image_side": self.max_image_side,
            **{f"num_{field}": number for field, number in self.numbers.items()},
        }

    def select(self, post: dict[str, Any], image: Image.Image | None) -> list[PairSelection]:
        """See `NodeSelector.select`.

        Raises:
            ChatError: a question got no answer and the model is set to raise.
            OSError: the image cannot be read. ValueError: `object_labels` are not as many as the boxes.
        """
        return self.select_window([(post, image)])[0]

    def select_window(self, posts: Sequence[tuple[dict[str, Any], Image.Image | None]]) -> list[list[PairSelection]]:
        selections = [[PairSelection() for _ in post["pairs"]] for post, _ in posts]
        by_model: dict[int, tuple[CachedChatModel, list[_Question]]] = {}
        for (post, image), of_post in zip(posts, selections, strict=True):
            for question in self._questions(post, image, of_post):
                model = self.text_model if question.field == "text_phrases" else self.image_model
                by_model.setdefault(id(model), (model, []))[1].append(question)
        for model, questions in by_model.values():
            for question, (values, reason) in zip(questions, _ask(model, questions), strict=True):
                getattr(question.selection, question.field).extend(values)
                if reason:
                    question.selection.reasons[question.field] = reason
        return selections

    def _questions(
        self, post: dict[str, Any], image: Image.Image | None, selections: list[PairSelection]
    ) -> Iterator[_Question]:
        """The questions about a post; what needs none is put into its selections at once."""
        about_image = [field for field in ("image_phrases", "objects") if self.numbers[field]]
        sent = self._encode(post, image) if image is not None and about_image else None
        for number, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
            name = f"post {post.get('id')!r}, pair {number}"
            case = _Case(post, pair, selection, name, image.size if image is not None else None, sent)
            if self.numbers["text_phrases"]:
                yield self._about_text(case)
            for field in about_image:
                if image is None:
                    selection.reasons[field] = "the post has no image"
                elif field == "image_phrases":
                    yield self._about_image(case)
                else:
                    yield from self._about_objects(case)

    def _about_text(self, case: _Case) -> _Question:
        number, tokens, mentions = self.numbers["text_phrases"], case.post["tokens"], mention_spans(case.pair)
        prompt = case.prompt("text_phrases", number, sentence=" ".join(tokens))
        request = _request(prompt, phrases_schema(number), f"{case.name}, text phrases")
        return _Question(
            case.selection, "text_phrases", request, lambda a: take_text_phrases(a["phrases"], tokens, mentions)
        )

    def _about_image(self, case: _Case) -> _Question:
        number = self.numbers["image_phrases"]
        prompt = case.prompt("image_phrases", number)
        request = _request(prompt, phrases_schema(number), f"{case.name}, image phrases", case.image)
        return _Question(case.selection, "image_phrases", request, lambda a: take_image_phrases(a["phrases"]))

    def _about_objects(self, case: _Case) -> Iterator[_Question]:
        """One question, or none where there is nothing to choose."""
        number, candidates = self.numbers["objects"], candidate_objects(case.post, case.pair)
        indices = [index for index, _ in candidates]
        if len(candidates) < 2:
            case.selection.objects.extend(indices)
            if not candidates:
                case.selection.reasons["objects"] = "the post has no objects to choose from"
            return
        listed = object_list(candidates, case.post["boxes"], case.image_size)
        prompt = case.prompt("objects", number, objects=listed)
        request = _request(prompt, indices_schema(number), f"{case.name}, objects", case.image)
        yield _Question(case.selection, "objects", request, lambda a: take_objects(a["objects"], indices))

    def _encode(self, post: dict[str, Any], image: Image.Image) -> bytes:
        """The image as it is sent: JPEG, its longer side at most `max_image_side`."""
        try:
            small = image.convert("RGB")
            small.thumbnail((self.max_image_side, self.max_image_side), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            small.save(buffer, format="JPEG", quality=90)
        except OSError as error:
            raise OSError(f"post {post.get('id')!r}: expected a readable image, received {error}") from error
        return buffer.getvalue()


def make_llm_selector(kind: str, models: str, **options: Any) -> LLMSelector:
    """See `selection.make_selector`.

    Args:
        kind: "openai" or "transformers". models: what stands behind the colon of the spec.
        options: keyword arguments of LLMSelector and of the back end; `cache_dir`, where answers are kept.
    """
    names = models.split(",")
    if not all(names) or len(names) > 2:
        raise ValueError(f"spec: expected one or two models behind '{kind}:', received {models!r}")
    back_end = OpenAIChatModel if kind == "openai" else TransformersChatModel
    of_selector, of_model = _keyword_names(LLMSelector), _keyword_names(back_end)
    unknown = sorted(set(options) - of_selector - of_model - {"cache_dir"})
    if unknown:
        known = sorted(of_selector | of_model | {"cache_dir"})
        raise ValueError(f"options: expected some of {known} for '{kind}:', received {unknown}")
    keywords = {name: value for name, value in options.items() if name in of_model}
    if kind == "openai":
        chat_models = [OpenAIChatModel(*address, **keywords) for address in _addresses(names)]
    else:
        kinds = ("text", "image") if len(names) == 2 else ("image",)
        chat_models = [TransformersChatModel(name, part, **keywords) for name, part in zip(names, kinds, strict=True)]
    cached = [CachedChatModel(model, options.get("cache_dir") or DEFAULT_CACHE) for model in chat_models]
    keywords = {name: value for name, value in options.items() if name in of_selector}
    return LLMSelector(cached[0], cached[-1], **keywords)


def _addresses(names: list[str]) -> list[tuple[str, str]]:
    """(model, base URL) of each "MODEL@BASE_URL"; one without a URL takes the other's."""
    parts = [name.partition("@http") for name in names]
    urls = [f"http{rest}" for _, found, rest in parts if found]
    if not urls:
        raise ValueError(f"spec: expected openai:MODEL@BASE_URL with an http(s) address, received {','.join(names)!r}")
    return [(name, f"http{rest}" if found else urls[0]) for name, found, rest in parts]


def _keyword_names(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _request(content: str, schema: dict[str, Any], name: str, image: bytes | None = None) -> ChatRequest:
    return ChatRequest(({"role": "user", "content": content},), image=image, schema=schema, name=name)


def _ask(model: CachedChatModel, questions: Sequence[_Question]) -> list[tuple[list[Any], str]]:
    """(values, reason) of each question; what cannot be read is asked once more, with what is wrong."""
    answers = model.complete([question.request for question in questions])
    results: list[tuple[list[Any], str]] = []
    wrong: list[tuple[int, ChatRequest]] = []
    for index, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        values, reason, error = _read(question, answer)
        results.append((values, reason or error))
        if error:
            wrong.append((index, _repair(question.request, answer, error)))
    for (index, _), answer in zip(wrong, model.complete([request for _, request in wrong]), strict=True):
        values, reason, error = _read(questions[index], answer)
        results[index] = (values, reason or (f"{error}; asked twice" if error else ""))
    return results


def _read(question: _Question, answer: ChatAnswer | ChatError) -> tuple[list[Any], str, str]:
    """(values, reason, what is wrong with the answer)."""
    if isinstance(answer, ChatError):
        return [], str(answer), ""
    try:
        parsed = parse_answer(answer.text, question.request.schema, truncated=answer.truncated)
    except ValueError as error:
        return [], "", str(error)
    return *question.take(parsed), ""


def _repair(request: ChatRequest, answer: ChatAnswer, error: str) -> ChatRequest:
    said = {"role": "assistant", "content": answer.text.strip() or "(nothing)"}  # some templates refuse an empty turn
    asked = {"role": "user", "content": REPAIR_PROMPT.format(error=error)}
    return ChatRequest((*request.messages, said, asked), request.image, request.schema, request.name)
