"""Chat models over HTTP and their cache, against a real loopback server that also fails, stalls and talks nonsense."""

import datetime
import email.utils
import json
import logging
import signal
import socket
import sys
import threading
import time
import traceback

import pytest
from chat_server import DROP, HALF, STALL, ChatServer, Raw, Say, Status, image_of, prompt_of

from datasets_scripts.nodes import chat_openai as llm_openai
from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatError, ChatRequest, request_key
from datasets_scripts.nodes.chat_openai import OpenAIChatModel


KEY = "sk-verysecret0123456789"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FAST = {"timeout": 5.0, "backoff": 0.01, "max_attempts": 3}


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


def complete(model, *requests):
    return model.complete(requests, lambda index, answer: None)


def first_times(replies, then=echo):
    """A reply function that goes through `replies` first."""
    return lambda number, body: replies[number - 1] if number <= len(replies) else then(number, body)


# what is sent and what comes back ------------------------------------------------------------------------------------


def test_answers_come_in_order_and_on_answer_is_told_each():
    told = {}
    with ChatServer(echo) as server:
        model = OpenAIChatModel("llama3", server.url, **FAST)
        answers = model.complete([ask(str(number)) for number in range(20)], told.__setitem__)
    assert answers == [ChatAnswer(f"answer to {number}") for number in range(20)]
    assert told == dict(enumerate(answers))


def test_the_request_has_model_parameters_schema_image_and_key(monkeypatch):
    monkeypatch.setenv("OTHER_KEY", f"{KEY}\n")
    monkeypatch.setenv("OPENAI_ORG_ID", "somebody")
    png = b"\x89PNG not really"
    turns = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"})
    with ChatServer(echo) as server:
        model = OpenAIChatModel("llava", server.url, parameters={"max_tokens": 7, "top_k": 1}, api_key_env="OTHER_KEY")
        complete(model, ChatRequest(turns, image=png, schema=SCHEMA), ask(image=b"\xff\xd8"))
        body, second = server.bodies
        headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert (body["model"], body["max_tokens"], body["top_k"]) == ("llava", 7, 1)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert (image_of(body), prompt_of(body)) == (("image/png", png), "q")
    assert image_of(second)[0] == "image/jpeg" and "response_format" not in second
    assert headers["authorization"] == f"Bearer {KEY}"
    assert "openai-organization" not in headers


def test_without_a_key_a_placeholder_is_sent_and_openai_s_own_variables_are_not(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(echo) as server:
        complete(OpenAIChatModel("m", server.url), ask())
        assert KEY not in json.dumps(server.headers)


def test_concurrency_is_bounded_and_the_first_request_goes_alone():
    def reply(number, body):
        if number > 1:
            server.wait_for(4)
        return echo(number, body)

    with ChatServer(reply, latency=0.05) as server:
        model = OpenAIChatModel("m", server.url, concurrency=4, timeout=20)
        complete(model, *(ask(str(number)) for number in range(13)))
        assert server.high_water == 4
        assert server.times[1] - server.times[0] > 0.05  # not before the first was answered


def test_a_cut_answer_an_empty_one_and_half_a_surrogate():
    cut = Say('{"a": [1')
    cut.finish = "length"
    with ChatServer(first_times([cut, None, "\ud83d!"])) as server:
        model = OpenAIChatModel("m", server.url, concurrency=1, **FAST)
        answers = complete(model, ask(), ask(), ask())
    assert answers == [ChatAnswer(cut, truncated=True), ChatAnswer(""), ChatAnswer("?!")]


# failures that pass --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        Status(500, "oops"),
        Status(503),
        Status(408),
        Status(429, "slow down"),
        DROP,
        HALF,
        Raw("<html>proxy error</html>", "text/html"),
        Raw("{"),
        Raw('{"choices": []}'),
        Raw('{"choices": [{"message": {"content": [1]}}]}'),
        Raw("[" * 100_000),
    ],
    ids=lambda reply: f"{type(reply).__name__} {getattr(reply, 'code', '')} {getattr(reply, 'body', reply)}"[:40],
)
def test_a_passing_failure_is_tried_again(failure, caplog):
    with ChatServer(first_times([failure, failure])) as server:
        assert complete(OpenAIChatModel("m", server.url, **FAST), ask()) == [ChatAnswer("answer to hello")]
        assert len(server.bodies) == 3
    assert caplog.text.count("next attempt in") == 2


