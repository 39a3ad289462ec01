"""Fetch an image by URL, with limits: http(s) only, so many bytes, so many seconds, public addresses, an image."""

import http.client
import ipaddress
import queue
import re
import threading
import time
import urllib.parse
import urllib.request

from .images import open_image


__all__ = ["fetch_image", "is_url"]


def is_url(source: object) -> bool:
    """Whether a string has a scheme, whichever ("file:x" and "data:..." too); a Windows drive is none."""
    return isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None


def fetch_image(url: str, *, timeout: float = 10.0, max_bytes: int = 20 << 20, allow_private: bool = False) -> bytes:
    """The bytes of the image at `url`, still encoded.

    Args:
        url: http or https; so must be every address it redirects to.
        timeout: seconds for everything together: name look-up, redirects, headers and body. max_bytes: of the body.
        allow_private: also connect to addresses that are not public. Leave it False where strangers can give URLs.
            The address connected to is checked, at each redirect; a proxy (HTTP_PROXY) looks hosts up itself.

    No answer in time (TimeoutError), an error status or a redirect away from http is an OSError; another scheme, a
    private address, and a body that is too large or no image are a ValueError.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(f"an image URL must be http:// or https:// with a host, received {url[:200]!r}.")
    answers: queue.Queue = queue.Queue()

    def work() -> None:
        try:
            answers.put(_read(url, timeout, max_bytes, allow_private))
        except Exception as error:  # handed to the caller, who raises it
            answers.put(error)

    # in a thread, because neither name look-up nor headers that drip in can be given a total time
    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, TimeoutError) or isinstance(getattr(answer, "reason", None), TimeoutError):
        raise TimeoutError(f"the image at {url!r} did not arrive within {timeout:g} s. Raise url_timeout.") from answer
    if isinstance(answer, (OSError, http.client.HTTPException, UnicodeError)):
        raise OSError(f"the image at {url!r} cannot be had: {answer}.") from answer
    if isinstance(answer, Exception):
        raise answer
    try:
        open_image(answer).verify()
    except Exception as error:  # Pillow's readers raise many kinds on what is no image
        raise ValueError(f"{url!r} gives no image but {len(answer)} bytes like {answer[:20]!r} ({error}).") from None
    return answer


def _read(url: str, timeout: float, max_bytes: int, allow_private: bool) -> bytes:
    deadline = time.monotonic() + timeout
    kinds = () if allow_private else (urllib.request.HTTPHandler, urllib.request.HTTPSHandler)
    opener = urllib.request.build_opener(*(type(kind.__name__, (_Guard, kind), {}) for kind in kinds))
    opener.handle_open.pop("ftp")  # the one other scheme that urllib lets a redirect lead to
    request = urllib.request.Request(url, headers={"User-Agent": "vmhan", "Accept": "image/*"})
    with opener.open(request, timeout=timeout) as response:
        body = bytearray()
        too_large = (response.length or 0) > max_bytes  # as announced
        while not too_large and (chunk := response.read1(1 << 16)):
            body += chunk
            too_large = len(body) > max_bytes
            if time.monotonic() > deadline:
                raise TimeoutError
    if too_large:
        raise ValueError(f"the image at {url!r} has more than url_max_bytes={max_bytes} bytes.")
    return bytes(body)


class _Guard:
    """Closes a handler's connections to addresses that are not public, before anything is asked."""

    def do_open(self, connection_class, request, **options):
        class Guarded(connection_class):
            def connect(self):
                super().connect()
                address = self.sock.getpeername()[0]
                if not _is_public(address):
                    self.close()
                    where = f"the image URL's host {self.host!r} is at {address}"
                    raise ValueError(f"{where}, which is not public: allow_private_urls=True would reach it.")

        is_proxied = request.has_proxy() or getattr(request, "_tunnel_host", None) is not None
        return super().do_open(connection_class if is_proxied else Guarded, request, **options)


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.split("%")[0])
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_global
