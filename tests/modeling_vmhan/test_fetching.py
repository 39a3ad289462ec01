"""Images by URL from a real server on 127.0.0.1 that also stalls, drips, floods, redirects and talks nonsense."""

import http.server
import io
import threading
import time
import urllib.parse

import pytest
from PIL import Image

from modeling_vmhan.fetching import _is_public, fetch_image, is_url


def png():
    buffer = io.BytesIO()
    Image.effect_noise((8, 8), 50).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = png()
ANSWERS = {"picture": PICTURE, "html": b"<html>a page about the picture</html>", "empty": b""}
REDIRECTS = {"moved": "/picture", "to-file": "file:///etc/hostname", "to-ftp": "ftp://127.0.0.1/picture.png"}
REDIRECTS |= {"to-data": "data:image/png;base64,AA", "in-circles": "/in-circles?{}x"}


class Handler(http.server.BaseHTTPRequestHandler):
    """What each path does is its name."""

    def do_GET(self):
        name = urllib.parse.urlsplit(self.path).path.strip("/")  # a proxy is asked for whole URLs
        if name in ANSWERS:
            self.answer(ANSWERS[name])
        elif name in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[name].format(self.path[-200:]))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            getattr(self, name.replace("-", "_"), lambda: self.send_error(404))()

    def answer(self, body, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def stall(self):
        self.server.released.wait(20)

    def drip_headers(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self.drip(b"X-Slow: yes\r\n")

    def drip_body(self):
        self.send_response(200)
        self.end_headers()
        self.drip(b".")

    def drip(self, drop):
        try:
            while not self.server.released.wait(0.05):
                self.wfile.write(drop)
        except OSError:  # the client hung up, as it should
            self.server.hung_up.set()

    def announced(self):
        self.answer(b"", length=10**9)

    def flood(self):
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.released.is_set():
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.server.hung_up.set()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    running.released, running.hung_up = threading.Event(), threading.Event()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def fetch(server, monkeypatch):
    """`fetch(path)` from the loopback server, without the environment's proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def fetched(path, **options):
        options = {"allow_private": True, "timeout": 5.0, **options}
        return fetch_image(f"http://127.0.0.1:{server.server_port}/{path}", **options)

    return fetched


@pytest.mark.parametrize("path", ["picture", "picture?size=8", "moved"])
def test_a_picture_arrives_as_it_is(path, fetch):
    assert fetch(path, max_bytes=len(PICTURE)) == PICTURE


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        ("picture", ValueError, f"url_max_bytes={len(PICTURE) - 1} "),  # one byte more than the limit
        ("announced", ValueError, "url_max_bytes="),  # refused unread
        ("to-file", OSError, "/to-file' cannot be had.*file"),  # a redirect may not leave http
        ("to-ftp", OSError, "/to-ftp' cannot be had.*ftp"),
        ("to-data", OSError, "/to-data' cannot be had.*data"),
        ("in-circles", OSError, "/in-circles' .*302"),
        ("nowhere", OSError, "/nowhere' cannot be had.*404"),
        ("html", ValueError, "/html' gives no image .*b'<html>a page"),
        ("empty", ValueError, "/empty' gives no image .*b''"),
    ],
)
def test_what_cannot_be_had_is_an_error(path, error, match, fetch):
    with pytest.raises(error, match=match):
        fetch(path, max_bytes=len(PICTURE) - 1)


@pytest.mark.parametrize("path", ["stall", "drip-headers", "drip-body"])
def test_a_slow_server_is_given_up_in_time(path, fetch):
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"/{path}'.* 0.3 s.*url_timeout"):
        fetch(path, timeout=0.3)
    assert time.monotonic() - started < 2


def test_a_flood_is_cut_off(fetch, server):
    server.hung_up.clear()
    with pytest.raises(ValueError, match="url_max_bytes=100000"):
        fetch("flood", max_bytes=100_000)
    assert server.hung_up.wait(5)  # the connection was closed, not drained


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "FILE:/etc/hostname", "ftp://a.org/x.png", "data:image/png;base64,AA", "http://"]
)
def test_other_schemes_and_local_files_are_refused(url):
    assert is_url(url)
    with pytest.raises(ValueError, match="http:// or https:// .*received " + repr(url)):
        fetch_image(url)


@pytest.mark.parametrize("path", ["photo.jpg", "/data/a:b.jpg", "C:\\photos\\x.png", "a b: c.png", b"file:", 3, None])
def test_paths_are_no_urls(path):
    assert not is_url(path)


def test_private_addresses_are_refused_unless_allowed(fetch, server):
    with pytest.raises(ValueError, match="host '127.0.0.1' is at 127.0.0.1.*allow_private_urls"):
        fetch("picture", allow_private=False)
    with pytest.raises(ValueError, match="host 'localhost' is at "):
        fetch_image(f"http://localhost:{server.server_port}/picture", timeout=5)


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("10.0.0.1", False), ("169.254.169.254", False), ("::1", False),
     ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True), ("fe80::1%eth0", False), ("0.0.0.0", False)],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert _is_public(address) == public


def test_a_proxy_may_be_private_and_its_exceptions_are_not(fetch, server, monkeypatch):
    """The loopback server as the proxy: it is asked for any host. A host that goes around it is checked."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    assert fetch_image("http://example.invalid/picture", timeout=5) == PICTURE
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ValueError, match="host '127.0.0.1'"):
        fetch("picture", allow_private=False)


def test_a_dead_port_is_an_error(fetch):
    with pytest.raises(OSError, match="127.0.0.1:9/x.png' cannot be had.*refused"):
        fetch_image("http://127.0.0.1:9/x.png", allow_private=True, timeout=5)
