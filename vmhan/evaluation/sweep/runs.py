"""One run of a sweep: is it finished, may it be skipped, and how it is done, under a lock and with its log kept."""

import importlib
import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from model_cards.run_metadata import write_atomically
from vmhan.evaluation.sweep.plan import Run
from vmhan.training.flags import same_value


__all__ = [
    "BUSY",
    "DONE",
    "FAILED",
    "FAILURE",
    "WEIGHTS",
    "check_settings",
    "do_run",
    "is_finished",
    "needs_work",
    "record_failure",
]

logger = logging.getLogger(__name__)

DONE, FAILED, BUSY = "done", "failed", "busy"
SETTINGS, METRICS, FAILURE, LOG, LOCK = "settings.json", "metrics.json", "failed.txt", "log.txt", ".lock"
WEIGHTS = "model.safetensors"


def is_finished(run: Run) -> bool:
    """It has its metrics, and did not fail behind them: the card and the upload come last."""
    return (run.folder / METRICS).is_file() and not (run.folder / FAILURE).exists()


def needs_work(run: Run) -> bool:
    """Whether `do_run` has something to do: to train, or to delete weights that a kill at the very end left."""
    return not is_finished(run) or bool(_leftovers(run))


def check_settings(run: Run) -> None:
    """Raises ValueError if the folder has a finished run of other settings, or of unknown ones."""
    if not is_finished(run):
        return
    recorded = _record(run).get("settings")
    if recorded is None:
        raise ValueError(
            f"{run.folder} has a finished run that no sweep made ({SETTINGS} is missing): expected an empty folder. "
            "Choose another --results, or pass --overwrite to run it again."
        )
    asked = run.settings()
    different = [
        f"{name}: recorded {recorded.get(name, 'nothing')!r}, asked for {asked.get(name, 'nothing')!r}"
        for name in sorted(recorded | asked)
        if not same_value(recorded.get(name), asked.get(name))
    ]
    if different:
        raise ValueError(
            f"{run.folder} has a finished run of other settings ({'; '.join(different)}). Ask for the recorded "
            "settings, choose another --results, or pass --overwrite to run it again."
        )


def do_run(run: Run, *, keep_weights: bool, overwrite: bool = False) -> str:
    """DONE, FAILED (the reason is in failed.txt), or BUSY: another process is at it.

    What an interrupted run left is thrown away, unless it has a whole checkpoint of the same settings to go on from.
    The weights are deleted at the end, unless `keep_weights`; metrics, predictions and the rest stay.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder / LOCK, timeout=0):
            if is_finished(run) and not overwrite:
                return _tidy(run)
            resume = not overwrite and not is_finished(run) and _can_go_on(run)
            if not resume:
                _empty(run.folder)
            (run.folder / FAILURE).unlink(missing_ok=True)
            record = {"settings": run.settings(), "keep_weights": keep_weights}
            write_atomically(run.folder / SETTINGS, json.dumps(record, indent=2) + "\n")
            return _train(run, resume=resume)
    except Timeout:
        return BUSY


def record_failure(run: Run, reason: str) -> None:
    write_atomically(run.folder / FAILURE, reason.rstrip() + "\n")


def _train(run: Run, *, resume: bool) -> str:
    # here: the process that only hands out the runs needs no torch
    train = importlib.import_module("vmhan.training.command").main

    try:
        with _output_to(run.folder / LOG):
            train([*run.argv(), *(["--resume_from_checkpoint", "true"] if resume else [])])
    except (Exception, SystemExit):  # argparse exits
        record_failure(run, traceback.format_exc())
        return FAILED
    return _tidy(run)


def _tidy(run: Run) -> str:
    for path in _leftovers(run):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return DONE


def _leftovers(run: Run) -> list[Path]:
    """Checkpoints of a finished run, and its weights unless they were to be kept."""
    weights = [] if _record(run).get("keep_weights", True) else list(run.folder.glob(WEIGHTS))
    return [*run.folder.glob("checkpoint-*"), *weights]


def _record(run: Run) -> dict[str, Any]:
    """settings.json; {} without."""
    try:
        return json.loads((run.folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _can_go_on(run: Run) -> bool:
    """Removes half-written checkpoints; True if a whole one of the settings that are asked for is left."""
    recorded, asked = _record(run).get("settings"), run.settings()
    same = recorded is not None and recorded.keys() == asked.keys()
    same = same and all(same_value(recorded[name], asked[name]) for name in asked)
    for checkpoint in run.folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))  # Trainer writes it last
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return same and any(run.folder.glob("checkpoint-*"))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Whatever is written to stdout and stderr meanwhile, by handlers made long ago too, goes to this file."""
    _flush()  # what was written before
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
