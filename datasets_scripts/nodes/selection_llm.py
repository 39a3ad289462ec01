"""The paper's node selection (section 4.1): text phrases from an LLM, image phrases and objects from a VLM.

For each pair of a post up to three questions are asked, see `prompts`. An answer that is not the JSON asked for is
sent back once with what is wrong; after that the field stays empty and the reason is recorded.
"""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatError, ChatRequest
from datasets_scripts.nodes.pairs import (
    FIELDS,
    PairSelection,
    candidate_objects,
    check_whole_numbers,
    mention_spans,
    object_labels,
    tail_object,
)
from datasets_scripts.nodes.prompts import (
    REPAIR_PROMPT,
    fill_prompt,
    list_schema,
    object_name,
    parse_answer,
    prompt_provenance,
    take_image_phrases,
    take_objects,
    take_text_phrases,
)


__all__ = ["LLMSelector"]


@dataclass(frozen=True)
class _Question:
    """What is asked for one field of one pair's selection, and how values and a reason are taken from the answer."""

    selection: PairSelection
    field: str
    request: ChatRequest
    take: Callable[[list[Any]], tuple[list[Any], str]]

    def repaired(self, answer: ChatAnswer, error: Exception) -> "_Question":
        """The question with the answer and what is wrong with it as further turns."""
        said = answer.text.strip() or "(nothing)"  # some templates refuse an empty turn
        turns = {"role": "assistant", "content": said}, {"role": "user", "content": REPAIR_PROMPT.format(error=error)}
        return replace(self, request=replace(self.request, messages=(*self.request.messages, *turns)))


class LLMSelector:
    """Chooses nodes by asking language models.

    A text model sees the sentence and the pair's names; an image model sees the image, the pair's names and, to choose
    from, the objects with labels and places. Nothing is asked for a number of 0, about an image that is not there, or
    about objects when there is at most one. The pair's own tail object is a node already and never offered.

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
        self.numbers = dict(zip(FIELDS, (num_text_phrases, num_image_phrases, num_objects)))
        check_whole_numbers(0, **{f"num_{field}": number for field, number in self.numbers.items()})
        check_whole_numbers(1, max_image_side=max_image_side, window=window)
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
        """One selection for each of the post's pairs.

        Raises:
            ChatError: a question got no answer and the model is set to raise.
            OSError: the image cannot be read. ValueError: `object_labels` are not as many as the boxes.
        """
        return self.select_window([(post, image)])[0]

    def select_window(self, posts: Sequence[tuple[dict[str, Any], Image.Image | None]]) -> list[list[PairSelection]]:
        """See `selection.NodeSelector`."""
        selections = [[PairSelection() for _ in post["pairs"]] for post, _ in posts]
        questions = [
            question
            for (post, image), of_post in zip(posts, selections, strict=True)
            for question in self._questions(post, image, of_post)
        ]
        is_about_text = [question.field == "text_phrases" for question in questions]
        if self.text_model is self.image_model:
            _ask(self.text_model, questions)
        else:
            _ask(self.text_model, [question for question, text in zip(questions, is_about_text) if text])
            _ask(self.image_model, [question for question, text in zip(questions, is_about_text) if not text])
        return selections

    def _questions(
        self, post: dict[str, Any], image: Image.Image | None, selections: list[PairSelection]
    ) -> Iterator[_Question]:
        """The questions about a post; a field that needs none is put into its selection at once."""
        wanted = [field for field in FIELDS if self.numbers[field]]
        sent = self._encode(post, image) if image is not None and wanted not in ([], ["text_phrases"]) else None
        for index, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
            for field in wanted:
                if field != "text_phrases" and image is None:
                    selection.reasons[field] = "the post has no image"
                    continue
                candidates = candidate_objects(post, pair)
                if field == "objects" and len(candidates) < 2:
                    selection.objects.extend(number for number, _ in candidates)
                    if not candidates:
                        selection.reasons[field] = "the post has no objects to choose from"
                    continue
                name = f"post {post.get('id')!r}, pair {index}, {field.replace('_', ' ')}"
                content, schema, take = self._ask_for(field, post, pair, image.size if sent else None)
                messages = ({"role": "user", "content": content},)
                picture = None if field == "text_phrases" else sent
                yield _Question(selection, field, ChatRequest(messages, picture, schema, name), take)

    def _ask_for(
        self, field: str, post: dict[str, Any], pair: dict[str, Any], size: tuple[int, int] | None
    ) -> tuple[str, dict[str, Any], Callable[[list[Any]], tuple[list[Any], str]]]:
        """The prompt for a field of a pair, the schema of its answer, and what takes the values from it."""
        number, tokens, boxes = self.numbers[field], post["tokens"], post.get("boxes") or []
        head, *tail = [" ".join(tokens[start:end]) for start, end in mention_spans(pair)]
        if not tail:  # it is an object, which is named by its place too for who sees the image
            index, labels = tail_object(pair), object_labels(post)
            is_text = field == "text_phrases"
            tail = [
                labels[index] or "an object of the image"
                if is_text
                else object_name(labels[index], boxes[index], size)
            ]
        fill = functools.partial(fill_prompt, field, number=number, head=head, tail=tail[0])
        if field == "text_phrases":
            take = functools.partial(take_text_phrases, tokens=tokens, mentions=mention_spans(pair))
            return fill(sentence=" ".join(tokens)), list_schema("phrases", "string", number), take
        if field == "image_phrases":
            return fill(), list_schema("phrases", "string", number), take_image_phrases
        candidates = candidate_objects(post, pair)
        objects = "\n".join(f"{index}: {object_name(label, boxes[index], size)}" for index, label in candidates)
        take = functools.partial(take_objects, candidates=[index for index, _ in candidates])
        return fill(objects=objects), list_schema("objects", "integer", number), take

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


def _ask(model: CachedChatModel, questions: Sequence[_Question]) -> None:
    """Put the answers into the questions' selections; one that cannot be read is asked for once more."""
    for is_last in (False, True):
        answers = model.complete([question.request for question in questions])
        unread = []
        for question, answer in zip(questions, answers, strict=True):
            values, reason = [], ""
            try:
                if isinstance(answer, ChatError):
                    reason = str(answer)
                else:
                    parsed = parse_answer(answer.text, question.request.schema, truncated=answer.truncated)
                    (named,) = parsed.values()
                    values, reason = question.take(named)
            except ValueError as error:
                reason = f"{error}; asked twice"
                if not is_last:
                    unread.append(question.repaired(answer, error))
                    continue
            getattr(question.selection, question.field).extend(values)
            if reason:
                question.selection.reasons[question.field] = reason
        questions = unread
