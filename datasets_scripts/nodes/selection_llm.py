"""The paper's node selection (section 4.1): text phrases from an LLM, image phrases and objects from a VLM.

For each pair of a post up to three questions are asked, see `prompts`. An answer that is not the JSON asked for is
sent back once with what is wrong; after that nothing is chosen, as when a model names none, and the reason is
recorded.
"""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from datasets_scripts.nodes import prompts
from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatRequest, request_key
from datasets_scripts.nodes.pairs import FIELDS, PairSelection, PostAndImage, check_whole_numbers, node_numbers
from modeling_vmhan.selection import candidate_objects, mention_spans, object_labels, tail_object


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
        turns = (
            {"role": "assistant", "content": said},
            {"role": "user", "content": prompts.REPAIR_PROMPT.format(error=error)},
        )
        return replace(self, request=replace(self.request, messages=(*self.request.messages, *turns)))


class LLMSelector:
    """Chooses at most `num_text_phrases` (M), `num_image_phrases` (Q) and `num_objects` (K; paper: 3 each) by asking
    models.

    A text model sees the sentence and the pair's names; an image model sees the image, the pair's names and the
    objects with labels and places. Nothing is asked for a number of 0, about an image that is not there, or about
    objects when there is at most one. The pair's own tail object is a node already and never offered.

    `max_image_side` is the pixels to which the longer side of a larger image is reduced before it is sent, `window`
    the pairs whose questions are asked together: some times the server's concurrency.
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
        self.numbers = node_numbers(num_text_phrases, num_image_phrases, num_objects)
        check_whole_numbers(1, max_image_side=max_image_side, window=window)
        self.text_model, self.image_model = text_model, image_model
        self.max_image_side, self.window = max_image_side, window

    @property
    def description(self) -> dict[str, Any]:
        """Models, prompts with their sha256, and numbers."""
        return {
            "selector": "llm",
            "text_model": self.text_model.model.description,
            "image_model": self.image_model.model.description,
            "prompts": prompts.prompt_provenance(),
            "max_image_side": self.max_image_side,
            **{f"num_{field}": number for field, number in self.numbers.items()},
        }

    def select(self, post: dict[str, Any], image: Image.Image | None) -> list[PairSelection]:
        """One selection for each of the post's pairs."""
        return self.select_window([(post, image)])[0]

    def select_window(self, posts: Sequence[PostAndImage]) -> list[list[PairSelection]]:
        """See `selection.NodeSelector`. OSError: an image cannot be read, or (ChatError) a question got no answer."""
        selections = [[PairSelection() for _ in post["pairs"]] for post, _ in posts]
        questions = [
            question
            for (post, image), of_post in zip(posts, selections, strict=True)
            for question in self._questions(post, image, of_post)
        ]
        if self.text_model is self.image_model:
            _ask(self.text_model, questions)
        else:
            _ask(self.text_model, [question for question in questions if question.field == "text_phrases"])
            _ask(self.image_model, [question for question in questions if question.field != "text_phrases"])
        return selections

    def unanswered(self, post: dict[str, Any], image: Image.Image | None) -> Iterator[tuple[str, str]]:
        """(field, `request_key`) of each question about a post whose answer is not kept; nothing is asked."""
        for question in self._questions(post, image, [PairSelection() for _ in post["pairs"]]):
            model = self.text_model if question.field == "text_phrases" else self.image_model
            key = request_key(model.model, question.request)
            if not model.knows(key):
                yield question.field, key

    def _questions(
        self, post: dict[str, Any], image: Image.Image | None, selections: list[PairSelection]
    ) -> Iterator[_Question]:
        """The questions about a post; a field that needs none is put into its selection at once."""
        wanted = [field for field in FIELDS if self.numbers[field]]
        is_seen = image is not None and any(field != "text_phrases" for field in wanted)
        sent = self._encode(post, image) if is_seen else None
        for index, (pair, selection) in enumerate(zip(post["pairs"], selections, strict=True)):
            candidates = [number for number, _ in candidate_objects(post, pair)]
            for field in wanted:
                if field != "text_phrases" and image is None:
                    selection.reasons[field] = "the post has no image"
                elif field == "objects" and len(candidates) < 2:
                    selection.objects = candidates or None
                    if not candidates:
                        selection.reasons[field] = "the post has no objects to choose from"
                else:
                    content, take = self._content(field, post, pair, image.size if is_seen else None)
                    request = ChatRequest(
                        messages=({"role": "user", "content": content},),
                        image=None if field == "text_phrases" else sent,
                        schema=prompts.answer_schema(field, self.numbers[field]),
                        name=f"post {post.get('id')!r}, pair {index}, {field.replace('_', ' ')}",
                    )
                    yield _Question(selection, field, request, take)

    def _content(
        self, field: str, post: dict[str, Any], pair: dict[str, Any], size: tuple[int, int] | None
    ) -> tuple[str, Callable[[list[Any]], tuple[list[Any], str]]]:
        """The prompt for a field of a pair, and what takes the values from the answer; `size` is the image's."""
        tokens, mentions, boxes = post["tokens"], mention_spans(pair), post.get("boxes") or []
        head, *tail = [" ".join(tokens[start:end]) for start, end in mentions]
        if not tail:  # it is an object, which has a place for who sees the image
            index = tail_object(pair)
            label = object_labels(post)[index]
            is_text = field == "text_phrases"
            tail = [(label or "an object of the image") if is_text else prompts.object_name(label, boxes[index], size)]
        filled, take = {}, prompts.take_image_phrases
        if field == "text_phrases":
            filled["sentence"] = " ".join(tokens)
            take = functools.partial(prompts.take_text_phrases, tokens=tokens, mentions=mentions)
        elif field == "objects":
            candidates = dict(candidate_objects(post, pair))
            names = {index: prompts.object_name(label, boxes[index], size) for index, label in candidates.items()}
            filled["objects"] = "\n".join(f"{index}: {name}" for index, name in names.items())
            take = functools.partial(prompts.take_objects, candidates=list(candidates))
        number = self.numbers[field]
        return prompts.fill_prompt(field, number=number, head=head, tail=tail[0], **filled), take

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
            values, reason = [], str(answer)
            try:
                if isinstance(answer, ChatAnswer):
                    values, reason = question.take(prompts.parse_answer(answer, question.request.schema))
            except ValueError as error:
                reason = f"{error}; asked twice"
                if not is_last:
                    unread.append(question.repaired(answer, error))
                    continue
            setattr(question.selection, question.field, values)
            if reason:
                question.selection.reasons[question.field] = reason
        questions = unread
