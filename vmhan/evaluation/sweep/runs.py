"""One run of a sweep: whether it is finished, whether it may be skipped, and how it is done, under a lock."""

import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_cards.files import write_json, write_text
from model_cards.locks import BusyError, lock_inside, locked
from model_cards.run_metadata import RUN_FILE
from model_cards.secrets import is_secret, without_secrets
from vmhan.configs import normal
from vmhan.evaluation.sweep.plan import Run
from vmhan.training.checkpoints import ASIDE, SET_ASIDE, newest_whole


__all__ = ["BUSY", "DONE", "FAILED", "FAILURE", "check_settings", "do_run", "needs_work", "record_failure"]

DONE, FAILED, BUSY = "done", "failed", "busy"
SETTINGS, FAILURE, LOG = "settings.json", "failed.txt", "log.txt"


def needs_work(run: Run) -> bool:
    """Whether `do_run` has something to do: to train, or to delete weights that a kill at the very end left."""
    return not _is_finished(run) or bool(_leftovers(run))


def check_settings(run: Run) -> None:
    """Raises ValueError if the folder has a finished run of other settings, or of unknown ones, or checkpoints of such
    a run that was interrupted. What a failed one left is in nobody's way: its settings are what has to change.
    """
    different = _differences(run)
    if not different:
        return
    is_begun = not (run.folder / FAILURE).exists() and newest_whole(run.folder) is not None
    if held := "a finished run" if _is_finished(run) else "checkpoints of a run" if is_begun else None:
        raise ValueError(
            f"{run.folder} has {held} of other settings ({'; '.join(different)}). Ask for the recorded "
            "settings, choose another --results, or pass --overwrite to run it again."
        )


def do_run(run: Run, *, keep_weights: bool, overwrite: bool = False) -> str:
    """DONE, FAILED (the reason is in failed.txt), or BUSY: another process, of a sweep or not, writes to its folder.
    ValueError as from `check_settings`, of a run that another process has finished meanwhile.

    What an interrupted run left without a whole checkpoint to go on from is thrown away.
    The weights are deleted at the end, unless `keep_weights`; metrics, predictions and the rest stay.
    """
    lock = lock_inside(run.folder)
    try:
        with locked(lock, f"the run {run.folder}"):
            if not overwrite:
                check_settings(run)
            finished = _is_finished(run)
            if not finished or overwrite:
                resume = not finished and not overwrite and _can_go_on(run)
                (run.folder / RUN_FILE).unlink(missing_ok=True)  # first: what is half removed is not finished
                for path in [] if resume else run.folder.iterdir():
                    if path != lock:
                        _remove(path)
                record = {"settings": run.settings(), "keep_weights": keep_weights}
                write_json(run.folder / SETTINGS, record)
                # imported here: the process that only hands out the runs needs no torch
                train = importlib.import_module("vmhan.training.command").main
                try:
                    with _output_to(run.folder / LOG):
                        train([*run.argv(), *(["--resume_from_checkpoint", "true"] if resume else [])])
                except (Exception, SystemExit):  # argparse exits
                    return record_failure(run, traceback.format_exc())
                (run.folder / FAILURE).unlink(missing_ok=True)  # only now: it may have metrics of before its failure
            for path in _leftovers(run):
                _remove(path)
            return DONE
    except BusyError:
        return BUSY


def record_failure(run: Run, reason: str) -> str:
    """FAILED, once the folder says why; BUSY where another process has begun the run anew by now."""
    for secret in run.secrets():
        reason = reason.replace(secret, "...")
    try:
        with locked(lock_inside(run.folder), f"the run {run.folder}"):
            write_text(run.folder / FAILURE, without_secrets(reason).rstrip() + "\n")
        return FAILED
    except BusyError:
        return BUSY


def _is_finished(run: Run) -> bool:
    """It has what a run writes last of all, after metrics, card and upload, and did not fail at the last time."""
    return (run.folder / RUN_FILE).is_file() and not (run.folder / FAILURE).exists()


def _leftovers(run: Run) -> list[Path]:
    """Checkpoints of a finished run, and its weights unless they were to be kept."""
    patterns = ["checkpoint-*", f"{SET_ASIDE}checkpoint-*", ASIDE]
    patterns += ["model*.safetensors*"] * (not _read(run.folder / SETTINGS).get("keep_weights", True))
    return [path for pattern in patterns for path in run.folder.glob(pattern)]


def _differences(run: Run) -> list[str]:
    """Which settings the folder's run has and which are asked for, where they are not the same."""
    recorded = _read(run.folder / SETTINGS).get("settings", {})
    recorded = {name: value for name, value in recorded.items() if not is_secret(name)}
    asked = run.settings()
    return [
        f"{name}: recorded {recorded.get(name, 'nothing')!r}, asked for {asked.get(name, 'nothing')!r}"
        for name in sorted(recorded | asked)
        if normal(recorded.get(name)) != normal(asked.get(name))
    ]


def _can_go_on(run: Run) -> bool:
    """Whether it has a whole checkpoint of the settings that are asked for."""
    return not _differences(run) and newest_whole(run.folder) is not None


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none, or half of one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Whatever is written to stdout and stderr meanwhile, also by handlers made long ago, goes to this file."""
    streams = {1: sys.stdout, 2: sys.stderr}
    kept = {}
    with path.open("a") as file:
        for number, stream in streams.items():
            stream.flush()
            kept[number] = os.dup(number)
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        for number, stream in streams.items():
            stream.flush()
            os.dup2(kept[number], number)
            os.close(kept[number])