def test_a_stalled_attempt_is_given_up_and_tried_again(caplog):
    with ChatServer(first_times([STALL])) as server:
        model = OpenAIChatModel("m", server.url, timeout=0.3, backoff=0.01)
        assert complete(model, ask()) == [ChatAnswer("answer to hello")]
    assert "no answer within 0.3 s" in caplog.text


def test_waits_double_and_retry_after_is_honoured():
    failures = [Status(500), Status(500), Status(429, "", Retry_After="0.5")]
    with ChatServer(first_times(failures)) as server:
        complete(OpenAIChatModel("m", server.url, timeout=5, backoff=0.1, max_attempts=4), ask())
        waits = [later - earlier for earlier, later in zip(server.times, server.times[1:])]
    assert waits[0] >= 0.05 and waits[1] >= 0.1 and waits[2] >= 0.5  # a wait is shortened by up to a half


def test_retry_after_is_read_in_seconds_or_as_a_date():
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
    assert llm_openai._retry_after("1.5") == 1.5
    assert 25 < llm_openai._retry_after(email.utils.format_datetime(soon, usegmt=True)) <= 30
    assert 25 < llm_openai._retry_after(email.utils.format_datetime(soon.replace(tzinfo=None))) <= 30
    assert llm_openai._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [llm_openai._retry_after(value) for value in (None, "", "soon", "-3")] == [0, 0, 0, 0]


# failures that stay --------------------------------------------------------------------------------------------------


def test_a_failure_that_stays_is_an_error_that_tells_all(caplog):
    with ChatServer(lambda number, body: Status(500, "out of memory")) as server:
        model = OpenAIChatModel("llama3", server.url, **FAST)
        with pytest.raises(
            ChatError, match=r"p 1: expected an answer of 'llama3' at 127.0.0.1:\d+, asked 3 times.*500"
        ):
            complete(model, ask(name="p 1"))
        with pytest.raises(
            OSError, match="HTTP 500: 'out of memory'. See that the server is up; .*run again to go on"
        ):
            complete(model, ask())
        assert len(server.bodies) == 6


def test_a_stall_that_stays():
    with ChatServer(lambda number, body: STALL) as server:
        with pytest.raises(ChatError, match="asked 2 times, received: no answer within 0.2 s"):
            complete(OpenAIChatModel("m", server.url, timeout=0.2, backoff=0.01, max_attempts=2), ask())


def test_nobody_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        model = OpenAIChatModel("m", f"http://127.0.0.1:{unused.getsockname()[1]}/v1", **FAST)
        with pytest.raises(ChatError, match=r"asked 3 times, received: connection failed \(ConnectError"):
            complete(model, ask())


def test_a_retry_after_longer_than_max_wait_ends_the_attempts():
    with ChatServer(lambda number, body: Status(429, "quota", Retry_After="3600")) as server:
        with pytest.raises(ChatError, match="asked once.*asks to wait 3600 s, longer than max_wait=60"):
            complete(OpenAIChatModel("m", server.url), ask())


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_request_the_server_refuses_is_not_repeated(code):
    with ChatServer(lambda number, body: Status(code, {"error": {"message": "prompt too long"}})) as server:
        with pytest.raises(
            ChatError, match=f"asked once, received: HTTP {code}: .*prompt too long.*See what the server"
        ):
            complete(OpenAIChatModel("m", server.url), ask())
        assert len(server.bodies) == 1


