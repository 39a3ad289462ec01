"""Finding mentions with a token classification model of transformers, in place of a model's own head."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .mentions import Mention
from .words import tokenize, tokens_of_span


if TYPE_CHECKING:
    import transformers

__all__ = ["MentionFinder", "mention_type", "of_whole_words", "token_classification_finder"]

MentionFinder = Callable[[str], list[Mention]]

# The types in the relations' names of MNRE, by what CoNLL, OntoNotes and WNUT call them.
TYPES = {
    "per": ["person", "people"],
    "org": ["organization", "organisation", "corporation", "company"],
    "loc": ["location", "gpe", "fac", "facility", "place"],
    "misc": "miscellaneous norp event product work_of_art law language group creative-work".split(),
}
_TYPE_OF = {name: of for of, names in TYPES.items() for name in [of, *names]}


def mention_type(name: str | None) -> str | None:
    """What relations' names call a type, such as "per" for "PERSON"; in lower case what they have no name for.

    Example:
        >>> mention_type("GPE"), mention_type("Chemical")
        ('loc', 'chemical')
    """
    return None if name is None else _TYPE_OF.get(name.lower(), name.lower())


def token_classification_finder(model: "str | transformers.Pipeline", **options: Any) -> MentionFinder:
    """A finder by the name or folder of a token classification model, or by its pipeline.

    `options` are those of `transformers.pipeline`, such as device. Pieces of one word are one mention. OSError without
    such a model, ValueError for one that does not tell where its tokens stand in the text.
    """
    import transformers  # late, as it takes long, and torch: other finders do without
    from transformers.tokenization_utils_base import LARGE_INTEGER

    from .text_encoding import num_positions

    pipe = model if isinstance(model, transformers.Pipeline) else transformers.pipeline("ner", model=model, **options)
    if not pipe.tokenizer.is_fast:
        raise ValueError(
            f"mentions: expected a model with a fast tokenizer, which tells where tokens stand in the text, received "
            f"{pipe.model.name_or_path!r} with {type(pipe.tokenizer).__name__}."
        )
    config = pipe.model.config
    positions = num_positions(config) or getattr(config, "max_position_embeddings", None) or LARGE_INTEGER
    longest, asked = min(pipe.tokenizer.model_max_length, positions), {"aggregation_strategy": "simple"}
    if longest < LARGE_INTEGER:
        pipe.tokenizer.model_max_length = longest  # many are saved without it
        asked["stride"] = longest // 4  # longer texts are read in windows, which overlap by so much

    def find(text: str) -> list[Mention]:
        groups = pipe(text, **asked) if text.strip() else []
        found = [Mention(of["start"], of["end"], of["entity_group"], float(of["score"])) for of in groups]
        return of_whole_words(found, text)

    return find


def of_whole_words(mentions: Iterable[Mention], text: str) -> list[Mention]:
    """The mentions in text order, each widened to the words that it touches, with its type by `mention_type`.

    Those that share a word are one, with the type of the surest and the score of the least sure.
    """
    words, found = tokenize(text), []
    for mention in sorted(mentions):
        touched = tokens_of_span((mention.start, mention.end), words)
        if touched is None:  # white space
            continue
        start, end = words[touched[0]][0], words[touched[1] - 1][1]
        mention = Mention(start, end, mention_type(mention.type), mention.score)
        if found and start < found[-1].end:
            last = found.pop()
            surest = max(last, mention, key=lambda of: of.score)
            mention = Mention(last.start, max(last.end, end), surest.type, min(last.score, mention.score))
        found.append(mention)
    return found
