"""Of an answer over HTTP no more is read than an answer can be, whatever the server sends, and for no longer."""

import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any


__all__ = ["MAX_BYTES", "limit_body"]

MAX_BYTES = 1 << 20  # of a body, as it is sent and unpacked; an answer of 256 tokens is a few kB


def limit_body(response: Any, seconds: float) -> None:
    """A hook for each response of an httpx client (or of httpx2's), which is called before the body is read.

    A body of more than MAX_BYTES is an OpenAIError; of a server's error the first ones are read, which say what is
    wrong. One that has not arrived `seconds` after its headers is httpx's ReadTimeout, which openai tries again.
    """
    httpx = sys.modules[type(response).__module__.partition(".")[0]]
    coding, deadline = response.headers.pop("content-encoding", "identity"), time.monotonic() + seconds
    is_packed, is_error = coding.lower() in ("gzip", "x-gzip", "deflate"), response.status_code >= 400

    def limited(stream: Any) -> Iterator[bytes]:
        if not is_packed and coding.lower() != "identity":
            raise httpx.DecodingError(f"expected a body as it is, or gzip, received content-encoding {coding!r}")
        unpacker, sent, left = zlib.decompressobj(47), 0, MAX_BYTES + 1  # 47: the headers of gzip and of zlib
        for chunk in stream:
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"the body was not there after {seconds:g} seconds")
            sent += len(chunk)
            chunk = _unpacked(unpacker, chunk, left, httpx) if is_packed else chunk[:left]
            left -= len(chunk)
            is_too_long = not left or sent > MAX_BYTES
            if is_too_long and not is_error:
                raise sys.modules["openai"].OpenAIError(f"more than {MAX_BYTES} bytes, of which the rest is not read")
            yield chunk
            if is_too_long:
                return

    whole = response.stream
    methods = {"__iter__": lambda _: limited(whole), "close": lambda _: whole.close()}
    response.stream = type("LimitedStream", (httpx.SyncByteStream,), methods)()


def _unpacked(unpacker: Any, chunk: bytes, most: int, httpx: Any) -> bytes:
    try:
        return unpacker.decompress(chunk, most)
    except zlib.error as error:
        raise httpx.DecodingError(f"a body that is not packed as its header says: {error}") from error
