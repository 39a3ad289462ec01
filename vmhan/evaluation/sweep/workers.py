"""Processes that live on from run to run: importing torch and transformers takes as long as a small run's training."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue

from model_cards.processes import process_pool
from vmhan.evaluation.sweep.plan import Run
from vmhan.evaluation.sweep.runs import BUSY, do_run, record_failure


__all__ = ["do_runs"]

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0  # at a run that another sweep is doing


def do_runs(
    runs: Sequence[Run], *, num_proc: int, keep_weights: Sequence[str] = (), overwrite: bool = False
) -> Iterator[tuple[Run, str]]:
    """Do the runs in `num_proc` processes of one thread each; yields (run, DONE or FAILED) as they end.

    A run that another process is doing, of a sweep or not, is waited for. A process that dies takes only its own run
    with it. Ctrl-C begins no further run. The weights of the rows in `keep_weights` stay; `overwrite` does finished
    ones again.
    """
    idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
    interrupted = threading.Event()  # a run that was interrupted frees its thread before this one hears of Ctrl-C
    for _ in range(num_proc):
        idle.put(process_pool(1, _begin))  # a pool of several would break as a whole when one dies

    def do(run: Run) -> str:
        outcome, options = BUSY, {"keep_weights": run.row in keep_weights, "overwrite": overwrite}
        waits = False
        while outcome == BUSY and not interrupted.is_set():
            process = idle.get()
            try:
                outcome = process.submit(do_run, run, **options).result()
            except BrokenProcessPool as error:
                outcome = record_failure(run, f"The process died: killed, or no memory ({error}).")
                process = process_pool(1, _begin)
            except KeyboardInterrupt:
                interrupted.set()
                raise
            finally:
                idle.put(process)
            if outcome == BUSY:
                if not waits:
                    logger.info("%s: another process does this run, which is waited for", run.folder)
                waits = True
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


def _begin() -> None:
    """With one thread, results do not depend on how many runs there are at a time; torch reads it when imported."""
    os.environ.update({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
