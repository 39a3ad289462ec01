"""Chat models over HTTP and their cache, against a real loopback server that also fails, stalls and talks nonsense."""

import json
import logging
import signal
import sys
import threading
import traceback

import pytest
from chat_server import DROP, HALF, STALL, ChatServer, Say, Status, image_of, prompt_of

from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatError, ChatRequest, request_key
from datasets_scripts.nodes.chat_openai import OpenAIChatModel
from datasets_scripts.nodes.prompts import parse_answer


KEY = "sk-verysecret0123456789"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def environment(monkeypatch, caplog):
    """No proxy between the client and loopback, no key; everything is logged."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VMHAN_LLM_API_KEY", raising=False)
    caplog.set_level(logging.DEBUG)


def ask(text="hello", **fields):
    return ChatRequest(({"role": "user", "content": text},), **fields)


def echo(number, body):
    return f"answer to {prompt_of(body)}"


def model_of(server, name="m", **fields):
    return OpenAIChatModel(name, server.url, **{"timeout": 5.0, "max_retries": 1} | fields)


def complete(model, *requests):
    return model.complete(requests, lambda index, answer: None)


def first_times(*replies):
    """A reply function that goes through `replies` first."""
    return lambda number, body: replies[number - 1] if number <= len(replies) else echo(number, body)


REQUESTS = [ask(str(number)) for number in range(30)]
WHOLE = [ChatAnswer(f"answer to {number}") for number in range(30)]


def test_answers_come_in_order_from_several_requests_at_a_time():
    told = {}

    def reply(number, body):
        server.wait_for(4)
        return echo(number, body)

    with ChatServer(reply) as server:
        assert model_of(server, concurrency=4).complete(REQUESTS, told.__setitem__) == WHOLE
        assert server.high_water == 4
    assert told == dict(enumerate(WHOLE))


def test_the_request_has_model_parameters_schema_image_and_key(monkeypatch):
    for name, value in (("OTHER_KEY", f"{KEY}\n"), ("OPENAI_ORG_ID", "somebody"), ("OPENAI_API_KEY", "sk-other")):
        monkeypatch.setenv(name, value)
    png = b"\x89PNG not really"
    turns = tuple({"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("user", "b")))
    with ChatServer(echo) as server:
        model = model_of(server, "llava", parameters={"max_tokens": 7, "top_k": 1}, api_key_env="OTHER_KEY")
        complete(model, ChatRequest(turns, image=png, schema=SCHEMA))
        complete(model_of(server), ask(image=b"\xff\xd8"))  # without a key
        (body, second), (headers, others) = server.bodies, server.headers
    assert (body["model"], body["max_tokens"], body["top_k"]) == ("llava", 7, 1)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert (image_of(body), prompt_of(body)) == (("image/png", png), "q")
    assert image_of(second)[0] == "image/jpeg" and "response_format" not in second
    assert headers["authorization"] == f"Bearer {KEY}" and "openai-organization" not in headers
    assert "sk-other" not in json.dumps(others)


def test_a_cut_answer_an_empty_one_and_half_a_surrogate():
    cut = Say('{"a": [1')
    cut.finish = "length"
    with ChatServer(first_times(cut, None, "\ud83d!")) as server:
        answers = complete(model_of(server, concurrency=1), ask(), ask(), ask())
    assert answers == [ChatAnswer(cut, truncated=True), ChatAnswer(""), ChatAnswer("?!")]


@pytest.mark.parametrize(
    "failure",
    [Status(500), Status(408), Status(429), DROP, HALF, STALL],
    ids=["500", "408", "429", "drop", "half", "stall"],
)
def test_a_passing_failure_is_tried_again_and_one_that_stays_is_an_error(failure):
    with ChatServer(first_times(failure)) as server:
        assert complete(model_of(server, timeout=0.5), ask()) == [ChatAnswer("answer to hello")]
        assert len(server.bodies) == 2
    with ChatServer(lambda number, body: failure) as server, pytest.raises(ChatError, match="'llama3' at 127.0.0.1"):
        complete(model_of(server, "llama3", timeout=0.1, max_retries=0), ask())
    with pytest.raises(OSError, match="p 1: .*Connection"):  # nobody listens any more
        complete(model_of(server, max_retries=0), ask(name="p 1"))


@pytest.mark.parametrize(
    "body",
    ["<html>proxy error</html>", "{", '{"choices": []}', '{"choices": [{"message": {"content": [1]}}]}', "[" * 99_999],
)
def test_a_body_that_is_no_completion_is_an_error(body):
    with ChatServer(lambda number, _: Status(200, body)) as server, pytest.raises(ChatError) as caught:
        complete(model_of(server), ask())
    assert body[:200] in str(caught.value)


@pytest.mark.parametrize("code", [401, 403, 404, 405])
def test_with_on_failure_empty_only_a_wrong_key_or_address_raises(code):
    def reply(number, body):
        return Status(413, {"error": "bad picture"}) if prompt_of(body) == "1" else echo(number, body)

    with ChatServer(reply) as server:
        answers = complete(model_of(server, on_failure="empty"), *REQUESTS[:3])
        assert len(server.bodies) == 3  # what the server refuses is not repeated
    assert (answers[0], answers[1].status, answers[2]) == (WHOLE[0], 413, WHOLE[2])
    assert isinstance(answers[1], ChatError) and "bad picture" in str(answers[1])
    with ChatServer(lambda number, body: Status(code, "no")) as server:
        with pytest.raises(ChatError, match=f"HTTP {code}"):
            complete(model_of(server, on_failure="empty", concurrency=2), *REQUESTS)
        assert len(server.bodies) < len(REQUESTS)


def everything(error):
    """All text that hangs on an exception."""
    text = "".join(traceback.format_exception(error)) + repr(error.__dict__) + repr(error.args)
    return text + "".join(everything(linked) for linked in (error.__cause__, error.__context__) if linked)


@pytest.mark.parametrize("code", [401, 500, 200])
def test_the_key_is_in_no_error_log_or_description(code, monkeypatch, caplog):
    monkeypatch.setenv("VMHAN_LLM_API_KEY", KEY)
    shown = f"you sent Bearer {KEY}"  # a tactless server
    shown += " " + "x" * (300 - len(shown) - 20) + f" Bearer {KEY}"  # and where errors are cut, too
    with ChatServer(lambda number, body: Status(code, shown)) as server:
        model = model_of(server)
        with pytest.raises(ChatError, match=r"you sent Bearer \[API key\]") as caught:
            complete(model, ask())
        assert f"Bearer {KEY}" in json.dumps(server.headers)
    assert KEY[:6] not in everything(caught.value) + caplog.text + json.dumps(model.description)


@pytest.mark.parametrize(
    ("is_rejected", "sent"),
    [
        (lambda body: "response_format" in body, [True, False, False, False]),  # the server does not know it
        (lambda body: prompt_of(body) == "0", [True, False, True, True]),  # one bad picture
    ],
)
def test_a_server_that_rejects_response_format_is_asked_without_it(is_rejected, sent):
    def reply(number, body):
        return Status(422, "no") if is_rejected(body) else echo(number, body)

    with ChatServer(reply) as server:
        model = model_of(server, concurrency=1, on_failure="empty")
        assert complete(model, *(ask(str(number), schema=SCHEMA) for number in range(3)))[1:] == WHOLE[1:3]
        assert ["response_format" in body for body in server.bodies] == sent


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("model", ""),
        *(("base_url", url) for url in ("ftp://host/v1", "host:8000/v1", "file:///etc/passwd", "http://host:port/v1")),
        *(("base_url", url) for url in ("http://me:sk-w0rd@host/v1", "http://host/v1?key=sk-w0rd")),
        ("concurrency", 0),
        ("max_retries", 1.5),
        *(("timeout", seconds) for seconds in (0, float("inf"))),
        ("on_failure", "skip"),
        ("api_key_env", "BAD_KEY"),
    ],
)
def test_bad_arguments(argument, value, monkeypatch):
    monkeypatch.setenv("BAD_KEY", "sk-ключ")
    with pytest.raises(ValueError, match=rf"{argument}: .*received") as caught:
        OpenAIChatModel(**{"model": "m", "base_url": "http://host/v1"} | {argument: value})
    assert "sk-" not in str(caught.value)


def test_without_the_packages(monkeypatch):
    for name in ("openai", "jsonschema"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"vmhan\[llm\]"):
        complete(OpenAIChatModel("m", "http://127.0.0.1:1/v1"), ask())
    with pytest.raises(ImportError, match=r"vmhan\[llm\]"):
        parse_answer(ChatAnswer("{}"), SCHEMA)


def cached(server, folder, **fields):
    return CachedChatModel(model_of(server, **fields), folder)


def kept_prompts(folder):
    files = folder.rglob("*.json")
    return [json.loads(path.read_text())["request"]["messages"][0]["content"] for path in files]


def test_nothing_is_asked_twice_and_errors_are_not_kept(tmp_path):
    requests = [ask("a"), ask("b"), ask("a", name="again")]
    expected = [ChatAnswer(f"answer to {text}") for text in "aba"]
    with ChatServer(first_times(Status(400, "no"))) as server:
        (error,) = cached(server, tmp_path, on_failure="empty").complete([ask("a")])
        assert isinstance(error, ChatError)
        assert cached(server, tmp_path).complete(requests) == expected
        assert sorted(server.prompts) == ["a", "a", "b"] and sorted(kept_prompts(tmp_path)) == ["a", "b"]
    assert cached(server, tmp_path).complete(requests) == expected  # the server is not even there


def test_the_key_depends_on_everything_that_is_sent():
    def key(model="m", parameters=None, **request):
        return request_key(OpenAIChatModel(model, "http://host/v1", parameters=parameters), ask(**request))

    different = [key(), key(model="n"), key(parameters={"temperature": 1}), key(text="other")]
    different += [key(image=b"1"), key(image=b"2"), key(schema=SCHEMA)]
    assert len(set(different)) == len(different)
    assert key(name="other name") == key()


@pytest.mark.parametrize("damage", [b"", b'{"text": "', b"[]", b"null", b'{"text": "y"}', b"[" * 99_999, b"\xff\xfe"])
def test_a_damaged_file_is_asked_for_again(damage, tmp_path, caplog):
    with ChatServer(echo) as server:
        cached(server, tmp_path).complete([ask()])
        (path,) = tmp_path.rglob("*.json")
        whole = path.read_bytes()
        path.write_bytes(damage)
        assert cached(server, tmp_path).complete([ask()]) == [ChatAnswer("answer to hello")]
        assert len(server.bodies) == 2
    assert path.read_bytes() == whole and str(path) in caplog.text


@pytest.mark.parametrize("is_ctrl_c", [False, True])
def test_an_interrupted_run_resumes_with_the_rest(is_ctrl_c, tmp_path, monkeypatch):
    def reply(number, body):
        if number == 10 and is_ctrl_c:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Status(400, "down") if number == 10 and not is_ctrl_c else echo(number, body)

    # Python's own handler: a process that a shell started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with ChatServer(reply, latency=0.05) as server:
        with pytest.raises(KeyboardInterrupt if is_ctrl_c else ChatError):
            cached(server, tmp_path, concurrency=2).complete(REQUESTS)
        sent = server.prompts
    signal.signal(signal.SIGINT, before)
    kept = kept_prompts(tmp_path)
    assert 10 <= len(sent) < 30 and len(kept) == len(sent) - (not is_ctrl_c) and set(kept) <= set(sent)
    with ChatServer(echo) as server:
        assert cached(server, tmp_path).complete(REQUESTS) == WHOLE
        assert len(server.prompts) == 30 - len(kept) and set(server.prompts).isdisjoint(kept)
