"""Any OpenAI-compatible chat endpoint (vLLM, Ollama, TGI, llama.cpp, OpenAI): several requests at a time, patiently.

The HTTP is the `openai` package's (`pip install "vmhan[llm]"`), imported when the first request is sent. Its own
retries are off: waits, limits and messages are decided here, where they can be read and tested.
"""

import base64
import datetime
import email.utils
import importlib.metadata
import json
import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from datasets_scripts.nodes.chat import ChatAnswer, ChatError, ChatRequest


__all__ = ["OpenAIChatModel"]

logger = logging.getLogger(__name__)

NO_KEY = "no-key"  # what servers without a key are sent, since the header must have one
USELESS = frozenset({401, 403, 404, 405})  # no other request will fare better: always raised
REJECTED = frozenset({400, 415, 422})  # maybe for `response_format`, so tried once without


@dataclass(frozen=True)
class _Failure:
    """Why an attempt failed. `retry`: another may succeed; `retry_after`: seconds that the server asks to wait."""

    reason: str
    status: int | None = None
    retry: bool = True
    retry_after: float = 0.0


class OpenAIChatModel:
    """A chat model behind `POST BASE_URL/chat/completions`.

    Timeouts, lost connections, 408, 429, 5xx and bodies that are no chat completion are tried again, after
    `backoff * 2^attempt` seconds shortened by up to a half at random, or what `Retry-After` asks if that is longer.
    Other statuses are errors at once, the server's words shown. Requests with a schema ask for it by
    `response_format`; a server that rejects it, and takes the same request without it, is not asked for it again. The
    first request goes alone: a wrong key or address costs one request, not `concurrency`.

    Args:
        model: the name the server knows it by. base_url: http(s), up to and with "/v1"; no user, password or query.
        concurrency: requests under way at once.
        timeout: seconds without a byte after which an attempt is given up.
        max_attempts: attempts a request. backoff: seconds before the second one. max_wait: longest wait in seconds;
            a `Retry-After` beyond it ends the attempts.
        parameters: JSON fields of every request; None: {"max_tokens": 256, "temperature": 0}.
        api_key_env: environment variable with the API key; unset, none is sent. The key is in no error, log or file.
        on_failure: "raise" a ChatError when a request got no answer, what has arrived is kept and a new run resumes;
            or "empty", to go on without that answer. A wrong key or address (401, 403, 404, 405) always raises.

    Raises:
        ValueError: a bad argument. ImportError, at the first request: `openai` is not installed.

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
        max_attempts: int = 6,
        backoff: float = 1.0,
        max_wait: float = 60.0,
        parameters: dict[str, Any] | None = None,
        api_key_env: str = "VMHAN_LLM_API_KEY",
        on_failure: str = "raise",
    ):
        if not model:
            raise ValueError("model: expected the name the server knows it by, received an empty string")
        for name, value in (("concurrency", concurrency), ("max_attempts", max_attempts)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: expected an int of at least 1, received {value!r}")
        for name, value in (("timeout", timeout), ("backoff", backoff), ("max_wait", max_wait)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a positive number of seconds, received {value!r}")
        if on_failure not in ("raise", "empty"):
            raise ValueError(f"on_failure: expected 'raise' or 'empty', received {on_failure!r}")
        self.model, self.base_url, self.host = model, base_url, _checked_host(base_url)
        self.concurrency, self.timeout = concurrency, timeout
        self.max_attempts, self.backoff, self.max_wait = max_attempts, backoff, max_wait
        self.parameters = {"max_tokens": 256, "temperature": 0} if parameters is None else dict(parameters)
        self.on_failure = on_failure
        self._api_key = _api_key(api_key_env)
        self._client: Any = None
        self._tried = False  # whether a request was sent before
        self._constrained = True  # whether `response_format` is sent
        self._lock = threading.Lock()
        self._jitter = random.Random()  # its own, so that nobody's seeded generator moves

    @property
    def description(self) -> dict[str, Any]:
        """Model, parameters and the endpoint's host, never the key."""
        return {
            "adapter": "openai",
            "model": self.model,
            "endpoint": self.host,
            "parameters": self.parameters,
            "openai": _installed_version(),
        }

    def complete(
        self, requests: Sequence[ChatRequest], on_answer: Callable[[int, ChatAnswer], None]
    ) -> list[ChatAnswer | ChatError]:
        """See `ChatModel.complete`. Ctrl-C stops at once; answers that are on their way are still handed over.

        Raises:
            ChatError: see `on_failure`.
        """
        self._connect()
        stop = threading.Event()

        def ask(index: int) -> ChatAnswer | ChatError:
            answer = self._ask(requests[index], stop)
            if isinstance(answer, ChatAnswer):
                on_answer(index, answer)
            return answer

        alone = [] if self._tried or not requests else [ask(0)]
        self._tried = True
        executor = ThreadPoolExecutor(self.concurrency, thread_name_prefix="llm")
        try:
            futures = [executor.submit(ask, index) for index in range(len(alone), len(requests))]
            for future in as_completed(futures):
                future.result()  # raises the first error as soon as there is one
        except BaseException as error:
            stop.set()
            executor.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        executor.shutdown()
        return alone + [future.result() for future in futures]

    def _connect(self) -> None:
        if self._client is not None:
            return
        try:
            import openai
        except ImportError as error:
            raise ImportError(
                'OpenAIChatModel: expected the openai package, which is not installed: pip install "vmhan[llm]"'
            ) from error
        self._client = openai.OpenAI(
            api_key=self._api_key or NO_KEY, base_url=self.base_url, timeout=self.timeout, max_retries=0
        )
        self._client.organization = self._client.project = None  # it takes them from the environment

    def _ask(self, request: ChatRequest, stop: threading.Event) -> ChatAnswer | ChatError:
        """One request, with retries, until it is answered or given up, or until `stop`."""
        for attempt in range(1, self.max_attempts + 1):
            outcome = self._attempt(request)
            if isinstance(outcome, ChatAnswer):
                return outcome
            if not outcome.retry or outcome.retry_after > self.max_wait or attempt == self.max_attempts:
                break
            backoff = self.backoff * 2 ** (attempt - 1) * self._jitter.uniform(0.5, 1)
            wait = max(min(backoff, self.max_wait), outcome.retry_after)
            logger.warning("%s: %s, next attempt in %.1f s", self.host, outcome.reason, wait)
            if stop.wait(wait):
                break
        error = self._error(request, outcome, attempt)
        if self.on_failure == "raise" or outcome.status in USELESS:
            raise error
        return error

    def _error(self, request: ChatRequest, failure: _Failure, attempts: int) -> ChatError:
        times = "once" if attempts == 1 else f"{attempts} times"
        if failure.retry_after > self.max_wait:
            fix = f"It asks to wait {failure.retry_after:.0f} s, longer than max_wait={self.max_wait:g}"
        elif failure.status in USELESS:
            fix = "Check the address, the model's name and the API key"
        elif failure.retry:
            fix = "See that the server is up"
        else:
            fix = "See what the server says about the request"
        return ChatError(
            f"{request.name}: expected an answer of {self.model!r} at {self.host}, asked {times}, received: "
            f"{failure.reason}. {fix}; answers that arrived are kept, run again to go on"
        )

    def _attempt(self, request: ChatRequest) -> ChatAnswer | _Failure:
        """One attempt; a rejected `response_format` is left out in a second one, and from then on if that helps."""
        constrained = request.schema is not None and self._constrained
        outcome = self._post(request, constrained=constrained)
        if constrained and isinstance(outcome, _Failure) and outcome.status in REJECTED:
            plain = self._post(request, constrained=False)
            if isinstance(plain, ChatAnswer):
                with self._lock:
                    if self._constrained:
                        logger.warning("%s rejects response_format (%s): going on without", self.host, outcome.reason)
                    self._constrained = False
                return plain
        return outcome

    def _post(self, request: ChatRequest, *, constrained: bool) -> ChatAnswer | _Failure:
        import openai  # is there: `_connect` came before

        body = dict(self.parameters)
        if constrained:
            schema = {"name": "selection", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model, messages=_messages(request), extra_body=body
            )
            return _read_completion(self._hide_key(raw.http_response.text))
        except openai.APITimeoutError:
            return _Failure(f"no answer within {self.timeout:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            return _Failure(self._hide_key(f"connection failed ({type(cause).__name__}: {cause})"))
        except openai.APIStatusError as error:
            status = error.status_code
            return _Failure(
                f"HTTP {status}: {_shorten(self._hide_key(error.response.text))}",
                status=status,
                retry=status in (408, 429) or status >= 500,
                retry_after=_retry_after(error.response.headers.get("retry-after")),
            )

    def _hide_key(self, text: str) -> str:
        return text.replace(self._api_key, "[API key]") if self._api_key else text


def _checked_host(base_url: str) -> str:
    """Host and port of an address that is fit to be written down."""
    try:
        url = urlsplit(base_url)
        host, port = url.hostname, url.port
    except ValueError:
        host = None
    if not host or url.scheme not in ("http", "https"):
        raise ValueError(f"base_url: expected http://HOST/v1 or https://HOST/v1, received {base_url!r}")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError(
            f"base_url: expected no user, password, query or fragment, received some for {host}. Put an API key into "
            "the environment variable that api_key_env names"
        )
    return host if port is None else f"{host}:{port}"


def _api_key(variable: str) -> str | None:
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"api_key_env: expected printable ASCII without blanks in ${variable}, received other characters"
        )
    return key or None


