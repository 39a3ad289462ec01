"""The processor's pure helpers: token spans, windows and markers, against brute force over random input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_vmhan.windows import choose_windows, insert_markers
from modeling_vmhan.words import tokens_of_span


OPEN = {1: "<1>", 2: "<2>"}
CLOSE = {1: "</1>", 2: "</2>"}


@st.composite
def spans(draw, length):
    start = draw(st.integers(0, length - 1))
    return start, draw(st.integers(start + 1, length))


@st.composite
def sentences_with_hulls(draw):
    """(tokens, hulls of 1 to 5 pairs, budget)."""
    length = draw(st.integers(1, 40))
    return length, draw(st.lists(spans(length), min_size=1, max_size=5)), draw(st.integers(1, 45))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0, 3), (0, 1)),
        ((4, 7), (1, 3)),  # a word in two pieces
        ((5, 6), (1, 3)),  # part of both pieces: both are taken
        ((0, 11), (0, 4)),
        ((3, 4), None),  # the space between two words
        ((11, 14), None),  # behind the last token
    ],
)
def test_token_span_covers_every_token_the_characters_touch(span, expected):
    offsets = [(0, 3), (4, 6), (5, 7), (8, 11)]
    assert tokens_of_span(span, offsets) == expected


@given(sentences_with_hulls(), st.booleans())
def test_windows_keep_both_mentions_of_every_pair(case, one_pair_each):
    length, hulls, budget = case
    if max(end - start for start, end in hulls) > budget:
        with pytest.raises(ValueError, match="max_length"):
            choose_windows(length, hulls, budget, one_pair_each=one_pair_each)
        return
    windows = choose_windows(length, hulls, budget, one_pair_each=one_pair_each)
    assert sorted(pair for window in windows for pair in window.pairs) == list(range(len(hulls)))
    for window in windows:
        assert 0 <= window.start and window.end <= length
        assert window.end - window.start == min(length, budget)  # no context is thrown away
        assert all(window.start <= hulls[pair][0] and hulls[pair][1] <= window.end for pair in window.pairs)
    if one_pair_each:
        assert len(windows) == len(hulls)
    elif length <= budget:
        assert len(windows) == 1


@given(sentences_with_hulls())
def test_a_moved_window_is_centred_on_its_mentions(case):
    length, hulls, budget = case
    start, end = hulls[0]
    if end - start > budget:
        return
    for one_pair_each, grid in ((True, 1), (False, max(budget // 4, 1))):
        (window,) = choose_windows(length, hulls[:1], budget, one_pair_each=one_pair_each)
        forced = window.start == 0 or window.end in (length, end) or window.start == start
        assert forced or abs((start - window.start) - (window.end - end)) <= grid
        assert forced or window.start % grid == 0


@given(sentences_with_hulls(), st.booleans())
def test_a_window_depends_on_its_pair_alone(case, one_pair_each):
    length, hulls, budget = case
    hulls = [(start, end) for start, end in hulls if end - start <= budget]
    together = choose_windows(length, hulls, budget, one_pair_each=one_pair_each)
    of_pair = {pair: window for window in together for pair in window.pairs}
    for pair, each in enumerate(hulls):
        (alone,) = choose_windows(length, [each], budget, one_pair_each=one_pair_each)
        assert of_pair[pair][:2] == alone[:2]
    assert one_pair_each or len({window[:2] for window in together}) == len(together)


def test_pairs_near_each_other_share_a_window():
    hulls = [(20, 22), (90, 95), (22, 24)]
    windows = choose_windows(100, hulls, 20, one_pair_each=False)
    assert windows == [(10, 30, [0]), (80, 100, [1]), (15, 35, [2])]
    hulls = [(20, 22), (90, 95), (21, 23)]
    windows = choose_windows(100, hulls, 20, one_pair_each=False)
    assert windows == [(10, 30, [0, 2]), (80, 100, [1])]
    assert [window.pairs for window in choose_windows(100, hulls, 20, one_pair_each=True)] == [[0], [1], [2]]
    assert len(choose_windows(100, hulls, 100, one_pair_each=False)) == 1


@given(st.data(), st.integers(1, 12))
def test_markers_move_tokens_and_change_none(data, length):
    head, tail = data.draw(spans(length)), data.draw(spans(length))
    mentions = [(head, 101, 102), (tail, 201, 202)]
    tokens = list(range(length))
    marked, new_position, opened = insert_markers(tokens, mentions)
    assert [token for token in marked if token < 100] == tokens
    assert [marked[position] for position in new_position] == tokens
    for (span, opening, closing), position in zip(mentions, opened, strict=True):
        assert marked[position] == opening
        inside = marked[position : marked.index(closing)]
        assert [token for token in inside if token < 100] == list(range(*span))
