"""Asking language models: requests, answers, and a cache on disk so that nothing is asked twice.

`chat_openai.OpenAIChatModel` asks a server, `chat_transformers.TransformersChatModel` runs in process, and
`CachedChatModel` stands in front of either.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


__all__ = ["CachedChatModel", "ChatAnswer", "ChatError", "ChatModel", "ChatRequest", "request_key"]

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 1 << 16  # of an answer; the longest that is asked for has a few hundred


@dataclass(frozen=True)
class ChatRequest:
    """One question to a model."""

    messages: tuple[dict[str, str], ...]  # {"role", "content"}, "user" and "assistant" in turns, a user first
    image: bytes | None = None  # a JPEG or PNG file that goes before the first message's text
    schema: dict[str, Any] | None = None  # of the JSON answer, for back ends that can hold the model to it
    name: str = "request"  # what the question is about, for errors; no part of the cache's key


@dataclass(frozen=True)
class ChatAnswer:
    """What the model said; `truncated` when it was cut off by the limit of tokens, or of characters."""

    text: str
    truncated: bool = False

    @classmethod
    def cut(cls, text: str, *, truncated: bool) -> "ChatAnswer":
        """An answer of at most MAX_CHARACTERS, which is all that is kept, read and sent back of one."""
        return cls(text[:MAX_CHARACTERS], truncated or len(text) > MAX_CHARACTERS)


class ChatError(OSError):
    """A request that got no answer; the message says from whom, why, and what to do. `status` is HTTP's, if any."""

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status


OnAnswer = Callable[[int, ChatAnswer], None]


class ChatModel(Protocol):
    """A model that answers chat requests."""

    model: str  # its name, with whatever tells two versions of it apart
    parameters: dict[str, Any]  # JSON-able, everything else that the answers depend on (limits, temperature)
    description: dict[str, Any]  # JSON-able provenance without any secret

    def complete(self, requests: Sequence[ChatRequest], on_answer: OnAnswer) -> list[ChatAnswer | ChatError]:
        """Answers in the order of `requests`; a ChatError in the place of one that got none, where it does not raise.

        `on_answer(index, answer)` is called for each answer as it arrives, possibly from several threads.
        """
        ...


def request_key(model: ChatModel, request: ChatRequest) -> str:
    """64 hexadecimal digits: sha256 over the model, the messages, the image's bytes, the parameters and the schema."""
    return hashlib.sha256(json.dumps(_parts(model, request), sort_keys=True).encode()).hexdigest()


def _parts(model: ChatModel, request: ChatRequest) -> dict[str, Any]:
    return {
        "model": model.model,
        "parameters": model.parameters,
        "messages": list(request.messages),
        "image_sha256": hashlib.sha256(request.image).hexdigest() if request.image is not None else None,
        "schema": request.schema,
    }


class CachedChatModel:
    """A chat model that remembers: each answer is a JSON file, `FOLDER/KEY[:2]/KEY.json`, written as it arrives.

    An interrupted run therefore asks only for the rest, and several processes may share a folder. A file holds the
    request beside the answer. One that cannot be read, as after a kill, is asked for again. Errors are not kept.

    Example:
        >>> model = CachedChatModel(OpenAIChatModel("llama3", "http://localhost:11434/v1"), "answers")
        >>> (answer,) = model.complete([ChatRequest(({"role": "user", "content": "Say yes."},))])  # doctest: +SKIP
    """

    def __init__(self, model: ChatModel, folder: str | Path):
        self.model, self.folder = model, Path(folder).expanduser()

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | ChatError]:
        """Answers in the order of `requests`; equal requests are asked once. Those before a ChatError are kept."""
        keys = [request_key(self.model, request) for request in requests]
        answers: dict[str, ChatAnswer | ChatError | None] = {key: self._read(key) for key in dict.fromkeys(keys)}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if answers[key] is None}
        order = list(missing)

        def keep(index: int, answer: ChatAnswer) -> None:
            key = order[index]
            kept = {"text": answer.text, "truncated": answer.truncated, "request": _parts(self.model, missing[key])}
            self._path(key).parent.mkdir(parents=True, exist_ok=True)
            self._path(key).write_text(json.dumps(kept, indent=1), encoding="utf-8")

        if missing:
            answers |= zip(order, self.model.complete(list(missing.values()), keep), strict=True)
        return [answers[key] for key in keys]

    def knows(self, key: str) -> bool:
        """Whether the answer to the request with this `request_key` is kept."""
        return self._read(key) is not None

    def _read(self, key: str) -> ChatAnswer | None:
        path = self._path(key)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return ChatAnswer(str(kept["text"]), bool(kept["truncated"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s: not a readable answer (%r), so it is asked for again", path, error)
            return None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
