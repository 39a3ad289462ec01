"""Windows of a sentence that is longer than a row, and markers around the mentions in one.

A span is [start, end) in tokens of the sentence: the start counts, the end does not.
"""

from typing import NamedTuple

from .words import Span


__all__ = ["ISOLATED", "MARKERS", "PAIRS_A_ROW", "Window"]
__all__ += ["all_windows", "choose_windows", "insert_markers", "with_fewer_pairs"]

ISOLATED = -1  # the marker_pair of image text that nothing else sees
MARKERS = ("[E1]", "[/E1]", "[E2]", "[/E2]")
PAIRS_A_ROW = 128  # of a packed row at most, whose length, and with its square the memory, grows with them
GRID = 4  # places of a window's start in the length of a window


class Window(NamedTuple):
    """Tokens [start, end) of a sentence, encoded together for the pairs at these indices."""

    start: int
    end: int
    pairs: list[int]


def choose_windows(length: int, hulls: list[Span], budget: int, *, one_pair_each: bool) -> list[Window]:
    """Windows of at most `budget` tokens that together keep both mentions of every pair.

    A sentence of `length` tokens that fits is one window. A longer one moves its window to the mentions, centred on
    them; where it lies depends on the pair alone. Pairs whose windows are the same share it, unless `one_pair_each`;
    to that end it starts on a grid where the mentions leave room for that. hulls are each pair's token span from its
    first to its last mention token; mentions further apart than the budget are a ValueError.
    """
    shared: dict[tuple[int, ...], list[int]] = {}
    step = 1 if one_pair_each else max(budget // GRID, 1)
    for pair, (start, end) in enumerate(hulls):
        if end - start > budget:
            distance = f"{end - start} tokens (tokens {start} to {end}), but only {budget} fit"
            raise ValueError(f"the mentions of pair {pair} span {distance}. Raise max_length, or drop the pair.")
        first = start - (budget - (end - start)) // 2  # centred on the mentions
        first = max(end - budget, min(round(first / step) * step, start))  # on the grid, if one there holds them
        first = max(0, min(first, length - budget))
        place = (first, min(first + budget, length))
        shared.setdefault((*place, pair) if one_pair_each else place, []).append(pair)
    return [Window(*place[:2], pairs) for place, pairs in shared.items()]


def with_fewer_pairs(windows: list[Window], most: int) -> list[Window]:
    """The windows, each as often as it takes for none to have more than `most` pairs."""
    return [
        window._replace(pairs=window.pairs[first : first + most])
        for window in windows
        for first in range(0, len(window.pairs), most)
    ]


def all_windows(length: int, budget: int) -> list[Window]:
    """Windows of at most `budget` tokens that hold all tokens; each begins half a window behind the one before."""
    starts = range(0, max(length - budget, 0), max(budget // 2, 1))
    return [Window(start, start + budget, []) for start in starts] + [Window(max(length - budget, 0), length, [])]


def insert_markers(tokens: list[int], mentions: list[tuple[Span, int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Put opening and closing marker tokens around mentions, which may overlap or nest.

    mentions are (span, opening marker id, closing marker id) each. Returns the ids with markers, the new position of
    each old token, and the position of each mention's opening marker.
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
