"""Whatever a server sends, no more of it is read, and for no longer, than an answer is long; a failure stays one."""

import functools
import gzip
import json
import time
import tracemalloc
import zlib

import pytest
from chat_server import ChatServer, Say, Status

from datasets_scripts.nodes.chat import MAX_CHARACTERS, CachedChatModel, ChatAnswer, ChatError, ChatRequest
from datasets_scripts.nodes.chat_limits import MAX_BYTES
from datasets_scripts.nodes.chat_openai import OpenAIChatModel


MEGABYTE = b"x" * (1 << 20)
REQUEST = ChatRequest(({"role": "user", "content": "hello"},), name="post 'a', pair 0")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VMHAN_LLM_API_KEY", raising=False)


def sent(body, code=200, pause=0.0, **headers):
    """A reply that writes chunks (an iterable, perhaps endless) as they are; counts what could be sent."""

    def reply(handler):
        handler.send_response(code)
        for name, value in {"Content-Type": "application/json", "Retry-After-Ms": "1", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        for chunk in body:
            handler.wfile.write(chunk)
            handler.wfile.flush()
            reply.bytes += len(chunk)
            time.sleep(pause)

    reply.bytes = 0
    return reply


def endless(chunk):
    while True:
        yield chunk


def completion(text):
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@functools.cache
def bomb(coding, size=150):
    """150 MB in a few kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join([packer.compress(MEGABYTE) for _ in range(size)] + [packer.flush()])


def complete(server, timeout=5.0, max_retries=1, **fields):
    model = OpenAIChatModel("m", server.url, timeout=timeout, max_retries=max_retries, **fields)
    return model.complete([REQUEST], lambda index, answer: None)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (endless(MEGABYTE), {}),
        ([MEGABYTE] * 150, {"Content_Length": str(150 << 20)}),
        ([completion("x" * MAX_BYTES)], {}),
        ([bomb("gzip")], {"Content_Encoding": "gzip"}),
        ([bomb("deflate")], {"Content_Encoding": "deflate"}),
        (endless(bomb("gzip", 1)), {"Content_Encoding": "gzip"}),
    ],
    ids=["endless", "150 MB", "a long answer", "gzip bomb", "deflate bomb", "endless gzip"],
)
def test_too_long_an_answer_is_an_error_that_costs_little(body, headers):
    reply = sent(body, **headers)
    with ChatServer(lambda number, _: reply) as server:
        with pytest.raises(ChatError, match=rf"post 'a', pair 0.*'m' at 127.0.0.1.*{MAX_BYTES} bytes"):
            complete(server)
        tracemalloc.start()
        start = time.monotonic()
        with pytest.raises(ChatError):
            complete(server)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        (answer,) = complete(server, on_failure="empty")
    assert time.monotonic() - start < 5 and peak < 24 << 20 and reply.bytes < 60 << 20
    assert isinstance(answer, ChatError) and answer.status is None


@pytest.mark.parametrize("code", [400, 401, 404, 413, 429, 500])
@pytest.mark.parametrize("packed", [False, True])
def test_of_an_endless_error_the_beginning_is_read_and_the_status_kept(code, packed):
    body, headers = ([bomb("gzip")], {"Content_Encoding": "gzip"}) if packed else (endless(MEGABYTE), {})
    with ChatServer(lambda number, _: sent(body, code, **headers)) as server:
        with pytest.raises(ChatError, match=f"HTTP {code}: xxx") as caught:
            complete(server)
    assert caught.value.status == code and len(str(caught.value)) < 1000


@pytest.mark.parametrize("code", [200, 500])
def test_a_body_that_drips_is_given_up_like_a_server_that_says_nothing(code):
    start = time.monotonic()
    with ChatServer(lambda number, _: sent(endless(b" "), code, pause=0.05)) as server:
        with pytest.raises(ChatError, match="(?i)time"):
            complete(server, timeout=0.4, max_retries=1)
        assert len(server.bodies) == 2 and time.monotonic() - start < 4


def test_what_drips_once_is_tried_again():
    with ChatServer(lambda number, _: sent(endless(b" "), pause=0.05) if number == 1 else "yes") as server:
        assert complete(server, timeout=0.4) == [ChatAnswer("yes")]


@pytest.mark.parametrize(
    ("pack", "coding"),
    [
        (lambda body: body, "identity"),
        (gzip.compress, "gzip"),
        (gzip.compress, "GZIP"),
        (zlib.compress, "deflate"),
    ],
)
def test_short_answers_are_read_however_they_are_packed(pack, coding):
    body = pack(completion("yes"))
    with ChatServer(lambda number, _: sent([body[:9], body[9:]], Content_Encoding=coding)) as server:
        assert complete(server) == [ChatAnswer("yes")]
        assert server.headers[0]["accept-encoding"] == "identity"
        longest = completion("x" * MAX_CHARACTERS)
    with ChatServer(lambda number, _: sent([pack(longest)], Content_Encoding=coding)) as server:
        assert complete(server) == [ChatAnswer("x" * MAX_CHARACTERS)]


@pytest.mark.parametrize(
    ("body", "coding"), [(b"no gzip", "gzip"), (b"x", "br"), (gzip.compress(b"{}" * 9, mtime=0)[:-12], "gzip")]
)
def test_a_body_that_cannot_be_unpacked_is_an_error(body, coding):
    with ChatServer(lambda number, _: sent([body], Content_Encoding=coding)) as server:
        with pytest.raises(ChatError, match="post 'a', pair 0"):
            complete(server)


def test_no_more_than_an_answer_is_kept(tmp_path):
    long = Say("y" * (MAX_CHARACTERS + 1))
    with ChatServer(lambda number, _: long) as server:
        model = CachedChatModel(OpenAIChatModel("m", server.url, timeout=5.0), tmp_path)
        for _ in range(2):
            assert model.complete([REQUEST]) == [ChatAnswer("y" * MAX_CHARACTERS, truncated=True)]
    (path,) = tmp_path.rglob("*.json")
    assert path.stat().st_size < MAX_CHARACTERS + 2000


def test_a_status_is_still_tried_again_and_response_format_still_left_out():
    replies = [Status(500, "x" * 10), "yes"]
    with ChatServer(lambda number, _: replies[number - 1]) as server:
        assert complete(server) == [ChatAnswer("yes")]
