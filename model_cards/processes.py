"""Processes that end with the one that started them, even where that is killed.

Without this they would wait for work for ever, keep their memory, and write what another run writes by then.
"""

import contextlib
import functools
import multiprocessing
import multiprocessing.util
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor


__all__ = ["end_forks_with_this_process", "end_with_launcher", "family", "process_pool"]

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


@contextlib.contextmanager
def family() -> Iterator[None]:
    """What programs are started inside the block, and what these start, end with it, or with this process.

    For a library that starts services of its own. They are known by a variable of their environment, and a process
    beside them waits for the end of this one.
    """
    mark = f"VMHAN_FAMILY_{uuid.uuid4().hex}"
    command = [sys.executable, "-P", __file__, mark]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it
    os.environ[mark] = "1"
    try:
        yield
    finally:
        del os.environ[mark]
        guard.communicate()


def _end_family(mark: str) -> None:
    """Kill all processes of this mark, once the other end of stdin is closed, until none has come for a second."""
    import psutil

    sys.stdin.read()
    last = time.monotonic()
    while time.monotonic() - last < 1:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if mark in process.environ():
                    process.kill()
                    last = time.monotonic()
        time.sleep(0.1)


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


if __name__ == "__main__":
    _end_family(sys.argv[1])
