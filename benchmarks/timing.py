"""The clock of the benchmarks: what is compared takes turns in one process, so that a busy machine slows all alike."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm


__all__ = ["CLOCKS", "quartiles", "ratio", "spread", "take_turns", "wait_for"]

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

Turns = Sequence[Callable[[], Any]]


def take_turns(
    subjects: Mapping[str, Turns], rounds: int, *, device: str = "cpu", seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each subject in each round, by clock.

    A round is all turns of all subjects: the first turn of each in random order, then the second of each, and so on.
    Before the first round each subject takes its first turn untimed. `processor` is this process's own time, which
    other processes stretch less than the clock on the wall; on a GPU it says little.

    Args:
        subjects: name -> turns, as many for each. device: what is waited for at the end of a turn.
    """
    times = {clock: {name: [0.0] * rounds for name in subjects} for clock in CLOCKS}
    shuffled, names = random.Random(seed), list(subjects)
    for turns in subjects.values():
        turns[0]()
    count = len(subjects[names[0]])
    with tqdm(total=rounds * count * len(names), desc="turns", leave=False) as bar:
        for i in range(rounds):
            for turn in range(count):
                for name in shuffled.sample(names, len(names)):
                    for clock, seconds in _timed(subjects[name][turn], device).items():
                        times[clock][name][i] += seconds
                    bar.update()
    return times


def _timed(turn: Callable[[], Any], device: str) -> dict[str, float]:
    wait_for(device)
    start = {clock: now() for clock, now in CLOCKS.items()}
    turn()
    wait_for(device)
    return {clock: now() - start[clock] for clock, now in CLOCKS.items()}


def wait_for(device: str) -> None:
    """Until a GPU has done what it was given; nothing elsewhere."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles over the rounds; of a single round all three are its value."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def ratio(own: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Spread of the ratios, each taken within a round."""
    return spread([a / b for a, b in zip(own, other, strict=True)])


def quartiles(row: Mapping[str, float], pattern: str) -> str:
    return f"{row['lower_quartile']:{pattern}} to {row['upper_quartile']:{pattern}}"
