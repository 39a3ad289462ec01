"""Fetch an image by URL, with limits: http(s) or data:, so many bytes, so many seconds, public addresses, an image."""

import base64
import http.client
import re
import string
import time
import urllib.error
from urllib.parse import quote, unquote_to_bytes, urljoin

from .addresses import encoded_url, shown_url
from .connecting import Connections
from .images import open_image


__all__ = ["fetch_image"]

HEADERS = {"User-Agent": "vmhan", "Accept": "image/*"}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 10
MAX_TIMEOUT = 86_400  # seconds; sockets cannot wait much longer


def fetch_image(url: str, *, timeout: float = 10.0, max_bytes: int = 20 << 20, allow_private: bool = False) -> bytes:
    """The bytes of the image at `url`, still encoded.

    Args:
        url: http or https, percent-encoded or not, without user and password, and so must be every address that it
            redirects to; or data: with the image in it.
        timeout: seconds for everything together: name look-up, redirects, headers and body. max_bytes: of the body.
        allow_private: also connect to addresses that are not public. Leave it False where strangers can give URLs.
            Addresses are checked as `Connections` says, at each redirect.

    No answer in time (TimeoutError), an error status and a lost connection are an OSError; another scheme, a host that
    is unknown or not public, and a body that is too large or no image are a ValueError. No message shows a password
    or a query.
    """
    if not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(f"url_timeout must be above 0 and at most {MAX_TIMEOUT} seconds, received {timeout!r}.")
    shown, failure, content = shown_url(url), None, b""
    with Connections(timeout, allow_private=allow_private) as connections:
        try:
            _check_size(len(url) // 4, max_bytes)  # a byte takes four characters at most: base64 percent-encoded
            is_inline = shown[:5].lower() == "data:"
            content = _inline(url, connections.end) if is_inline else _read(url, connections, max_bytes)
            _check_size(len(content), max_bytes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = error.reason if isinstance(error, urllib.error.URLError) else error
        is_late = isinstance(failure, TimeoutError) or time.monotonic() >= connections.end
    # raised out here, so that no exception is dragged along that holds the address or the connection
    if is_late:
        raise TimeoutError(f"the image at {shown!r} did not arrive within {timeout:g} s. Raise url_timeout.")
    if failure is not None:
        kind = OSError if isinstance(failure, (OSError, http.client.HTTPException)) else ValueError
        reason = " ".join(re.sub(r"\S*@", "", str(failure)).split())[:400]  # without a proxy's password
        raise kind(f"the image at {shown!r} cannot be had: {reason}.")
    try:
        open_image(content).verify()
    except Exception as error:  # Pillow's readers raise many kinds on what is no image
        raise ValueError(
            f"{shown!r} gives no image but {len(content)} bytes like {content[:20]!r} ({error})."
        ) from None
    return content


def _inline(url: str, end: float) -> bytes:
    """The content of a data: address, decoded before the time `end`."""
    kind, _, text = url.partition("#")[0].partition(",")
    parts = []
    for part in re.finditer("(?:%..|.){1,65536}", text, re.DOTALL) if "%" in text else [[text]]:
        parts.append(unquote_to_bytes(part[0]))
        if time.monotonic() >= end:
            raise TimeoutError
    content = b"".join(parts)
    return base64.b64decode(content + b"==") if kind.rstrip().lower().endswith(";base64") else content


def _read(url: str, connections: Connections, max_bytes: int) -> bytes:
    """The body at `url`, or where it redirects to."""
    for _ in range(MAX_REDIRECTS + 1):
        url = encoded_url(url)
        with connections.open(url, HEADERS) as response:
            target = response.headers["Location"] if response.status in REDIRECTS else None
            if target is None:
                return _body(response, max_bytes)
        # what is not ASCII was read as Latin-1, whatever it is
        url = urljoin(url, quote(target, safe=string.punctuation + " ", encoding="latin-1"))
    raise OSError(f"it redirects more than {MAX_REDIRECTS} times")


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body, of which little more than `max_bytes` is read at most."""
    if not 200 <= response.status < 300:
        raise OSError(f"HTTP {response.status} {response.reason}")
    announced, body = response.length, bytearray()  # None: it goes on until the end
    _check_size(announced or 0, max_bytes)
    while chunk := response.read1(1 << 16):
        body += chunk
        _check_size(len(body), max_bytes)
    if announced is not None and len(body) < announced:
        raise OSError(f"it broke off after {len(body)} of {announced} bytes")
    return bytes(body)


def _check_size(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise ValueError(f"it has more than url_max_bytes={max_bytes} bytes")
