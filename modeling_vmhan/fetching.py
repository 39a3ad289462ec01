"""Fetch an image by URL, with limits: http(s) only, so many bytes, so many seconds, public addresses, an image.

An OSError says that the server or the network failed, a ValueError that the URL or what it gives is not acceptable.
"""

import http.client
import io
import ipaddress
import queue
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from PIL import Image


__all__ = ["fetch_image", "is_url"]

MAX_REDIRECTS = 5
CHUNK = 1 << 16


def is_url(source: object) -> bool:
    """Whether a string has a scheme, whichever ("file:x" and "data:..." too); a Windows drive is none."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None


def fetch_image(url: str, *, timeout: float = 10.0, max_bytes: int = 20 << 20, allow_private: bool = False) -> bytes:
    """The bytes of the image at `url`, still encoded.

    Args:
        url: http or https; so must be every address it redirects to (at most 5).
        timeout: seconds for everything together: name look-up, redirects, headers and body.
        max_bytes: of the body; a larger one is refused, at its announced length or as it arrives.
        allow_private: also connect to loopback, private and link-local addresses. Leave it False where strangers can
            give URLs, so that they cannot reach what only this machine can. It is checked on the address connected to,
            at each redirect. Behind a proxy (HTTP_PROXY and the like) it is the proxy's to decide.

    Raises:
        ValueError: another scheme, no host, a private address, a body too large or one that is no image.
        OSError: no answer in time (TimeoutError), no connection, an error status.
    """
    answers: queue.Queue = queue.Queue()

    def work() -> None:
        try:
            answers.put((_read(url, time.monotonic() + timeout, timeout, max_bytes, allow_private), None))
        except Exception as error:  # handed to the caller, who raises it
            answers.put((None, error))

    # A thread, because neither name look-up nor headers that drip in can be given a total time; its socket's own time
    # limit ends it soon after.
    threading.Thread(target=work, daemon=True).start()
    try:
        data, error = answers.get(timeout=timeout)
    except queue.Empty:
        data, error = None, TimeoutError()
    if error is not None:
        raise _explained(error, url, timeout) from error
    _check_image(data, url)
    return data


def _read(url: str, deadline: float, timeout: float, max_bytes: int, allow_private: bool) -> bytes:
    _check_url(url)
    request = urllib.request.Request(url, headers={"User-Agent": "vmhan", "Accept": "image/*"})
    with _opener(allow_private).open(request, timeout=timeout) as response:
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise ValueError(_too_large(url, f"{announced} bytes", max_bytes))
        body = bytearray()
        while chunk := response.read1(CHUNK):
            body += chunk
            if len(body) > max_bytes:
                raise ValueError(_too_large(url, "more", max_bytes))
            if time.monotonic() > deadline:
                raise TimeoutError
    return bytes(body)


def _opener(allow_private: bool) -> urllib.request.OpenerDirector:
    """Handlers of http and https alone; `urllib.request.build_opener` would add those of file, ftp and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HTTPHandler(allow_private),
        _HTTPSHandler(allow_private),
        urllib.request.HTTPDefaultErrorHandler(),
        _RedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS

    def http_error_302(self, req, fp, code, msg, headers):
        if headers.get("Location"):
            _check_url(urllib.parse.urljoin(req.full_url, headers["Location"]), redirected_from=req.full_url)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _HTTPHandler(urllib.request.HTTPHandler):
    def __init__(self, allow_private: bool):
        super().__init__()
        self.allow_private = allow_private

    def http_open(self, req):
        free = self.allow_private or _is_proxied(req)
        return self.do_open(http.client.HTTPConnection if free else _PublicHTTPConnection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def __init__(self, allow_private: bool):
        super().__init__()
        self.allow_private = allow_private

    def https_open(self, req):
        free = self.allow_private or _is_proxied(req)
        connection = http.client.HTTPSConnection if free else _PublicHTTPSConnection
        return self.do_open(connection, req, context=self._context)


def _is_proxied(req: urllib.request.Request) -> bool:
    """Whether the connection goes to a proxy, which then looks the host up itself."""
    return req.has_proxy() or getattr(req, "_tunnel_host", None) is not None


class _PublicHTTPConnection(http.client.HTTPConnection):
    """Closed before anything is asked, when the address that it reached is not a public one."""

    def connect(self):
        super().connect()
        _check_address(self)


class _PublicHTTPSConnection(http.client.HTTPSConnection):
    """Likewise."""

    def connect(self):
        super().connect()
        _check_address(self)


def _check_address(connection: http.client.HTTPConnection) -> None:
    address = connection.sock.getpeername()[0]
    if not _is_public(address):
        connection.close()
        raise ValueError(
            f"the image URL's host {connection.host!r} is at {address}, which is not a public address. Pass "
            "allow_private_urls=True (fetch_image: allow_private=True) if whoever gives URLs may reach it."
        )


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.split("%")[0])
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_global


def _check_url(url: str, redirected_from: str | None = None) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        via = f" (redirected from {redirected_from!r})" if redirected_from else ""
        raise ValueError(
            f"an image URL must be http:// or https:// with a host, received {url[:200]!r}{via}. Give a local file as "
            "a path, and data as bytes."
        )


def _too_large(url: str, received: str, max_bytes: int) -> str:
    return (
        f"the image at {url!r} must have at most {max_bytes} bytes, received {received}. Raise url_max_bytes "
        "(fetch_image: max_bytes), or give a smaller image."
    )


def _check_image(data: bytes, url: str) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
    except Exception as error:  # Pillow's readers raise many kinds on what is no image
        raise ValueError(
            f"what {url!r} gives is not an image that can be read ({error}): {len(data)} bytes that begin with "
            f"{data[:20]!r}. Give the URL of the picture itself, not of the page that shows it."
        ) from None


def _explained(error: Exception, url: str, timeout: float) -> Exception:
    """The error to raise: ours as they are, the network's as an OSError that names the URL."""
    reason = getattr(error, "reason", None)
    if isinstance(error, TimeoutError) or isinstance(reason, TimeoutError):
        return TimeoutError(
            f"the image at {url!r} did not arrive within {timeout:g} s. Raise url_timeout (fetch_image: timeout), or "
            "download it and give the file."
        )
    if isinstance(error, urllib.error.HTTPError):
        return OSError(f"the image at {url!r} cannot be had: the server answered {error.code} {reason}.")
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return error
    return OSError(f"the image at {url!r} cannot be had: {reason or error!r}. Is the address right, the network up?")
