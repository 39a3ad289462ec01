"""The paper's three prompts for node selection (section 4.1), and what is taken from the answers to them.

The prompts are the paper's words with m, n, k, h and t filled in. After each follows what it needs to be answered (the
sentence, the objects found in the image) and the form of the answer, one JSON object; the paper prints neither.
An answer must be JSON of the schema and nothing around it, and only what can be checked is taken from it.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from datasets_scripts.nodes.chat import ChatAnswer
from datasets_scripts.nodes.pairs import shorten
from modeling_vmhan.selection import distance
from modeling_vmhan.words import Span


__all__ = ["PROMPTS", "REPAIR_PROMPT", "answer_schema", "fill_prompt", "object_name", "parse_answer"]
__all__ += ["prompt_provenance", "take_image_phrases", "take_objects", "take_text_phrases"]

MAX_PHRASE_WORDS = 12  # of an image phrase: more is a sentence, which would push the others out of the encoder's input

_JSON_ONLY = "Answer with one JSON object and nothing else, the most relevant first:"

# {field: (the paper's words, what follows them)}
PROMPTS = {
    "text_phrases": (
        "Please identify and extract the top {number} entities and actions that are most relevant for relation "
        "extraction involving the given entity pair ({head},{tail}).",
        "Sentence: {sentence}\n\nCopy each one verbatim from the sentence, with the same spelling and spaces. Leave "
        f'out the given pair itself. {_JSON_ONLY} {{{{"phrases": ["...", "..."]}}}}',
    ),
    "image_phrases": (
        "Please identify and extract the top {number} entities and actions from the image that are most relevant to "
        "the given entity pair ({head},{tail}).",
        f'Name each one in a few words. {_JSON_ONLY} {{{{"phrases": ["...", "..."]}}}}',
    ),
    "objects": (
        "Please identify and select the top {number} objects in the image that are semantically most relevant to the "
        "given entity pair ({head},{tail}).",
        "These objects were found in the image, each as NUMBER: LABEL [LEFT, TOP, RIGHT, BOTTOM], in fractions of the "
        "image's width and height:\n{objects}\n\nSelect from these, by their numbers. "
        f'{_JSON_ONLY} {{{{"objects": [NUMBER, ...]}}}}',
    ),
}
REPAIR_PROMPT = "This is not the answer asked for: {error}. Answer again, with the JSON object and nothing else."


def prompt_provenance() -> dict[str, dict[str, str]]:
    """{name: {"text", "sha256"}} of the prompts before they are filled in."""
    texts = {name: f"{paper}\n\n{ours}" for name, (paper, ours) in PROMPTS.items()} | {"repair": REPAIR_PROMPT}
    return {name: {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()} for name, text in texts.items()}


def fill_prompt(field: str, *, number: int, head: str, tail: str, **others: str) -> str:
    """The prompt of a field; `others` are the "sentence" or the "objects" where it asks about them."""
    paper, ours = PROMPTS[field]
    return f"{paper.format(number=number, head=head, tail=tail)}\n\n{ours.format(**others)}"


def answer_schema(field: str, number: int) -> dict[str, Any]:
    """JSON schema of {"phrases": [str, ...]} or {"objects": [int, ...]}, at most `number` of them."""
    name, kind = ("objects", "integer") if field == "objects" else ("phrases", "string")
    values = {"type": "array", "items": {"type": kind}, "maxItems": number}
    return {"type": "object", "properties": {name: values}, "required": [name], "additionalProperties": False}


def object_name(label: str, box: Sequence[float], size: tuple[int, int]) -> str:
    """LABEL [LEFT, TOP, RIGHT, BOTTOM] in fractions of the image; `box` and `size` (width, height) are in pixels."""
    sides = (side / length for side, length in zip(box, (*size, *size), strict=True))
    return f"{label or 'object'} [{', '.join(f'{side:.2f}' for side in sides)}]"


def parse_answer(answer: ChatAnswer, schema: dict[str, Any]) -> list[Any]:
    """The list in the JSON object of an answer, with nothing but blanks around it; ValueError if it does not fit
    `schema`, ImportError without jsonschema.
    """
    try:
        import jsonschema
    except ImportError as error:
        raise ImportError('jsonschema reads answers and is not installed: pip install "vmhan[llm]"') from error
    said = f"{' and was cut off by the limit of its length' if answer.truncated else ''}: {shorten(answer.text)!r}"
    try:
        parsed = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"answer was not JSON{said} ({error})") from None
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(parsed))
    if wrong is not None:
        raise ValueError(f"answer was not as the schema asks{said} ({shorten(wrong.message)})")
    (values,) = parsed.values()
    return values


def take_text_phrases(
    phrases: Sequence[str], tokens: Sequence[str], mentions: Sequence[Span]
) -> tuple[list[Span], str]:
    """Spans of the phrases that stand in the sentence, and why others were left out ("" if none was).

    A phrase stands where its words do, from the border of one token to that of another, however many blanks there
    are; failing that, where they do without regard to case. Of several places the one nearest to the mentions counts.
    Phrases that are inside a mention of the pair, or were named before, are left out.
    """

    def take(phrase: str) -> Span:
        places = _places(phrase, tokens, str) or _places(phrase, tokens, str.casefold)
        if not places:
            raise ValueError("not in the sentence")
        outside = [(a, b) for a, b in places if not any(start <= a and b <= end for start, end in mentions)]
        if not outside:
            raise ValueError("a mention of the pair itself")
        return min(outside, key=lambda span: distance(span, mentions))

    return _take(phrases, take)


def take_image_phrases(phrases: Sequence[str]) -> tuple[list[str], str]:
    """The printable, short phrases, each once without regard to case, and why others were left out."""

    def take(phrase: str) -> str:
        words = phrase.split()
        if not 0 < len(words) <= MAX_PHRASE_WORDS or not "".join(words).isprintable():  # halves of surrogate pairs
            raise ValueError(f"not 1 to {MAX_PHRASE_WORDS} printable words")
        return " ".join(words)

    return _take(phrases, take, key=str.casefold)


def take_objects(indices: Sequence[float], candidates: Sequence[int]) -> tuple[list[int], str]:
    """The indices that are among the candidates, each once, and why others were left out."""

    def take(index: float) -> int:
        if index not in candidates:
            raise ValueError(f"not one of the {len(candidates)} objects to choose from")
        return int(index)  # JSON's 1.0 is an integer too

    return _take(indices, take)


def _take(
    items: Sequence[Any], take: Callable[[Any], Any], key: Callable[[Any], Any] = lambda value: value
) -> tuple[list[Any], str]:
    """What `take` makes of the items, once for each `key`, and the ValueErrors that it raised for others."""
    taken: dict[Any, Any] = {}
    dropped = []
    for item in items:
        try:
            value = take(item)
            if key(value) in taken:
                raise ValueError("named twice")
            taken[key(value)] = value
        except ValueError as error:
            dropped.append(f"{shorten(str(item))!r}: {error}")
    if not items:
        return [], "the model named none"
    return list(taken.values()), f"left out {'; '.join(dropped)}" if dropped else ""


def _places(phrase: str, tokens: Sequence[str], fold: Callable[[str], str]) -> list[Span]:
    """All [start, end) spans of tokens whose words are those of the phrase, both folded, however they are spaced."""
    from modeling_vmhan.words import tokenize  # its package imports torch

    def pieces(text: str) -> list[str]:
        return [unicodedata.normalize("NFC", fold(text[start:end])) for start, end in tokenize(text)]

    wanted, of_tokens = pieces(phrase), [pieces(token) for token in tokens]
    places = []
    for start in range(len(tokens) if wanted else 0):
        taken: list[str] = []
        for end in range(start, len(tokens) if of_tokens[start] else start):
            taken += of_tokens[end]
            if of_tokens[end] and taken == wanted:
                places.append((start, end + 1))
            if len(taken) >= len(wanted):
                break
    return places
