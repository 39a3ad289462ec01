"""A real OpenAI-compatible chat server on 127.0.0.1 that answers, and fails in every way a server can."""

import base64
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Status:
    """A reply with an HTTP status, a body and headers."""

    def __init__(self, code, body="", **headers):
        self.code, self.body, self.headers = code, body, headers


class Raw:
    """A 200 with this body instead of a chat completion."""

    def __init__(self, body, content_type="application/json"):
        self.body, self.content_type = body, content_type


DROP, HALF, STALL = "drop", "half", "stall"  # close at once; close within the body; say nothing


class Say(str):
    """The text of an answer; `finish` as the server reports it."""

    finish = "stop"


class ChatServer:
    """Serves POST /v1/chat/completions; `reply(request number from 1, body)` decides what comes back.

    `bodies`, `headers` and `times` are of all requests in order of arbaseline; `high_water` is the largest number that
    was under way at once.
    """

    def __init__(self, reply, latency=0.0):
        self.reply, self.latency = reply, latency
        self.bodies, self.headers, self.times = [], [], []
        self.in_flight = self.high_water = 0
        self.lock, self.closing = threading.Lock(), threading.Event()

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.serve(self)

            def log_message(self, *args):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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

    def wait_for(self, number, seconds=5.0):
        """Hold a reply back until `number` requests have been under way at once, or the time is over."""
        end = time.monotonic() + seconds
        while self.high_water < number and time.monotonic() < end:
            time.sleep(0.005)

    def serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
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
        if reply is STALL:
            self.closing.wait(10)
        if reply is STALL or reply is DROP:
            handler.close_connection = True
            return
        status = reply if isinstance(reply, Status) else Status(200)
        content_type = "application/json"
        if isinstance(reply, Status):
            body = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        elif isinstance(reply, Raw):
            body, content_type = reply.body, reply.content_type
        else:
            message = {"role": "assistant", "content": None if reply is HALF else reply}
            choice = {"index": 0, "message": message, "finish_reason": getattr(reply, "finish", "stop")}
            body = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]})
        encoded = body.encode()
        handler.send_response(status.code)
        for name, value in status.headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(encoded)))
        handler.end_headers()
        if reply is HALF:
            handler.wfile.write(encoded[:10])
            handler.close_connection = True
            return
        handler.wfile.write(encoded)


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
