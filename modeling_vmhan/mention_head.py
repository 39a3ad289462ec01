"""The head that finds mentions, its loss, and the mentions in its logits.

Shapes: S encoder rows, T tokens, D encoder size, Y types. Words and tags are those of mentions.py.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .batching import EncodedPost
from .mentions import BEGIN, IGNORED, INSIDE, NUM_TAGS, OUTSIDE, Mention, place_of_each
from .words import Span


__all__ = ["MentionHead", "find_mentions", "mean_over_known", "mention_loss", "mentions_in"]


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
    """The mentions of each post from the logits (S, T, 3 + Y) of all rows; a word is read in one of its places."""
    found, first_row = [], 0
    for post in posts:
        places = place_of_each(post.word_places)
        rows, positions = ([place[i] for place in places.values()] for i in (0, 1))
        of_words = logits[first_row : first_row + len(post.rows)][rows, positions]
        found.append(mentions_in(of_words, [post.words[word] for word in places], types))
        first_row += len(post.rows)
    return found
