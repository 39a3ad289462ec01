"""Turns: their order, and what is counted."""

import functools

from benchmarks.harness.timing import CLOCKS, take_turns


def test_turns_are_taken_in_rounds_and_counted():
    taken = []
    turns = {name: [functools.partial(taken.append, (name, turn)) for turn in (0, 1)] for name in "ab"}
    times = take_turns(turns, 3)
    assert taken[:2] == [("a", 0), ("b", 0)]  # warm-up
    for i in range(2, len(taken), 2):
        assert {name for name, _ in taken[i : i + 2]} == {"a", "b"}
        assert {turn for _, turn in taken[i : i + 2]} == {(i // 2 - 1) % 2}
    assert len(taken) == 2 + 3 * 2 * 2
    assert all(len(times[name][clock]) == 3 for name in "ab" for clock in CLOCKS)


def test_other_clocks_take_the_place_of_these():
    seconds = iter(range(100))
    times = take_turns({"a": [lambda: next(seconds)]}, 2, clocks={"ticks": lambda: next(seconds)})
    assert times == {"a": {"ticks": [2, 2]}}
