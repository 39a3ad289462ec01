"""Servers on 127.0.0.1 that each do one bad thing to whoever asks them for a picture.

    for kind in KINDS:
        with HostileServer(kind) as server:
            fetch_image(server.url, allow_private=True, timeout=0.5)   # an error, in time, and nothing stays behind

A handler of `KINDS` gets the open connection and the server; it may write what it likes until `server.closing` is set.
The kinds in `SLOW` end by the client's own deadline, the others by what they do.
"""

import contextlib
import socket
import threading


OK = b"HTTP/1.1 200 OK\r\n"
LINE = b"X-Slow: " + b"a" * 200 + b"\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SERVER_HELLO = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + bytes(
    16_384
)  # a handshake record that takes its time


class HostileServer:
    """Listens while the context lasts. `connections` counts those it got; `received` is all that they sent first."""

    def __init__(self, kind):
        self.handle, self.scheme = KINDS[kind], "https" if "tls" in kind else "http"
        self.closing, self.connections, self.received = threading.Event(), 0, b""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self.listen, daemon=True)]
        self.threads[0].start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()

    @property
    def port(self):
        return self.listener.getsockname()[1]

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}/picture.png"

    def listen(self):
        with contextlib.suppress(OSError):  # the listener is shut
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                self.threads.append(threading.Thread(target=self.serve, args=(connection,), daemon=True))
                self.threads[-1].start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):  # the client hung up, as it should
            connection.settimeout(1)  # a client may leave without a word
            self.received += connection.recv(1 << 16)
            self.handle(connection, self)

    def drip(self, connection, drops):
        """Send one of `drops` every 50 ms, over and over."""
        while True:
            for drop in drops:
                if self.closing.wait(0.05):
                    return
                connection.sendall(drop)

    def flood(self, connection, content):
        while not self.closing.is_set():
            connection.sendall(content)


def once(content):
    return lambda connection, server: connection.sendall(content)


def dripping(start, *drops):
    def handle(connection, server):
        connection.sendall(start)
        server.drip(connection, drops)

    return handle


def flooding(start, content):
    def handle(connection, server):
        connection.sendall(start)
        server.flood(connection, content)

    return handle


def redirect(target, status=302):
    return f"HTTP/1.1 {status} Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()


def redirect_slowly(connection, server):
    server.closing.wait(0.1)
    connection.sendall(redirect(server.url))


SLOW = {
    "says nothing": lambda connection, server: server.closing.wait(),
    "drips the status line": dripping(b"HTTP/1.1 2", b"0"),
    "drips a header byte": dripping(OK, *(bytes([byte]) for byte in LINE)),
    "drips headers": dripping(OK, b"X-Slow: yes\r\n"),
    "drips 100 Continue": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "floods 100 Continue": flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "drips the body": dripping(OK + b"Content-Length: 10000\r\n\r\n", b"."),
    "drips a body without length": dripping(OK + b"\r\n", b"."),
    "drips chunks": dripping(CHUNKED, b"1\r\n.\r\n"),
    "drips a chunk's size": dripping(CHUNKED, b"0"),
    "floods trailers": flooding(CHUNKED + b"1\r\n.\r\n0\r\n", LINE * 100),
    "redirects slowly": redirect_slowly,
    "says nothing in tls": lambda connection, server: server.closing.wait(),
    "drips the tls handshake": dripping(b"", *(bytes([byte]) for byte in SERVER_HELLO)),
}
BAD = {
    "closes at once": once(b""),
    "resets": lambda connection, server: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7)),
    "speaks ssh": once(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "speaks http in tls": once(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "sends a page": once(OK + b"Content-Length: 6\r\n\r\n<html>"),
    "sends nothing": once(OK + b"Content-Length: 0\r\n\r\n"),
    "breaks off": once(OK + b"Content-Length: 100\r\n\r\n\x89PNG"),
    "breaks off a chunk": once(CHUNKED + b"FFFF\r\n\x89PNG"),
    "announces a huge body": flooding(OK + b"Content-Length: 99999999999\r\n\r\n", bytes(1 << 16)),
    "sends a huge body": flooding(OK + b"\r\n", bytes(1 << 16)),
    "sends huge chunks": flooding(CHUNKED + b"F" * 15 + b"\r\n", bytes(1 << 16)),
    "sends endless chunks": flooding(CHUNKED, b"2\r\n..\r\n" * 1000),
    "sends a negative chunk": flooding(CHUNKED, b"-5\r\n.\r\n"),
    "sends an endless header": flooding(OK + b"X-Long: ", b"a" * (1 << 16)),
    "sends endless headers": flooding(OK, LINE * 100),
    "sends an endless status line": flooding(b"HTTP/1.1 200 ", b"O" * (1 << 16)),
    "redirects in circles": lambda connection, server: connection.sendall(redirect(server.url)),
    "redirects with an endless body": lambda connection, server: (
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {server.url}\r\n\r\n".encode()),
        server.flood(connection, bytes(1 << 16)),
    ),
    "redirects to a file": once(redirect("file:///etc/hostname")),
    "redirects to ftp": once(redirect("ftp://127.0.0.1/picture.png")),
    "redirects to data": once(redirect("data:image/png;base64,iVBORw0KGgo=")),
    "redirects to a malformed address": once(redirect("http://[::1/picture.png")),
    "redirects without an address": once(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "has no picture": once(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    "is broken": flooding(b"HTTP/1.1 500 Oh\r\n\r\n", bytes(1 << 16)),
}
KINDS = SLOW | BAD
