"""Pure helpers of the processor: spans of characters to spans of tokens, windows that keep them, marker insertion.

A span is [start, end): the start counts, the end does not.
"""

from typing import NamedTuple


__all__ = ["MARKERS", "Window", "choose_windows", "insert_markers", "tokens_of_span"]

MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")

GRID = 4  # places of a window's start in the length of a window

Span = tuple[int, int]


class Window(NamedTuple):
    """Tokens [start, end) of a sentence, encoded together for the pairs at these indices."""

    start: int
    end: int
    pairs: list[int]


def tokens_of_span(span: Span, offsets: list[Span]) -> Span | None:
    """Span of the tokens, given by their character spans, that the characters [start, end) touch; None without one."""
    inside = [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    return (inside[0], inside[-1] + 1) if inside else None


def choose_windows(length: int, hulls: list[Span], budget: int, *, one_pair_each: bool) -> list[Window]:
    """Windows of at most `budget` tokens that together keep both mentions of every pair.

    A sentence that fits is one window. A longer one moves its window to the mentions, centred on them; where it lies
    depends on the pair alone. Pairs whose windows are the same share it; to that end it starts on a grid where the
    mentions leave room for that.

    Args:
        length: tokens of the sentence. hulls: per pair, the token span from its first to its last mention token.
        budget: tokens a window may hold; mentions further apart are a ValueError.
        one_pair_each: `marker` rows, which hold one pair and need no grid.
    """
    shared: dict[tuple[int, ...], list[int]] = {}
    step = 1 if one_pair_each else max(budget // GRID, 1)
    for pair, (start, end) in enumerate(hulls):
        if end - start > budget:
            raise ValueError(
                f"the mentions of pair {pair} span {end - start} tokens (tokens {start} to {end}), but only {budget} "
                "fit. Raise max_length, shorten the sentence between them, or drop the pair."
            )
        place = _place(length, (start, end), budget, step)
        shared.setdefault((*place, pair) if one_pair_each else place, []).append(pair)
    return [Window(*place[:2], pairs) for place, pairs in shared.items()]


def _place(length: int, hull: Span, budget: int, step: int) -> Span:
    """The window [start, start + budget) that has `hull` nearest its centre, its start a multiple of `step` or forced.

    It is forced by the ends of the sentence, or by a hull that no window on the grid holds.
    """
    if length <= budget:
        return 0, length
    start = hull[0] - (budget - (hull[1] - hull[0])) // 2
    start = max(hull[1] - budget, min(round(start / step) * step, hull[0]))
    start = max(0, min(start, length - budget))
    return start, start + budget


def insert_markers(tokens: list[int], mentions: list[tuple[Span, int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Put opening and closing marker tokens around mentions, which may overlap or nest.

    Args:
        tokens: token ids. mentions: (span, opening marker id, closing marker id) of each mention, not empty.

    Returns:
        ids with markers; the new position of each old token; the position of each mention's opening marker.
    """
    events = []  # (place, 0 closes before 1 opens, inner closes and outer opens first, mention, id)
    for index, ((start, end), opening, closing) in enumerate(mentions):
        events += [(start, 1, -end, index, opening), (end, 0, -start, -index, closing)]
    marked, new_position, opened = [], [], [0] * len(mentions)
    pending = sorted(events)
    for place in range(len(tokens) + 1):
        while pending and pending[0][0] == place:
            _, opens, _, index, marker = pending.pop(0)
            if opens:
                opened[index] = len(marked)
            marked.append(marker)
        if place < len(tokens):
            new_position.append(len(marked))
            marked.append(tokens[place])
    return marked, new_position, opened
