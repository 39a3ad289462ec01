"""Connections to public addresses only, which end when their time is over: what fetching an image stands on."""

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from concurrent.futures import Future
from functools import partial

from .addresses import is_public


__all__ = ["Connections"]


class Connections:
    """A context in which to open http(s) addresses; when `seconds` are over, all that is open is shut.

    A shut connection wakes whoever waits for it, in a TLS handshake, in headers or in a body alike. A host is looked
    up once, and unless `allow_private` its addresses are checked before anything is sent to one; those of a proxy
    (HTTP_PROXY), which looks hosts up itself, are not.
    """

    def __init__(self, seconds: float, *, allow_private: bool):
        self.end, self.allow_private = time.monotonic() + seconds, allow_private
        self.sockets: list[socket.socket] = []
        self.timer = threading.Timer(seconds, self.shut)
        self.timer.daemon = True
        self.opener = urllib.request.OpenerDirector()  # knows http(s) alone, and follows no redirect
        for handler in (urllib.request.ProxyHandler(), urllib.request.UnknownHandler(), _Handler(self.connect)):
            self.opener.add_handler(handler)

    def __enter__(self) -> "Connections":
        self.timer.start()
        return self

    def __exit__(self, *error) -> None:
        self.timer.cancel()
        self.timer.join()
        for connection in self.sockets:
            connection.close()

    def shut(self) -> None:
        for connection in self.sockets:
            with contextlib.suppress(OSError):  # the other side has already ended it
                connection.shutdown(socket.SHUT_RDWR)

    def left(self) -> float:
        """The seconds that are left; TimeoutError without any."""
        if (seconds := self.end - time.monotonic()) <= 0:
            raise TimeoutError
        return seconds

    def open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The response, whatever its status, whose body has not been read."""
        return self.opener.open(urllib.request.Request(url, headers=headers), timeout=self.left())

    def connect(self, place: tuple[str, int], *_, is_proxy: bool) -> socket.socket:
        """Connect to the first of a host's addresses that answers; ValueError where any is not public.

        That ValueError is the same for an unknown host, so that nobody learns which names there are behind this one.
        """
        is_checked, failure = not (is_proxy or self.allow_private), OSError("it has no address")
        try:
            found = self.look_up(*place)
        except socket.gaierror:
            if not is_checked:
                raise
            found = []
        if is_checked and not (found and all(is_public(address[0]) for *_, address in found)):
            raise ValueError(
                f"the host {place[0]!r} is unknown or not at a public address. Check the name and the network; where "
                "nobody but you gives addresses, allow_private_urls=True reaches the others"
            )
        for tried, (family, *kind, _, address) in enumerate(found):
            try:
                with contextlib.ExitStack() as closed_if_it_fails:
                    connection = closed_if_it_fails.enter_context(socket.socket(family, *kind))
                    connection.settimeout(self.left() / (len(found) - tried))  # a silent one leaves time for others
                    connection.connect(address)
                    self.sockets.append(connection.dup())  # the same connection, also when it is wrapped in TLS
                    connection.settimeout(self.left())
                    closed_if_it_fails.pop_all()
                    return connection
            except OSError as error:  # also of a kind of address that this machine does not have
                failure = error
        raise failure

    def look_up(self, host: str, port: int) -> list[tuple]:
        """In a thread, as nothing else ends the waiting for a name."""
        answer: Future = Future()

        def ask() -> None:
            try:
                answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except Exception as error:  # handed to the caller, who raises it
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        return answer.result(timeout=self.left())


class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """urllib's, with connections that are made by `connect`, before any TLS."""

    def __init__(self, connect):
        super().__init__()
        self.connect = connect

    def do_open(self, connection_class, request, **options):
        is_proxy = request.has_proxy() or getattr(request, "_tunnel_host", None) is not None

        def make(host, **limits):
            connection = connection_class(host, **limits)
            connection._create_connection = partial(self.connect, is_proxy=is_proxy)
            return connection

        return super().do_open(make, request, **options)
