"""Images by URL from real servers on 127.0.0.1: good ones, and the hostile ones of `hostile_servers`."""

import contextlib
import http.server
import io
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import urllib.parse

import pytest
from hostile_servers import BAD, KINDS, SLOW, HostileServer
from PIL import Image

from modeling_vmhan import connecting
from modeling_vmhan.fetching import fetch_image


def png():
    buffer = io.BytesIO()
    Image.effect_noise((8, 8), 50).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = png()
PATHS = ("/picture", "/picture?size=8", "/M%C3%A1laga%20(1).png", "/%C3%A9?q=%C3%A9%27")
MOVED = {"/moved": "/picture", "/moved-far": "/moved", "/moved-there": "/M\xc3\xa1laga (1).png#top"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Has the picture at PATHS, and redirects from what is MOVED; a proxy is asked for whole URLs."""

    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        path = self.path.removeprefix("http://" + urllib.parse.urlsplit(self.path).netloc)
        if path in MOVED or path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", MOVED.get(path) or urllib.parse.unquote(path[4:]))
            self.end_headers()
        elif path in PATHS:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(server):
    server.daemon_threads, server.asked = True, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def server():
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def fetch(server):
    """`fetch(path)` from the good server."""

    def fetched(path, **options):
        options = {"allow_private": True, "timeout": 5.0, **options}
        return fetch_image(f"http://127.0.0.1:{server.server_port}{path}", **options)

    return fetched


@pytest.fixture
def names(monkeypatch):
    """Host -> its addresses: what a look-up finds, and how often each host was looked up."""
    known, asked, own = {}, [], socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        asked.append(host)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = known[host]() if callable(known[host]) else known[host]
        return [found for address in answers for found in own(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    known["asked"] = asked
    return known


def ends_in_time(test, seconds=2.0):
    """Whether `test` becomes true within a few seconds."""
    deadline = time.monotonic() + seconds
    while not test() and time.monotonic() < deadline:
        time.sleep(0.005)
    return test()


@pytest.mark.parametrize(
    "path", ["/picture", "/picture?size=8", "/moved", "/moved-far", "/moved-there", "/Málaga (1).png", "/é?q=é'#x"]
)
def test_a_picture_arrives_as_it_is(path, fetch):
    assert fetch(path, max_bytes=len(PICTURE)) == PICTURE


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        ("/picture", ValueError, f"url_max_bytes={len(PICTURE) - 1} "),  # one byte more than the limit
        ("/nowhere", OSError, "/nowhere' cannot be had: HTTP 404"),
        *(
            (f"/to?{target}", ValueError, f"/to.*' cannot be had: .*received '{target}'")
            for target in (
                "file:///etc/hostname",
                "ftp://h/x.png",
                "gopher://h/",
                "http://h:x/",
                "javascript:void",
            )
        ),
        ("/to?data:image/png;base64,AA", ValueError, "/to.*' cannot be had: .*received 'data:image/png;base64,[.]"),
        ("/to?http://ann:secret@h/?secret", ValueError, "no user or password.*received 'http://h/"),
    ],
)
def test_what_cannot_be_had_is_an_error(path, error, match, fetch):
    with pytest.raises(error, match=match) as caught:
        fetch(path, max_bytes=len(PICTURE) - 1)
    assert "secret" not in everything(caught.value)


def everything(error):
    """All text that hangs on an exception."""
    text = repr(error) + repr(error.__dict__) + str(error)
    return text + "".join(everything(linked) for linked in (error.__cause__, error.__context__) if linked)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "FILE:/etc/hostname", "ftp://a.org/x.png", "http://", "s3://b/x"]
)
def test_other_schemes_and_local_files_are_refused(url):
    with pytest.raises(ValueError, match="http:// or https:// .*received " + repr(url)):
        fetch_image(url)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_server_is_given_up_in_time_and_leaves_nothing_behind(kind):
    threads, timeout = set(threading.enumerate()), 0.3 if kind in SLOW else 20
    tracemalloc.start()
    with HostileServer(kind) as server:
        url, started = server.url, time.monotonic()
        with pytest.raises(TimeoutError if kind in SLOW else (OSError, ValueError)) as caught:
            fetch_image(url, timeout=timeout, max_bytes=20_000, allow_private=True)
        seconds, peak = time.monotonic() - started, tracemalloc.get_traced_memory()[1]
        assert ends_in_time(lambda: set(threading.enumerate()) - threads <= set(server.threads))
        assert ends_in_time(lambda: not any(thread.is_alive() for thread in server.threads[1:]) or "says" in kind)
    tracemalloc.stop()
    assert repr(url) in str(caught.value) and "\n" not in str(caught.value)
    assert seconds < timeout + 3 and peak < 4 << 20
    if kind in SLOW:
        assert "0.3 s" in str(caught.value) and "url_timeout" in str(caught.value)
    else:
        assert not isinstance(caught.value, TimeoutError) and kind in BAD


def test_a_name_that_is_looked_up_without_end_is_given_up(monkeypatch):
    released, before = threading.Event(), threading.active_count()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(20) and [])
    with pytest.raises(TimeoutError, match="'http://slow.example/' .* 0.1 s"):
        fetch_image("http://slow.example/", timeout=0.1)
    released.set()
    assert ends_in_time(lambda: threading.active_count() == before)


SPELLINGS = [
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "0x7f.1", "0x7F000001", "2130706433", "0177.0.0.1",
    "127.0.0.1.", "0", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "①②⑦.0.0.1", "127。0。0。1", "１２７.0.0.1", "%31%32%37.0.0.1", "loc\u00adalhost",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_private_address_is_connected(scheme, host):
    with HostileServer("closes at once") as server:
        with pytest.raises(ValueError, match="not at a public address.*allow_private_urls=True"):
            fetch_image(f"{scheme}://{host}:{server.port}/picture.png", timeout=5)
        assert (server.connections, server.received) == (0, b"")


def test_nobody_learns_what_there_is_behind_a_private_name(names, server):
    """Open, closed and unreachable ports, and names that are known or not: one message, and no connection."""
    names |= {"open.corp": ["127.0.0.1"], "far.corp": ["10.255.255.1"], "both.corp": ["8.8.8.8", "127.0.0.1"]}
    said = set()
    for host in ("open.corp", "far.corp", "both.corp", "unknown.corp", "169.254.169.254"):
        for scheme, port in (("http", server.server_port), ("http", 9), ("https", server.server_port), ("https", 9)):
            url = f"{scheme}://{host}:{port}/x"
            with pytest.raises(ValueError, match="not at a public address") as caught:
                fetch_image(url, timeout=5)
            said.add(everything(caught.value).replace(url, "URL").replace(host, "HOST"))
    assert len(said) == 1 and "127.0.0.1" not in said.pop()


def test_each_redirect_is_checked(names, server, monkeypatch):
    """The good server passes for public here; where it leads to does not."""
    monkeypatch.setattr(connecting, "is_public", lambda address: address == "127.0.0.1")
    names |= {"good.example": ["127.0.0.1"], "inner.corp": ["127.0.0.2"]}
    start = f"http://good.example:{server.server_port}"
    assert fetch_image(f"{start}/moved", timeout=5) == PICTURE
    with HostileServer("closes at once") as inner:
        for target in (f"http://inner.corp:{inner.port}/", f"https://inner.corp:{inner.port}/", "//inner.corp/x"):
            with pytest.raises(ValueError, match=f"'{start}/to.*' .*'inner.corp' is unknown or not at a public"):
                fetch_image(f"{start}/to?{target}", timeout=5)
        assert inner.connections == 0


def test_a_host_is_looked_up_once_and_connected_where_it_was_checked(names, server):
    """A name that is public when it is checked and private afterwards (DNS rebinding)."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    names["rebound.example"] = lambda: next(answers)
    url = f"http://rebound.example:{server.server_port}/picture"
    server.asked.clear()
    assert fetch_image(url, allow_private=True, timeout=5) == PICTURE
    assert names["asked"] == ["rebound.example"]
    assert server.asked == [(f"rebound.example:{server.server_port}", "/picture")]  # the host's name is kept


def test_an_address_that_does_not_answer_leaves_time_for_the_next(names, server):
    names["two.example"] = ["::1", "127.0.0.9", "127.0.0.1"]  # nobody listens at the first two
    assert fetch_image(f"http://two.example:{server.server_port}/picture", allow_private=True, timeout=5) == PICTURE
    with socket.create_server(("127.0.0.9", server.server_port), backlog=0) as deaf:  # whose queue is full
        full = [socket.socket() for _ in range(4)]
        for each in full:
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        url = f"http://two.example:{server.server_port}/picture"
        assert fetch_image(url, allow_private=True, timeout=3) == PICTURE
        for each in full:
            each.close()


def test_tls_is_spoken_with_the_name_and_its_certificate_is_checked(names, tmp_path, monkeypatch):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    name = ["-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    try:
        subprocess.run([*command, *name, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate, and is not installed")
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda connection, name, context: asked.append(name)
    names |= {"good.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    made.handle_error = lambda *_: None
    with serving(made):
        place = f"example:{made.server_port}/picture"
        assert fetch_image(f"https://good.{place}", allow_private=True, timeout=5) == PICTURE
        with pytest.raises(OSError, match="certificate.*other.example"):
            fetch_image(f"https://other.{place}", allow_private=True, timeout=5)
        assert asked == ["good.example", "other.example"]


def test_a_proxy_may_be_private_and_its_exceptions_are_not(fetch, server, monkeypatch):
    """The loopback server as the proxy: it is asked for any host. A host that goes around it is checked."""
    monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{server.server_port}")
    assert fetch_image("http://example.invalid/picture", timeout=5) == PICTURE
    assert fetch_image("http://example.invalid/moved", timeout=5) == PICTURE
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ValueError, match="host '127.0.0.1'"):
        fetch("/picture", allow_private=False)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "proxy", ["socks5://ann:secret@127.0.0.1:1", "http:ann:secret@h", "http://ann:secret@127.0.0.1:9"]
)
def test_a_proxy_that_does_not_work_is_an_error_without_its_password(scheme, proxy, monkeypatch):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    with pytest.raises((OSError, ValueError), match=r"'.*://example.invalid/x\?\.\.\.' cannot be had") as caught:
        fetch_image(f"{scheme}://example.invalid/x?secret", timeout=5)
    assert "secret" not in everything(caught.value)


@pytest.mark.parametrize("kind", ["says nothing", "drips a header byte", "sends endless headers", "closes at once"])
def test_a_hostile_proxy_is_given_up_as_well(kind, monkeypatch):
    with HostileServer(kind) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        with pytest.raises(OSError, match="'https://example.invalid/x' "):
            fetch_image("https://example.invalid/x", timeout=0.3)


def test_a_dead_port_and_an_unknown_host_are_errors(names):
    names["127.0.0.1"] = ["127.0.0.1"]
    with pytest.raises(OSError, match="127.0.0.1:9/x.png' cannot be had.*refused"):
        fetch_image("http://127.0.0.1:9/x.png", allow_private=True, timeout=5)
    with pytest.raises(OSError, match="'http://unknown.example/' cannot be had: .*not known"):
        fetch_image("http://unknown.example/", allow_private=True, timeout=5)
