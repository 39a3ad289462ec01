"""Processes that live on from run to run: importing torch and transformers takes as long as a small run's training."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue

from vmhan.evaluation.sweep.plan import Run
from vmhan.evaluation.sweep.runs import BUSY, FAILED, do_run, record_failure


__all__ = ["do_runs"]

SECONDS_BETWEEN_LOOKS = 1.0  # at a run that another sweep is doing


def do_runs(
    runs: Sequence[Run], *, num_proc: int, keep_weights: Sequence[str] = (), overwrite: bool = False
) -> Iterator[tuple[Run, str]]:
    """Do the runs in `num_proc` processes of one thread each; yields (run, DONE or FAILED) as they end.

    A run that another sweep is doing is waited for. A process that dies takes only its own run with it. Ctrl-C begins
    no further run. The weights of the rows in `keep_weights` stay; `overwrite` does finished ones again.
    """
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
    interrupted = threading.Event()  # a run that was interrupted frees its thread before this one hears of Ctrl-C
    for _ in range(num_proc):
        idle.put(_process())

    def do(run: Run) -> str:
        outcome, options = BUSY, {"keep_weights": run.row in keep_weights, "overwrite": overwrite}
        while outcome == BUSY and not interrupted.is_set():
            process = idle.get()
            try:
                outcome = process.submit(do_run, run, **options).result()
            except BrokenProcessPool as error:
                record_failure(run, f"The process died: killed, or no memory ({error}).")
                process, outcome = _process(), FAILED
            except KeyboardInterrupt:
                interrupted.set()
                raise
            finally:
                idle.put(process)
            if outcome == BUSY:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        return outcome

    threads = ThreadPoolExecutor(num_proc)
    futures = {threads.submit(do, run): run for run in runs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        interrupted.set()
        threads.shutdown(cancel_futures=True)
        for _ in range(num_proc):
            idle.get().shutdown()


def _process() -> ProcessPoolExecutor:
    """One process; a pool of several would break as a whole when one dies."""
    context = multiprocessing.get_context("spawn")  # forked processes may use neither CUDA nor threads
    return ProcessPoolExecutor(1, mp_context=context, initializer=_begin)


def _begin() -> None:
    """With one thread, results do not depend on how many runs there are at a time; torch reads it when imported."""
    os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # in the middle of a run: it starts again at the next sweep
