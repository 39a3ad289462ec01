"""What a vision-language model would take that is asked about one pair at a time: counted, and not asked.

Requests are those of `datasets_scripts.nodes`, counted as `vmhan prepare --dry_run` counts them: equal ones once.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from datasets_scripts.nodes.chat import ChatRequest, request_key
from datasets_scripts.nodes.chat_openai import OpenAIChatModel
from modeling_vmhan.images import image_size


__all__ = ["PROMPT", "Count", "Rates", "count", "image_tokens"]

PROMPT = (
    "A post with this image says: {sentence}\n\nWhich relation holds from {head} to {tail}? It is one of these:\n"
    '{relations}\n\nAnswer with one JSON object and nothing else: {{"relation": "..."}}'
)
MAX_SIDE = 1024  # pixels of the longer side of a picture as it is sent, the default of `LLMSelector`
PATCH = 28  # pixels; a token of Qwen2-VL and Qwen2.5-VL is a square of this side
ENDPOINT = OpenAIChatModel("any", "http://localhost/v1")  # for the requests' keys: nothing is sent


@dataclass(frozen=True)
class Rates:
    """What is assumed of a server and its price: tokens a second, and dollars for a million tokens."""

    read_per_second: float
    written_per_second: float
    usd_read: float
    usd_written: float


class Count(NamedTuple):
    """Requests, tokens that are read (of prompts and of pictures), and tokens that are written."""

    requests: int
    text: int
    image: int
    written: int

    def seconds(self, rates: Rates) -> float:
        """One request after the other."""
        return (self.text + self.image) / rates.read_per_second + self.written / rates.written_per_second

    def dollars(self, rates: Rates) -> float:
        return ((self.text + self.image) * rates.usd_read + self.written * rates.usd_written) / 1e6


def count(posts: Iterable[dict[str, Any]], relations: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Count:
    """Of posts with `tokens`, `image` (the bytes of its file) and `pairs`, whose head and tail are spans of tokens and
    whose `relation` is the number of the one that is answered. No token of a chat template or of a schema is counted.
    """

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    counts: dict[str, Count] = {}
    for post in posts:
        of_image = image_tokens(post["image"])
        for pair in post["pairs"]:
            head, tail = (" ".join(post["tokens"][slice(*pair[role])]) for role in ("head", "tail"))
            names = {"sentence": " ".join(post["tokens"]), "head": head, "tail": tail}
            prompt = PROMPT.format(**names, relations="\n".join(relations))
            answer = json.dumps({"relation": relations[pair["relation"]]})
            request = ChatRequest(({"role": "user", "content": prompt},), image=post["image"])
            counts[request_key(ENDPOINT, request)] = Count(1, length(prompt), of_image, length(answer))
    return Count(*(sum(numbers) for numbers in zip(*counts.values())))


def image_tokens(picture: bytes) -> int:
    """As Qwen2-VL has them: a token for each PATCH x PATCH pixels of the picture at the size that its processor makes
    of one that is sent with at most `MAX_SIDE` pixels a side.
    """
    width, height = image_size(picture)
    scale = min(1.0, MAX_SIDE / max(width, height))
    sides = smart_resize(round(scale * height), round(scale * width), factor=PATCH)
    return sides[0] // PATCH * (sides[1] // PATCH)