def test_on_failure_empty_leaves_the_error_in_the_place_of_the_answer():
    def reply(number, body):
        return Status(400, "bad picture") if prompt_of(body) == "1" else echo(number, body)

    with ChatServer(reply) as server:
        model = OpenAIChatModel("m", server.url, on_failure="empty", **FAST)
        answers = complete(model, *(ask(str(number), schema=SCHEMA) for number in range(3)))
    assert isinstance(answers[1], ChatError) and "bad picture" in str(answers[1])
    assert (answers[0], answers[2]) == (ChatAnswer("answer to 0"), ChatAnswer("answer to 2"))


@pytest.mark.parametrize("code", [401, 403, 404, 405])
def test_a_wrong_key_or_address_always_raises_after_one_request(code):
    with ChatServer(lambda number, body: Status(code, "no")) as server:
        model = OpenAIChatModel("m", server.url, on_failure="empty")
        with pytest.raises(ChatError, match=f"HTTP {code}.*Check the address, the model's name and the API key"):
            complete(model, *(ask(str(number)) for number in range(9)))
        assert len(server.bodies) == 1


def everything(error):
    """All text that hangs on an exception."""
    chain, text = [error], ""
    while chain:
        error = chain.pop()
        text += "".join(traceback.format_exception(error)) + repr(error.__dict__) + repr(error.args)
        chain += [linked for linked in (error.__cause__, error.__context__) if linked]
    return text


@pytest.mark.parametrize("code", [401, 500, 200])
def test_the_key_is_in_no_error_log_or_description(code, monkeypatch, caplog):
    monkeypatch.setenv("VMHAN_LLM_API_KEY", KEY)
    shown = f"you sent Bearer {KEY}"  # a tactless server
    shown += " " + "x" * (300 - len(shown) - 20) + f" Bearer {KEY}"  # and where errors are cut, too
    with ChatServer(lambda number, body: Status(code, shown) if code != 200 else Raw(shown)) as server:
        model = OpenAIChatModel("m", server.url, **FAST)
        with pytest.raises(ChatError, match=r"you sent Bearer \[API key\]") as caught:
            complete(model, ask())
        assert f"Bearer {KEY}" in json.dumps(server.headers)
    assert "127.0.0.1" in caplog.text
    for text in (everything(caught.value), caplog.text, json.dumps(model.description)):
        assert KEY not in text and KEY[:6] not in text


# response_format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 422])
def test_a_server_that_rejects_response_format_is_asked_without_it(code, caplog):
    def reply(number, body):
        return Status(code, "unknown field: response_format") if "response_format" in body else echo(number, body)

    with ChatServer(reply) as server:
        model = OpenAIChatModel("m", server.url, **FAST)
        answers = complete(model, *(ask(str(number), schema=SCHEMA) for number in range(6)))
        assert len(server.bodies) == 7  # one rejected request in all
    assert [answer.text for answer in answers] == [f"answer to {number}" for number in range(6)]
    assert caplog.text.count("rejects response_format") == 1


def test_one_bad_request_does_not_end_response_format():
    def reply(number, body):
        return Status(400, "bad picture") if prompt_of(body) == "bad" else echo(number, body)

    with ChatServer(reply) as server:
        model = OpenAIChatModel("m", server.url, on_failure="empty", **FAST)
        complete(model, ask("bad", schema=SCHEMA), ask("good", schema=SCHEMA))
        assert ["response_format" in body for body in server.bodies] == [True, False, True]


# arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, "model: expected the name"),
        ({"base_url": "ftp://host/v1"}, "base_url: expected http://HOST/v1 or https://HOST/v1, received 'ftp"),
        ({"base_url": "host:8000/v1"}, "base_url: expected http://HOST/v1"),
        ({"base_url": "file:///etc/passwd"}, "base_url: expected http://HOST/v1"),
        ({"base_url": "http://host:port/v1"}, "base_url: expected http://HOST/v1"),
        ({"base_url": "http://me:word@host/v1"}, "base_url: expected no user, password.* received some for host"),
        ({"base_url": "http://host/v1?key=abc"}, "base_url: expected no user, password, query"),
        ({"concurrency": 0}, "concurrency: expected an int of at least 1, received 0"),
        ({"max_attempts": 1.5}, "max_attempts: expected an int of at least 1, received 1.5"),
        ({"timeout": 0}, "timeout: expected a positive number of seconds, received 0"),
        ({"backoff": -1}, "backoff: expected a positive number of seconds, received -1"),
        ({"max_wait": float("inf")}, "max_wait: expected a positive number of seconds, received inf"),
        ({"on_failure": "skip"}, "on_failure: expected 'raise' or 'empty', received 'skip'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        OpenAIChatModel(**{"model": "m", "base_url": "http://host/v1"} | arguments)


def test_a_key_that_cannot_be_sent_is_not_shown(monkeypatch):
    monkeypatch.setenv("VMHAN_LLM_API_KEY", "sk-ключ")
    with pytest.raises(ValueError, match=r"printable ASCII without blanks in \$VMHAN_LLM_API_KEY") as caught:
        OpenAIChatModel("m", "http://host/v1")
    assert "sk-" not in str(caught.value)


def test_description():
    model = OpenAIChatModel("llama3", "https://host:8443/v1")
    assert json.loads(json.dumps(model.description)) == {
        "adapter": "openai",
        "model": "llama3",
        "endpoint": "host:8443",
        "parameters": {"max_tokens": 256, "temperature": 0},
        "openai": llm_openai._installed_version(),
    }
    assert OpenAIChatModel("m", "https://host/v1").description["endpoint"] == "host"


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "vmhan\[llm\]"'):
        complete(OpenAIChatModel("m", "http://127.0.0.1:1/v1"), ask())
    monkeypatch.setattr(
        "importlib.metadata.version",
        lambda name: (_ for _ in ()).throw(llm_openai.importlib.metadata.PackageNotFoundError),
    )
    assert OpenAIChatModel("m", "http://127.0.0.1:1/v1").description["openai"] is None


# the cache -----------------------------------------------------------------------------------------------------------


def cached(server, folder, **fields):
    return CachedChatModel(OpenAIChatModel("m", server.url, **FAST | fields), folder)


def answer_files(folder):
    return sorted(folder.rglob("*.json"))


def test_nothing_is_asked_twice(tmp_path):
    requests = [ask("a"), ask("b"), ask("a", name="again")]
    with ChatServer(echo) as server:
        first = cached(server, tmp_path).complete(requests)
        assert len(server.bodies) == 2  # equal ones once
        second = cached(server, tmp_path).complete(requests)
        assert len(server.bodies) == 2
    assert first == second == [ChatAnswer("answer to a"), ChatAnswer("answer to b"), ChatAnswer("answer to a")]
    assert all(path.parent.name == path.name[:2] for path in answer_files(tmp_path))
    assert len(answer_files(tmp_path)) == 2 and not list(tmp_path.rglob("*.tmp"))
    kept = json.loads(answer_files(tmp_path)[0].read_text())
    assert kept["request"]["messages"][0]["content"] in kept["text"]
    with ChatServer(echo) as gone:
        pass
    assert cached(gone, tmp_path).complete(requests) == first  # the server is not even there


def test_the_key_depends_on_everything_that_is_sent():
    def key(model="m", parameters=None, **request):
        return request_key(OpenAIChatModel(model, "http://host/v1", parameters=parameters), ask(**request))

    different = [
        key(),
        key(model="n"),
        key(parameters={"temperature": 1}),
        key(text="other"),
        key(image=b"1"),
        key(image=b"2"),
        key(schema=SCHEMA),
    ]
    assert len(set(different)) == len(different)
    assert key(name="other name") == key()
    assert all(len(one) == 64 for one in different)


@pytest.mark.parametrize(
    "damage", ["", '{"key": "', "[]", "null", '{"key": "x", "text": "y", "truncated": false}', "[" * 99_999]
)
def test_a_damaged_file_is_asked_for_again(damage, tmp_path, caplog):
    with ChatServer(echo) as server:
        cached(server, tmp_path).complete([ask()])
        (path,) = answer_files(tmp_path)
        whole = path.read_bytes()
        path.write_text(damage)
        assert cached(server, tmp_path).complete([ask()]) == [ChatAnswer("answer to hello")]
        assert len(server.bodies) == 2
    assert path.read_bytes() == whole
    assert f"{path}: not a readable answer" in caplog.text


def test_a_file_that_is_no_utf8_is_asked_for_again(tmp_path, caplog):
    with ChatServer(echo) as server:
        cached(server, tmp_path).complete([ask()])
        answer_files(tmp_path)[0].write_bytes(b"\xff\xfe")
        assert cached(server, tmp_path).complete([ask()]) == [ChatAnswer("answer to hello")]
    assert "not a readable answer" in caplog.text


def test_errors_are_not_kept(tmp_path):
    with ChatServer(first_times([Status(400, "no")])) as server:
        model = cached(server, tmp_path, on_failure="empty")
        assert isinstance(model.complete([ask()])[0], ChatError)
        assert model.complete([ask()]) == [ChatAnswer("answer to hello")]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with ChatServer(echo) as server, pytest.raises(NotADirectoryError):
        cached(server, tmp_path / "file").complete([ask()])


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda source, target: (_ for _ in ()).throw(OSError("disk full")))
    with ChatServer(echo) as server, pytest.raises(OSError, match="disk full"):
        cached(server, tmp_path).complete([ask()])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# interruption --------------------------------------------------------------------------------------------------------


