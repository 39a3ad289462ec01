"""Any OpenAI-compatible chat endpoint (vLLM, Ollama, TGI, llama.cpp, OpenAI), several requests at a time.

The HTTP, its timeouts and its retries are the `openai` package's (`pip install "vmhan[llm]"`), which is imported when
the first request is sent.
"""

import base64
import functools
import json
import logging
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import Field

from datasets_scripts.checking import checked
from datasets_scripts.nodes.chat import ChatAnswer, ChatError, ChatRequest, OnAnswer
from datasets_scripts.nodes.chat_limits import limit_body
from datasets_scripts.nodes.pairs import check_whole_numbers, shorten
from model_cards.secrets import without_secrets


__all__ = ["OpenAIChatModel"]

logger = logging.getLogger(__name__)

ADDRESS = re.compile(r"https?://((?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?)(?:/[^?#@]*)?")
NO_KEY = "no-key"  # what servers without a key are sent, since the header must have one
USELESS = frozenset({401, 403, 404, 405})  # no other request will fare better: always raised
REJECTED = frozenset({400, 415, 422})  # maybe for `response_format`, so tried once without


class OpenAIChatModel:
    """A chat model behind `POST BASE_URL/chat/completions`.

    The openai package retries timeouts, lost connections, 408, 409, 429 and 5xx. Requests with a schema ask for it by
    `response_format`; a server that rejects it, and takes the same request without it, is not asked for it again.
    ValueError for a bad argument; ImportError, at the first request, without `openai`.

    Args:
        model: the name the server knows it by. base_url: http(s), up to and with "/v1"; no user, password or query.
        concurrency: requests under way at once. timeout: seconds without a byte after which an attempt is given up,
            and the most that a body may take. An answer of more than 1 MiB is an error, and is not read to its end.
        max_retries: attempts after the first one.
        parameters: JSON fields of every request; None: {"max_tokens": 256, "temperature": 0}.
        api_key_env: environment variable with the API key; unset, none is sent. The key is in no error, log or file.
        on_failure: "raise" a ChatError when a request got no answer (what has arrived is kept), or "empty", to go on
            without that answer. A wrong key or address (401, 403, 404, 405) always raises.

    Example:
        >>> model = OpenAIChatModel("llava-hf/llava-1.5-7b-hf", "http://localhost:8000/v1", concurrency=32)
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        concurrency: int = 8,
        timeout: float = 120.0,
        max_retries: int = 5,
        parameters: dict[str, Any] | None = None,
        api_key_env: str = "VMHAN_LLM_API_KEY",
        on_failure: str = "raise",
    ):
        check_whole_numbers(1, concurrency=concurrency)
        check_whole_numbers(0, max_retries=max_retries)
        checked(Annotated[str, Field(min_length=1)], model, "model")
        checked(Annotated[float, Field(gt=0)], timeout, "timeout")
        checked(Literal["raise", "empty"], on_failure, "on_failure")
        address = ADDRESS.fullmatch(base_url)
        if address is None:
            from modeling_vmhan.addresses import shown_url  # here, as it brings in torch

            shown = shown_url(base_url)
            raise ValueError(f"base_url: expected http(s)://HOST/v1 without user or query, received {shown!r}")
        self.model, self.base_url, self.host = model, base_url, address[1]
        self.concurrency, self.timeout, self.max_retries = concurrency, timeout, max_retries
        self.parameters = {"max_tokens": 256, "temperature": 0} if parameters is None else dict(parameters)
        self.on_failure = on_failure
        self._api_key = os.environ.get(api_key_env, "").strip()
        if not re.fullmatch(r"[!-~]*", self._api_key):  # not shown
            raise ValueError(
                f"api_key_env: expected printable ASCII without blanks in ${api_key_env}, received others"
            )
        self._sends_schema = True  # until the server turns out to reject `response_format`

    @property
    def description(self) -> dict[str, Any]:
        """Model, parameters and the endpoint's host, never the key."""
        return {"adapter": "openai", "model": self.model, "endpoint": self.host, "parameters": self.parameters}

    def complete(self, requests: Sequence[ChatRequest], on_answer: OnAnswer) -> list[ChatAnswer | ChatError]:
        """See `ChatModel.complete`. After an error or Ctrl-C only the requests that are under way are waited for."""
        self._client  # noqa: B018 made before the threads need it

        def ask(index: int) -> ChatAnswer | ChatError:
            answer = self._ask(requests[index])
            if isinstance(answer, ChatAnswer):
                on_answer(index, answer)
            elif self.on_failure == "raise" or answer.status in USELESS:
                raise answer
            return answer

        with ThreadPoolExecutor(self.concurrency) as executor:
            return list(executor.map(ask, range(len(requests))))

    @functools.cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise ImportError('openai asks the server and is not installed: pip install "vmhan[llm]"') from error
        hooks = {"response": [functools.partial(limit_body, seconds=self.timeout)]}
        limits = {"timeout": self.timeout, "max_retries": self.max_retries}
        limits |= {"http_client": openai.DefaultHttpxClient(event_hooks=hooks)}
        headers = {"Accept-Encoding": "identity"}
        client = openai.OpenAI(
            api_key=self._api_key or NO_KEY, base_url=self.base_url, default_headers=headers, **limits
        )
        client.organization = client.project = None  # it takes them from the environment
        return client

    def _ask(self, request: ChatRequest) -> ChatAnswer | ChatError:
        """Ask once; where `response_format` may be what the server rejects, once more without it."""
        sends_schema = request.schema is not None and self._sends_schema
        answer = self._post(request, sends_schema=sends_schema)
        if sends_schema and isinstance(answer, ChatError) and answer.status in REJECTED:
            plain = self._post(request, sends_schema=False)
            if isinstance(plain, ChatAnswer):
                logger.warning("going on without response_format, which the server rejects (%s)", answer)
                self._sends_schema = False
                return plain
        return answer

    def _post(self, request: ChatRequest, *, sends_schema: bool) -> ChatAnswer | ChatError:
        import openai  # is there: `_client` came before

        body = dict(self.parameters)
        if sends_schema:
            schema = {"name": "selection", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        status = None
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model, messages=_messages(request), extra_body=body
            )
            return _read_completion(self._hide_key(raw.http_response.text))
        except openai.APIStatusError as error:
            status, reason = error.status_code, f"HTTP {error.status_code}: {error.response.text}"
        except openai.OpenAIError as error:
            reason = f"{error} ({error.__cause__!r})"
        except ValueError as error:
            reason = str(error)
        # Made out here, so that it drags no exception along that holds the key.
        received = shorten(without_secrets(self._hide_key(reason)))
        fix = "Check the address, the model's name and the API key; " if status in USELESS else ""
        return ChatError(
            f"{request.name}: expected an answer of {self.model!r} at {self.host}, received: "
            f"{received}. {fix}answers that arrived are kept, run again to go on",
            status=status,
        )

    def _hide_key(self, text: str) -> str:
        return text.replace(self._api_key, "[API key]") if self._api_key else text


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The request's messages as the endpoint wants them, the image as a data URL in the first."""
    messages: list[dict[str, Any]] = [dict(message) for message in request.messages]
    if request.image is not None:
        kind = "png" if request.image.startswith(b"\x89PNG") else "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(request.image).decode()}"
        text = {"type": "text", "text": messages[0]["content"]}
        messages[0]["content"] = [{"type": "image_url", "image_url": {"url": url}}, text]
    return messages


def _read_completion(text: str) -> ChatAnswer:
    """The first choice's text; no text at all (a refusal, only reasoning) is an empty answer."""
    try:
        choice = json.loads(text)["choices"][0]
        content = choice["message"].get("content") or ""
        readable = content.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent back
        return ChatAnswer.cut(readable, truncated=choice.get("finish_reason") == "length")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"no chat completion but {text}") from None
