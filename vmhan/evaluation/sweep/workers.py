"""Processes that live on from run to run: importing torch and transformers takes as long as a small run's training."""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from vmhan.evaluation.sweep.plan import Run
from vmhan.evaluation.sweep.runs import BUSY, FAILED, do_run, record_failure


__all__ = ["do_runs"]

SECONDS_BETWEEN_LOOKS = 1.0  # at a run that another sweep is doing
# Of a worker; with one thread the results do not depend on how many runs there are at a time.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def do_runs(
    runs: Sequence[Run], *, num_proc: int, keep_weights: Sequence[str] = (), overwrite: bool = False
) -> Iterator[tuple[Run, str]]:
    """Do the runs in `num_proc` processes of one thread each; yields (run, DONE or FAILED) as they end.

    A run that another sweep is doing is waited for. A process that dies takes only its own run with it.

    Args:
        keep_weights: rows whose weights stay.
        overwrite: do finished ones again.
    """
    waiting, pool = deque(runs), _Pool()
    try:
        while waiting or pool.busy:
            while waiting and len(pool.busy) < num_proc:
                run = waiting.popleft()
                pool.give(run, (run, run.row in keep_weights, overwrite))
            for run, outcome in pool.ended():
                if outcome == BUSY:
                    waiting.append(run)
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                else:
                    yield run, outcome
    finally:
        pool.close()


class _Pool:
    """Workers by their connection; a worker gets one run at a time."""

    def __init__(self):
        self.busy: dict[Connection, Run] = {}
        self._idle: list[Connection] = []
        self._processes: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def give(self, run: Run, task: tuple) -> None:
        connection = self._idle.pop() if self._idle else self._start()
        connection.send(task)
        self.busy[connection] = run

    def ended(self) -> list[tuple[Run, str]]:
        """Waits until at least one run has ended."""
        found = []
        for connection in wait(list(self.busy)):
            run = self.busy.pop(connection)
            try:
                found.append((run, connection.recv()))
                self._idle.append(connection)
            except EOFError:
                process = self._processes.pop(connection)
                process.join()
                record_failure(run, f"The process ended with exit code {process.exitcode} (-9: killed, or no memory).")
                found.append((run, FAILED))
        return found

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # forked processes may use neither CUDA nor threads
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        self._processes[ours] = process
        return ours


def _work(connection: Connection) -> None:
    """A worker: runs come in, outcomes go out, until the other side is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            run, keep_weights, overwrite = connection.recv()
        except EOFError:
            return
        connection.send(do_run(run, keep_weights=keep_weights, overwrite=overwrite))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)  # in the middle of a run: it starts again at the next sweep
