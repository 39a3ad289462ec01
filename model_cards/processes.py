"""Processes that end with the one that started them, even where that is killed.

Without this they would wait for work for ever, keep their memory, and write what another run writes by then.
"""

import functools
import multiprocessing
import multiprocessing.util
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor


__all__ = ["end_forks_with_this_process", "end_with_launcher", "process_pool"]

SECONDS_BETWEEN_LOOKS = 0.5


def process_pool(num_proc: int, start: Callable[[], None], *, method: str = "spawn") -> ProcessPoolExecutor:
    """A pool whose processes each call `start` first, and end with this one.

    `start` is pickled by itself, so that they look after this process before they import what `start` needs.
    """
    return ProcessPoolExecutor(num_proc, multiprocessing.get_context(method), _begin, (pickle.dumps(start),))


@functools.cache
def end_forks_with_this_process() -> None:
    """From now on, what is forked by multiprocessing ends with this process: the workers of a DataLoader, which look
    after it themselves every five seconds only.
    """
    multiprocessing.util.register_after_fork(end_forks_with_this_process, lambda _: _watch_parent())


def end_with_launcher() -> None:
    """End this process with the one that launched it among others, as torchrun and `accelerate launch` do."""
    if "TORCHELASTIC_RUN_ID" in os.environ and multiprocessing.parent_process() is None:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _begin(start: bytes) -> None:
    _watch_parent()
    pickle.loads(start)()


def _watch_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _end_with(process: int) -> None:
    while os.getppid() == process:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
