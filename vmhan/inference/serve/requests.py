"""A request over HTTP as posts: JSON, or a form with a picture as a file, and what is too much of either.

The body is what `handler.py` of a published folder takes, {"inputs": ..., "parameters": {...}}, or a post itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modeling_vmhan.handler import parameters_of, received
from modeling_vmhan.pipeline_vmhan import open_image
from modeling_vmhan.posts import post_name


__all__ = ["Asked", "Limits", "Refused", "open_picture", "read_request"]

FORM = "multipart/form-data"
POST, IMAGE = "post", "image"  # the fields of a form
MAX_POSTS = 64  # of one request: more are more requests, between which others have their turn


@dataclass(frozen=True)
class Limits:
    """What a request may cost: bytes of its body, pixels of a picture, and the pipeline's limits for an address."""

    max_body_bytes: int = 16 << 20
    max_pixels: int = 1 << 24
    url_timeout: float = 5.0
    url_max_bytes: int = 16 << 20
    allow_private_urls: bool = False


class Asked(NamedTuple):
    """What a request asks: posts as they came, an uploaded picture as bytes."""

    posts: list[Any]
    parameters: dict[str, Any]
    is_list: bool


class Refused(Exception):
    """A request that is not answered at all, with its status and the reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


async def read_request(request: Any, limits: Limits) -> Asked:
    """Read a `starlette.requests.Request` of posts; what is wrong with all of it is `Refused`."""
    if request.method != "POST":
        raise Refused(405, f"posts are sent by POST, received {request.method}.")
    limited = type(request)(request.scope, _limited(request, limits.max_body_bytes))
    if request.headers.get("content-type", "").startswith(FORM):
        body, picture = await _read_form(limited, limits)
    else:
        body, picture = _read_json(await limited.body()), None
    return _asked(body, picture)


def _limited(request: Any, most: int) -> Any:
    """The request's `receive`, which refuses the first byte too much, announced or not."""
    announced, count = request.headers.get("content-length", ""), 0

    def check(size: int) -> None:
        if size > most:
            raise Refused(413, f"the body must have at most {most} bytes, received {size} or more.")

    async def receive() -> Any:
        nonlocal count
        check(int(announced) if announced.isdecimal() else 0)
        message = await request.receive()
        count += len(message.get("body", b""))
        check(count)
        return message

    return receive


async def _read_form(request: Any, limits: Limits) -> tuple[Any, bytes | None]:
    """The field `post`, which is JSON, and the file `image`."""
    from starlette.formparsers import MultiPartException

    try:
        async with request.form(max_files=1, max_fields=1, max_part_size=limits.max_body_bytes) as form:
            post, picture = form.get(POST), form.get(IMAGE)
            picture = await picture.read() if hasattr(picture, "read") else picture
    except (MultiPartException, ValueError) as error:
        raise Refused(400, f"the form cannot be read: {getattr(error, 'message', error)}.") from None
    if not isinstance(post, str) or not isinstance(picture, (bytes, type(None))):
        raise Refused(400, f"a form must have the field {POST} with JSON and perhaps the file {IMAGE}.")
    return _read_json(post), picture


def _read_json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body must be JSON: {error}.") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _asked(body: Any, picture: bytes | None) -> Asked:
    """The posts of a body; an uploaded picture is of its only one."""
    is_request = isinstance(body, Mapping) and "inputs" in body
    inputs = body["inputs"] if is_request else body
    posts = inputs if isinstance(inputs, list) else [inputs]
    if is_request and (unknown := set(body) - {"inputs", "parameters"}):
        raise Refused(422, f"a request must have inputs and parameters alone, received {sorted(unknown)}.")
    if not len(posts) <= MAX_POSTS:
        raise Refused(413, f"a request must have at most {MAX_POSTS} posts, received {len(posts)}.")
    try:
        parameters = parameters_of(body.get("parameters") if is_request else None)
    except ValueError as error:
        raise Refused(422, str(error)) from None
    if picture is not None:
        if isinstance(inputs, list) or not isinstance(inputs, (str, Mapping)):
            raise Refused(422, f"the file {IMAGE} goes with one post, received {type(inputs).__name__}.")
        post = {"text": inputs} if isinstance(inputs, str) else inputs
        if post.get("image") is not None:
            raise Refused(422, f"the image must be given once, received it in the post and as the file {IMAGE}.")
        return Asked([{**post, "image": picture}], parameters, False)
    return Asked(posts, parameters, isinstance(inputs, list))


def open_picture(post: Any, limits: Limits) -> Any:
    """The post with its picture fetched and decoded; ValueError or OSError that names it."""
    if not isinstance(post, Mapping) or post.get("image") is None:
        return post
    of_address = {"url_timeout": limits.url_timeout, "url_max_bytes": limits.url_max_bytes}
    of_address["allow_private_urls"] = limits.allow_private_urls
    try:
        post = received(post)
        return {**post, "image": open_image(post["image"], max_pixels=limits.max_pixels, **of_address)}
    except (OSError, ValueError) as error:
        raise ValueError(f"{post_name(post, 'the post')}: {str(error)[:1000]}") from None
