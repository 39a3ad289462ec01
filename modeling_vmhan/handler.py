"""What Hugging Face Inference Endpoints start of a published folder, and how `vmhan serve` reads and answers JSON.

This file is also loaded alone, by its path, so that it imports no sibling.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import pipeline


__all__ = ["PARAMETERS", "REQUIREMENTS", "EndpointHandler", "answers_to", "parameters_of", "received"]

# Options of the pipeline that a request may give. Which finder, which limits, whose addresses: its owner says that.
PARAMETERS = ("top_k", "abstain_below", "min_score", "min_precision", "all_pairs", "type_constraints")
PARAMETERS += ("num_samples", "seed", "explain")
BATCH_SIZE = 16

# requirements.txt of a saved folder, which an endpoint installs first.
REQUIREMENTS = ("pillow>=12", "regex>=2025.10.22", "torch>=2.10", "torchvision>=0.25", "transformers>=5.14,<6")

ADDRESS = re.compile(r"\s*https?://", re.IGNORECASE)
DATA_URL = re.compile(r"\s*data:[^,]*;base64,", re.IGNORECASE)


class EndpointHandler:
    """Answers {"inputs": a post or a list of posts, "parameters": {...}} with what the pipeline gives, as JSON.

    A post that cannot be read or answered gets {error, index, id} in the place of its answer.

    Example:
        EndpointHandler("outputs/demo")({"inputs": {"text": "Ann in Oslo", "head": "Ann", "tail": "Oslo"}})
    """

    def __init__(self, path: str = ""):
        self.pipe = pipeline(model=str(path or Path(__file__).parent), trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> list[Any] | dict[str, Any]:
        """Answer one request, as docs/serving.md describes it.

        Args:
            data: `inputs` are posts as docs/posts.md has them, or texts, whose image is an http(s) address, a data URL
                or base64 of a file, and no path; `parameters` are among PARAMETERS. The pipeline's defaults limit the
                bytes, the seconds and the hosts of an address, and the pixels.

        Returns:
            the answer to a post, or a list of as many as there are posts. A request that asks for nothing, and
            parameters that are unknown or wrong, are a ValueError, of which an endpoint makes the status 400.
        """
        if not isinstance(data, Mapping) or data.get("inputs") is None:
            raise ValueError(f"a request must have inputs, a post or a list of posts, received {_shown(data)}.")
        inputs, parameters = data["inputs"], parameters_of(data.get("parameters"))
        posts = list(inputs) if isinstance(inputs, list) else [inputs]
        answers: dict[int, Any] = {}
        for i, post in enumerate(posts):
            try:
                posts[i] = received(post)
            except ValueError as error:
                answers[i] = {"error": str(error), "index": i, "id": post.get("id")}
        asked = [i for i in range(len(posts)) if i not in answers]
        answers |= zip(asked, answers_to(self.pipe, [posts[i] for i in asked], indices=asked, **parameters))
        return [answers[i] for i in range(len(posts))] if isinstance(inputs, list) else answers[0]


def parameters_of(given: Any) -> dict[str, Any]:
    """The parameters of a request, by name; ValueError for those that a request may not give."""
    given = {} if given is None else given
    if not isinstance(given, Mapping) or set(given) - set(PARAMETERS):
        raise ValueError(f"parameters must be a dict of {', '.join(PARAMETERS)}, received {_shown(given)}.")
    return dict(given)


def received(post: Any) -> Any:
    """A post out of JSON, with its image as an http(s) address or the bytes of a file.

    ValueError for any other image: a path would be one of this machine.
    """
    image = post.get("image") if isinstance(post, Mapping) else None
    if image is None or isinstance(image, bytes) or (isinstance(image, str) and ADDRESS.match(image)):
        return post
    try:
        if not isinstance(image, str) or not image.strip():
            raise ValueError("no text")
        encoded = "".join(DATA_URL.sub("", image, count=1).split())
        return {**post, "image": base64.b64decode(encoded, validate=True)}
    except (ValueError, binascii.Error):
        rule = "an http(s) address, a data URL or base64 of a file"
        raise ValueError(f"image must be {rule}, received {_shown(image)}.") from None


def answers_to(
    pipe: Any, posts: Sequence[Any], *, indices: Sequence[int] | None = None, batch_size: int = BATCH_SIZE, **options
) -> Iterator[Any]:
    """The pipeline's answer to each post, in what JSON can hold; `indices` are their places in the request."""
    for place, answer in enumerate(pipe(list(posts), batch_size=batch_size, on_error="return", **options)):
        of_pairs = answer if isinstance(answer, list) else [answer]
        for each in of_pairs:
            if "error" in each and "index" in each:
                each["index"] = place if indices is None else indices[place]
            if "explanation" in each:
                each["explanation"] = {**each["explanation"], "picture": _as_png(each["explanation"]["picture"])}
        yield answer


def _as_png(picture: Image.Image) -> str:
    """Base64 of a PNG file."""
    with io.BytesIO() as file:
        picture.save(file, format="PNG")
        return base64.b64encode(file.getvalue()).decode("ascii")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."
