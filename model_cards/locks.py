"""One process at a time writes an output: the one mechanism for predict, prepare, train, sweep, export and publish.

A lock is a file that the operating system locks and frees again when its holder ends, however that ends. So a file
that a kill has left blocks nobody. It names its holder, and is deleted when the holder is done.
"""

import contextlib
import errno
import logging
import os
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model_cards.files import remove_leftovers_inside


__all__ = ["BusyError", "lock_beside", "lock_inside", "locked", "locked_by_main"]

logger = logging.getLogger(__name__)

INSIDE = ".lock"
PATIENCE = 0.3  # seconds, as the last holder may just be deleting its file
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EROFS)  # as Lustre may be mounted

_held: set[tuple[int, int, str]] = set()  # process, thread and path


class BusyError(ValueError):
    """Another process, or another thread of this one, holds the lock."""


def lock_beside(path: Path) -> Path:
    """The lock of a file, or of a folder that is replaced as a whole."""
    path = Path(os.path.abspath(path))
    return path.with_name(f".{path.name}.lock")


def lock_inside(folder: Path) -> Path:
    """The lock of a folder that stands while it is written to; its parent may belong to somebody else."""
    return Path(folder) / INSIDE


@contextlib.contextmanager
def locked(file: Path, output: str) -> Iterator[None]:
    """Hold the lock `file` while the block writes `output`, the words of the message; BusyError if another does.

    A block inside the block of the same thread goes on under its lock. Where the file system has no locks, a warning.
    Of a folder that the lock lies in, what a killed process was writing is deleted first.
    """
    me = (os.getpid(), threading.get_ident(), os.path.realpath(file))
    if me in _held:
        yield
        return
    missing = [folder for folder in file.parents if not folder.exists()]
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, missing)
        _acquire(file, output, stack)
        if file.name == INSIDE:
            remove_leftovers_inside(file.parent)
        _held.add(me)
        stack.callback(_held.discard, me)
        yield


@contextlib.contextmanager
def locked_by_main(file: Path, output: str, state: Any) -> Iterator[None]:
    """As `locked`, for all processes that were launched together: the main one holds the lock, and where it cannot,
    all of them raise what it raises. `state` is accelerate's `PartialState`.
    """
    with contextlib.ExitStack() as stack:
        refused: list[Exception | None] = [None]
        if state.is_main_process:
            try:
                stack.enter_context(locked(file, output))
            except (ValueError, OSError) as error:
                refused = [error]
        if state.num_processes > 1:
            from accelerate.utils import broadcast_object_list  # here, as it brings in torch

            broadcast_object_list(refused)
        if refused[0] is not None:
            raise refused[0]
        yield


def _acquire(file: Path, output: str, stack: contextlib.ExitStack) -> None:
    def sign(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        stack.callback(_delete, file, os.fstat(descriptor))  # before it is free: who waits for it then makes a new one

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=PATIENCE, mode=0o666, on_acquired=sign)
    stack.callback(lock.release)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{output}: expected one process at a time to write it, received a second one, as {_holder(file)} is at "
            "it. Wait until that has ended, or end it, or name another output"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS and not (isinstance(error, PermissionError) and not file.exists()):
            raise
        logger.warning("%s cannot be locked (%s): take care that one process at a time writes it", output, error)


def _holder(file: Path) -> str:
    """What the lock's file says; its holder may just have taken it, or just be done."""
    with contextlib.suppress(OSError, ValueError):
        if signed := file.read_text(encoding="utf-8"):
            return signed
    return "another process"


def _delete(file: Path, own: os.stat_result) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(file.stat(), own):
            file.unlink()


def _remove_empty(folders: list[Path]) -> None:
    """Those that were made for the lock's file alone."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