REQUESTS = [ask(str(number)) for number in range(30)]
WHOLE = [ChatAnswer(f"answer to {number}") for number in range(30)]


def asked(server):
    return {prompt_of(body) for body in server.bodies}


def kept_prompts(folder):
    return {json.loads(path.read_text())["request"]["messages"][0]["content"] for path in answer_files(folder)}


def test_a_run_that_ended_in_an_error_resumes_with_the_rest(tmp_path):
    def reply(number, body):
        return echo(number, body) if number <= 12 else Status(400, "down")

    with ChatServer(reply) as server, pytest.raises(ChatError, match="down"):
        cached(server, tmp_path).complete(REQUESTS)
    done = kept_prompts(tmp_path)
    assert len(done) == 12
    with ChatServer(echo) as server:
        assert cached(server, tmp_path).complete(REQUESTS) == WHOLE
        assert len(server.bodies) == 18 and asked(server).isdisjoint(done)


@pytest.fixture
def ctrl_c():
    """Python's own handler: a process that a shell started in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_stops_and_a_new_run_asks_the_rest(tmp_path, ctrl_c):
    def reply(number, body):
        if number == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return echo(number, body)

    with ChatServer(reply, latency=0.05) as server:
        with pytest.raises(KeyboardInterrupt):
            cached(server, tmp_path, concurrency=2).complete(REQUESTS)
        for thread in threading.enumerate():
            if thread.name.startswith("llm"):
                thread.join()  # what was on its way is still kept
        sent = asked(server)
        assert 10 <= len(sent) < 30
    assert kept_prompts(tmp_path) == sent
    with ChatServer(echo) as server:
        assert cached(server, tmp_path).complete(REQUESTS) == WHOLE
        assert asked(server).isdisjoint(sent) and len(server.bodies) == 30 - len(sent)


def test_waiting_attempts_end_with_the_run(tmp_path):
    """While one request waits long for its next attempt another fails for good: nobody waits."""

    def reply(number, body):
        return {"0": "yes", "1": Status(429, "", Retry_After="30"), "2": Status(400, "bad")}[prompt_of(body)]

    begin = time.monotonic()
    with ChatServer(reply, latency=0.05) as server:
        with pytest.raises(ChatError, match="HTTP 400: 'bad'"):
            cached(server, tmp_path, concurrency=2).complete(REQUESTS[:3])
        assert len(server.bodies) == 3
    assert time.monotonic() - begin < 20