def _installed_version() -> str | None:
    try:
        return importlib.metadata.version("openai")
    except importlib.metadata.PackageNotFoundError:
        return None


def _messages(request: ChatRequest) -> list[dict[str, Any]]:
    """The request's messages as the endpoint wants them, the image as a data URL in the first."""
    messages: list[dict[str, Any]] = [dict(message) for message in request.messages]
    if request.image is not None:
        kind = "png" if request.image.startswith(b"\x89PNG") else "jpeg"
        url = f"data:image/{kind};base64,{base64.b64encode(request.image).decode()}"
        text = {"type": "text", "text": messages[0]["content"]}
        messages[0]["content"] = [{"type": "image_url", "image_url": {"url": url}}, text]
    return messages


def _read_completion(text: str) -> ChatAnswer | _Failure:
    """The first choice's text; no text at all (a refusal, only reasoning) is an empty answer."""
    try:
        choice = json.loads(text)["choices"][0]
        content = choice["message"].get("content")
        finish = choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return _Failure(f"no chat completion but {_shorten(text)}")
    if content is not None and not isinstance(content, str):
        return _Failure(f"no text as content but {_shorten(repr(content))}")
    readable = (content or "").encode("utf-8", "replace").decode()  # half a surrogate pair cannot be sent back
    return ChatAnswer(readable, truncated=finish == "length")


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, given in seconds or as a date; 0 if there is none that can be read."""
    try:
        return max(float(value or 0), 0.0)
    except ValueError:
        pass
    try:
        then = email.utils.parsedate_to_datetime(value or "")
    except ValueError:
        return 0.0
    then = then if then.tzinfo else then.replace(tzinfo=datetime.timezone.utc)
    return max((then - datetime.datetime.now(datetime.timezone.utc)).total_seconds(), 0.0)


def _shorten(text: str, length: int = 300) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= length else f"{words[:length]} ...")
