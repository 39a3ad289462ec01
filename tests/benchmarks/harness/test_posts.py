"""Which posts the benchmarks read."""

import random
import statistics

from benchmarks.harness.posts import spread_over_lengths


def test_posts_are_drawn_in_batches_of_like_length_over_all_lengths():
    assert spread_over_lengths([80, 10, 20, 70, 60, 50, 30, 40], 2, 2) == [2, 6, 4, 3]
    lengths = [random.Random(1).randrange(5, 60) for _ in range(1000)]
    chosen = spread_over_lengths(lengths, 16, 4)
    drawn = [[lengths[row] for row in chosen[start : start + 16]] for start in range(0, 64, 16)]
    assert len(set(chosen)) == 64 and all(max(of) - min(of) <= 2 for of in drawn)
    assert abs(statistics.mean(sum(drawn, [])) - statistics.mean(lengths)) < 2
    assert sorted(spread_over_lengths([3, 1, 2], 2, 2)) == [0, 1, 2]  # there are no more
