"""Mentions: what a raw post is asked about. Their words, tags and types, the head that finds them, and its loss.

Words are those of `words.tokenize`, in the data and in a raw post alike. A word's first token carries its tag: O, or B
and I, the first and the further words of a mention. Shapes: S encoder rows, T tokens, D encoder size, Y types.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .argument_types import argument_types
from .batching import EncodedPost
from .posts import label_id, sentence_of
from .windows import Window
from .words import Span


__all__ = [
    "IGNORED", "Mention", "MentionHead", "add_tags", "find_mentions", "first_tokens", "mean_over_known",
    "mention_loss", "mentions_in", "places_of_words", "tags_of", "types_of",
]  # fmt: skip

OUTSIDE, BEGIN, INSIDE = range(3)
NUM_TAGS = 3
IGNORED = -100  # a token without a tag, or a mention whose type no relation tells


class Mention(NamedTuple):
    """Characters [start, end) of a text; the name of its type, or None; and the probability that it is a mention."""

    start: int
    end: int
    type: str | None = None
    score: float = 1.0


class MentionHead(nn.Module):
    """Tags and types of tokens, linear in their states."""

    def __init__(self, *, input_size: int, num_types: int):
        super().__init__()
        self.output = nn.Linear(input_size, NUM_TAGS + num_types)

    def forward(self, states: Tensor) -> Tensor:
        """states (S, T, D) -> logits (S, T, 3 + Y)."""
        return self.output(states)


def mention_loss(logits: Tensor, tags: Tensor, types: Tensor) -> Tensor:
    """Mean cross-entropy of the words' tags, and that of the types of the mentions whose type is known.

    logits (S, T, 3 + Y); tags, and types of the first words of mentions, are (S, T), `IGNORED` elsewhere.
    """
    logits, num_types = logits.float(), logits.shape[-1] - NUM_TAGS
    loss = mean_over_known(logits[..., :NUM_TAGS], tags)
    return loss + mean_over_known(logits[..., NUM_TAGS:], types) if num_types else loss


def mean_over_known(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the targets that are not `IGNORED`; 0 without any. logits (n, m, Y), targets (n, m)."""
    logits, targets = logits.flatten(0, 1), targets.flatten()
    total = nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)


def first_tokens(words: Sequence[Span], offsets: Sequence[Span]) -> list[int]:
    """Of each word the index of the first token that touches it, both in text order; -1 for a word without one."""
    found, token = [], 0
    for start, end in words:
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        found.append(token if token < len(offsets) and offsets[token][0] < end else -1)
    return found


def tags_of(words: Sequence[Span], mentions: Iterable[Span]) -> tuple[list[int], dict[int, Span]]:
    """Each word's tag, and of each word that begins a mention that mention. All are spans of characters.

    A word that a mention covers in part belongs to it. Of mentions that overlap the one that begins first is tagged,
    of those that begin together the longest.
    """
    tags, begins = [OUTSIDE] * len(words), {}
    for mention in sorted(set(mentions), key=lambda span: (span[0], -span[1])):
        inside = [i for i, (start, end) in enumerate(words) if start < mention[1] and end > mention[0]]
        if inside and all(tags[i] == OUTSIDE for i in inside):
            begins[inside[0]] = mention
            for i in inside:
                tags[i] = BEGIN if i == inside[0] else INSIDE
    return tags, begins


def types_of(pairs: Iterable[tuple[dict[str, Any], tuple[str, str] | None]], types: Sequence[str]) -> dict[Span, int]:
    """{mention: id of its type}, by the first of the pairs whose relation tells it; pairs are with their types."""
    found: dict[Span, int] = {}
    for pair, of_pair in pairs:
        for role, of in zip(("head", "tail"), of_pair or ()):
            if role in pair and of in types:
                found.setdefault(tuple(pair[role]), types.index(of))
    return found


def places_of_words(
    words: Sequence[Span], offsets: Sequence[Span], windows: Sequence[Window], origin: int
) -> list[list[tuple[int, int]]]:
    """Of each row (a window of the tokens, which begins at `origin`) its words and their first tokens' positions."""
    first = first_tokens(words, offsets)
    return [
        [(word, origin + token - of.start) for word, token in enumerate(first) if of.start <= token < of.end]
        for of in windows
    ]


def add_tags(encoded: EncodedPost, post: dict[str, Any], types: Sequence[str], labels: Sequence[str]) -> None:
    """Put `mention_tags` and `mention_type_ids` into the rows of a post with labels: all its pairs' mentions count.

    The relation of a pair tells the types of its mentions by its name (`argument_types`), "no relation" does not.
    """
    _, units = sentence_of(post)
    pairs = [
        {role: (units[pair[role][0]][0], units[pair[role][1] - 1][1]) for role in ("head", "tail") if role in pair}
        for pair in post["pairs"]
    ]
    label2id = {label: i for i, label in enumerate(labels)}
    relations = [labels[label_id(pair["relation"], label2id, encoded.name)] for pair in post["pairs"]]
    tags, begins = tags_of(encoded.words, [span for pair in pairs for span in pair.values()])
    known = types_of(zip(pairs, map(argument_types, relations)), types)
    for row, places in zip(encoded.rows, encoded.word_places, strict=True):
        row["mention_tags"], row["mention_type_ids"] = ([IGNORED] * len(row["input_ids"]) for _ in range(2))
        for word, position in places:
            row["mention_tags"][position] = tags[word]
            row["mention_type_ids"][position] = known.get(begins.get(word), IGNORED)


def mentions_in(logits: Tensor, words: Sequence[Span], types: Sequence[str]) -> list[Mention]:
    """The mentions that the logits (words, 3 + Y) tell: each word has its likeliest tag, and an I behind O begins one.

    A mention's score is the probability of its words' tags and of its end, its type that of its first word.
    """
    if not len(words):
        return []
    probabilities = logits[:, :NUM_TAGS].float().softmax(dim=-1)
    tags, kinds = probabilities.argmax(dim=-1).tolist(), logits[:, NUM_TAGS:]
    inside, best = probabilities[:, INSIDE].tolist(), probabilities.max(dim=-1).values.tolist()
    found, begin = [], None
    for i, tag in enumerate([*tags, OUTSIDE]):
        if begin is not None and tag != INSIDE:
            score = 1.0 - inside[i] if i < len(tags) else 1.0
            for word in range(begin, i):
                score *= best[word]
            kind = types[int(kinds[begin].argmax())] if len(types) else None
            found.append(Mention(words[begin][0], words[i - 1][1], kind, score))
            begin = None
        if tag == BEGIN or (tag == INSIDE and begin is None):
            begin = i
    return found


def find_mentions(logits: Tensor, posts: Sequence[EncodedPost], types: Sequence[str]) -> list[list[Mention]]:
    """The mentions of each post from the logits (S, T, 3 + Y) of all their rows.

    A word that stands in two rows, which overlap, is read in the one where it is further from the border.
    """
    found, row = [], 0
    for post in posts:
        best: dict[int, tuple[int, int, int]] = {}  # word -> (distance, row, position)
        for places in post.word_places:
            low, high = (places[0][1], places[-1][1]) if places else (0, 0)
            for word, position in places:
                place = (min(position - low, high - position), row, position)
                best[word] = max(best.get(word, place), place)
            row += 1
        words = sorted(best)
        rows, positions = ([best[word][i] for word in words] for i in (1, 2))
        found.append(mentions_in(logits[rows, positions], [post.words[word] for word in words], types))
    return found
