"""A real OpenAI-compatible chat server on 127.0.0.1 that answers, and fails in every way a server can."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Status:
    """A reply with an HTTP status and a body; the openai package tries again after a thousandth of a second."""

    def __init__(self, code, body="", **headers):
        self.code, self.body = code, body if isinstance(body, str) else json.dumps(body)
        self.headers = {"Retry-After-Ms": "1"} | headers


DROP, HALF, STALL = "drop", "half", "stall"  # close at once; close within the body; say nothing


class Say(str):
    """The text of an answer; `finish` as the server reports it."""

    finish = "stop"


class ChatServer:
    """Serves POST /v1/chat/completions; `reply(request number from 1, body)` decides what comes back.

    `bodies` and `headers` are of all requests in the order they came; `high_water` is the largest number that was
    under way at once.
    """

    def __init__(self, reply, latency=0.0):
        self.reply, self.latency = reply, latency
        self.bodies, self.headers = [], []
        self.in_flight = self.high_water = 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    def __enter__(self):
        methods = {"do_POST": lambda handler: self.serve(handler), "log_message": lambda *args: None}
        handler = type("Handler", (BaseHTTPRequestHandler,), methods | {"protocol_version": "HTTP/1.1"})
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.httpd.daemon_threads = True
        self.thread = threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.httpd.server_port}/v1"

    @property
    def prompts(self):
        return [prompt_of(body) for body in self.bodies]

    def wait_for(self, number, seconds=5.0):
        """Hold a reply back until `number` requests have been under way at once, or the time is over."""
        end = time.monotonic() + seconds
        while self.high_water < number and time.monotonic() < end:
            time.sleep(0.005)

    def serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            number = len(self.bodies)
            self.in_flight += 1
            self.high_water = max(self.high_water, self.in_flight)
        try:
            time.sleep(self.latency)
            reply = self.reply(number, body)
        finally:
            with self.lock:
                self.in_flight -= 1
        try:
            self.send(handler, reply)
        except OSError:  # the client has given up
            handler.close_connection = True

    def send(self, handler, reply):
        handler.close_connection = reply in (DROP, HALF, STALL)
        if reply == STALL:
            self.closing.wait(10)
        if reply in (DROP, STALL):
            return
        if callable(reply):  # it writes what it likes
            handler.close_connection = True
            reply(handler)
            return
        is_half = reply == HALF
        if not isinstance(reply, Status):
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": getattr(reply, "finish", "stop")}
            completion = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]}
            reply = Status(200, completion)
        encoded = reply.body.encode()
        handler.send_response(reply.code)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(encoded)))
        handler.end_headers()
        handler.wfile.write(encoded[:10] if is_half else encoded)


def prompt_of(body):
    """The text of a request's first message."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def image_of(body):
    """(content type, bytes) of a request's image, None if it has none."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return None
    kind, encoded = re.fullmatch(r"data:(image/\w+);base64,(.*)", content[0]["image_url"]["url"]).groups()
    return kind, base64.b64decode(encoded)
