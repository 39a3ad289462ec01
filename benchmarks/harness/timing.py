"""The clock of the benchmarks: what is compared takes turns in one process, so that a busy machine slows all alike."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm


__all__ = ["CLOCKS", "ratio", "spread", "take_turns", "wait_for"]

# The processor's time of this process is stretched less than the wall's by other processes; on a GPU it says little.
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}

Times = dict[str, dict[str, list[float]]]


def take_turns(
    subjects: Mapping[str, Sequence[Callable[[], Any]]],
    rounds: int,
    *,
    device: str = "cpu",
    clocks: Mapping[str, Callable[[], float]] = CLOCKS,
) -> Times:
    """Seconds of each subject in each round, as {subject: {clock: [seconds of a round]}}.

    A round is all turns of all subjects: the first turn of each in random order, then the second of each, and so on.
    Before the first round each subject takes its first turn untimed. Every subject has as many turns.
    """
    times: Times = {name: {clock: [0.0] * rounds for clock in clocks} for name in subjects}
    shuffled, names = random.Random(0), list(subjects)
    for turns in subjects.values():
        turns[0]()
    count = len(subjects[names[0]])
    with tqdm(total=rounds * count * len(names), desc="turns", leave=False) as bar:
        for i in range(rounds):
            for turn in range(count):
                for name in shuffled.sample(names, len(names)):
                    wait_for(device)
                    start = {clock: now() for clock, now in clocks.items()}
                    subjects[name][turn]()
                    wait_for(device)
                    for clock, now in clocks.items():
                        times[name][clock][i] += now() - start[clock]
                    bar.update()
    return times


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was given; return at once for a CPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile over the rounds, which are all the value of a single round."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return low, median, high


def ratio(own: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the spread of the ratios, each taken within a round."""
    return spread([a / b for a, b in zip(own, other, strict=True)])
