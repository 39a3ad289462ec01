"""Batches of a token budget: as many posts as fit, of like lengths, each post once an epoch.

A batch costs what the encoder computes: its rows times the longest of them. N posts.
"""

import heapq
import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


__all__ = ["TokenBudgetSampler", "split_to"]

logger = logging.getLogger(__name__)

PLANS = 16  # different epochs: all are planned beforehand, as Trainer wants to know how many steps each epoch has
MEGABATCHES = (4, 50)  # at least so many an epoch, at most so many batches each: as transformers' LengthGroupedSampler


class TokenBudgetSampler(Sampler[list[int]]):
    """Lists of post indices, of which each takes at most `tokens` tokens with its padding; a longer post is alone,
    with a warning.

    For training, posts are shuffled (by seed and epoch), sorted by length within megabatches, cut into batches, and
    those are shuffled; for evaluation they keep their order. `rows` are of each post the tokens of each of its encoder
    rows. Every epoch has the same number of batches, a multiple of `num_processes` (where there are posts enough),
    which splitting the largest ones makes up. It is the list of all processes: accelerate deals it out, batch by
    batch. Epoch `PLANS` has the order of the first again.

    Example:
        >>> list(TokenBudgetSampler([[10], [12], [30], [11]], 40, shuffle=False))
        [[0, 1], [2], [3]]
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        tokens: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        num_processes: int = 1,
    ):
        self.count = np.array([len(of_post) for of_post in rows], dtype=np.int64)  # (N,)
        self.longest = np.array([max(of_post) for of_post in rows], dtype=np.int64)  # (N,)
        self.tokens, self.shuffle, self.seed, self.epoch = tokens, shuffle, seed, 0
        cost = self.count * self.longest
        if (cost > tokens).any():
            text = "%d of %d posts take more than the %d tokens of a batch, the largest %d: each is a batch of its own"
            logger.warning(text, (cost > tokens).sum(), len(cost), tokens, cost.max())
        fitting = max(tokens // max(int(cost.mean()), 1), 1)
        at_least, at_most = MEGABATCHES
        self.megabatch = max(min(fitting * at_most, len(cost) // at_least), 1)
        most = max(len(self._plan(epoch)) for epoch in range(PLANS if shuffle else 1))
        self.num_batches = min(math.ceil(most / num_processes) * num_processes, len(cost)) if shuffle else most

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        batches = split_to(self._plan(self.epoch % PLANS), self.num_batches)
        order = range(len(batches))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch % PLANS, 1)).permutation(len(batches))
        return iter([batches[i] for i in order])

    def _plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch before they are made as many as every epoch has, in the order they were filled."""
        order = np.arange(len(self.count))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch, 0)).permutation(order)
            parts = [order[start : start + self.megabatch] for start in range(0, len(order), self.megabatch)]
            parts = [part[np.argsort(self.longest[part], kind="stable")] for part in parts]
            # upwards and downwards in turn: a batch across the border of two megabatches holds like lengths
            order = np.concatenate([part[:: -1 if i % 2 else 1] for i, part in enumerate(parts)])
        batches: list[list[int]] = []
        rows = width = 0
        columns = (column.tolist() for column in (order, self.count[order], self.longest[order]))
        for post, count, longest in zip(*columns, strict=True):
            rows, width = rows + count, max(width, longest)
            if not batches or rows * width > self.tokens:
                batches.append([])
                rows, width = count, longest
            batches[-1].append(post)
        return batches


def split_to(batches: list[list[int]], total: int) -> list[list[int]]:
    """Halve the batches with the most posts until there are `total`; none is made of no post."""
    heap = [(-len(batch), i, batch) for i, batch in enumerate(batches)]
    heapq.heapify(heap)
    while len(heap) < total and -heap[0][0] > 1:
        _, i, batch = heapq.heappop(heap)
        for place, half in ((i, batch[: len(batch) // 2]), (len(heap) + total, batch[len(batch) // 2 :])):
            heapq.heappush(heap, (-len(half), place, half))
    return [batch for _, _, batch in sorted(heap, key=lambda entry: entry[1])]
