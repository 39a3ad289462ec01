"""Which checkpoint a run goes on from: the newest whole one, in which every file that Trainer reads can be read.

Imports no torch: a sweep asks the same questions before it starts a run.
"""

import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


__all__ = [
    "ASIDE", "SET_ASIDE", "STATE", "TRAIN_DATA", "UNAVERAGED", "check_model_folder", "checkpoint_fault",
    "choose_checkpoint", "newest_whole", "weights_fault",
]  # fmt: skip

logger = logging.getLogger(__name__)

ASIDE = ".unfinished"  # folder of --output_dir in which what is not whole yet is written
SET_ASIDE = "unfinished-"  # goes before the name of a checkpoint that is not whole
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
STATE = "trainer_state.json"
WEIGHTS = "model.safetensors"
TRAIN_DATA = "train_data.json"  # of which posts it has learned
UNAVERAGED = "unaveraged.safetensors"  # what training goes on with, where the weights are averaged ones


def choose_checkpoint(asked: str | None, output_dir: str | Path, num_processes: int = 1) -> Path | None:
    """The checkpoint that --resume_from_checkpoint means; None: training starts from the beginning.

    true is the newest whole one of `output_dir`, or None with a warning; a path is that checkpoint, or the newest
    whole one in that folder, and a ValueError says what is missing. What is not whole and newer than the chosen one is
    renamed (`SET_ASIDE`), so that neither a later resume nor Trainer's rotation counts it.
    """
    if asked is None or asked.lower() in ("", "false", "none"):
        return None
    folder = Path(output_dir if asked.lower() == "true" else asked)
    if asked.lower() == "true":
        chosen = newest_whole(folder, num_processes)
    elif _numbered(folder):
        chosen = newest_whole(folder, num_processes)
        if chosen is None:
            raise ValueError(f"--resume_from_checkpoint {asked}: no checkpoint in it is whole: {_faults(folder)}.")
    else:
        chosen, fault = folder, checkpoint_fault(folder, num_processes)
        if fault is not None:
            other = newest_whole(folder.parent, num_processes)
            fix = f"pass {other}, which is whole" if other is not None else "leave the flag out to start anew"
            raise ValueError(
                f"--resume_from_checkpoint {asked}: expected a whole checkpoint, received {fault}: {fix}."
            )
    _set_aside(Path(output_dir), chosen, num_processes)
    if chosen is None and folder.is_dir():
        logger.warning("--resume_from_checkpoint true: %s has no whole checkpoint: training starts anew", folder)
    return chosen


def newest_whole(folder: str | Path, num_processes: int = 1) -> Path | None:
    """The checkpoint-N of `folder` with the largest N from which a training of so many processes can go on."""
    return next((path for path in _numbered(Path(folder)) if checkpoint_fault(path, num_processes) is None), None)


def checkpoint_fault(folder: str | Path, num_processes: int = 1) -> str | None:
    """What keeps a training from going on at this checkpoint, such as "no optimizer.pt"; None for a whole one."""
    folder = Path(folder)
    if not folder.is_dir():
        return f"no folder {folder}"
    return (
        weights_fault(folder)
        or _one_of(folder, "optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
        or _one_of(folder, "scheduler.pt")
        or _random_states_fault(folder, num_processes)
        or ((folder / "scaler.pt").exists() and _fault_of(folder / "scaler.pt"))  # of half precision alone
        or ((folder / UNAVERAGED).exists() and _fault_of(folder / UNAVERAGED))
        or ((folder / TRAIN_DATA).exists() and _fault_of(folder / TRAIN_DATA))
        or _fault_of(folder / STATE)
        or (None if "global_step" in _read(folder / STATE) else f"no global_step in {STATE}")
    )


def weights_fault(folder: str | Path) -> str | None:
    """What keeps the weights of a saved model from being loaded: a file that is missing or cut short; None: nothing.

    They are model.safetensors or its shards, or what FSDP and DeepSpeed write in their place.
    """
    folder = Path(folder)
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).exists():
        return _fault_of(folder / WEIGHTS) or _fault_of(folder / "config.json")
    if not index.exists():
        of_others = [pattern for pattern in ("pytorch_model_fsdp*", "global_step*") if any(folder.glob(pattern))]
        return _one_of(folder, *of_others) if of_others else f"no {WEIGHTS}"
    if fault := _fault_of(index):
        return fault
    shards = _read(index).get("weight_map") or {}
    if not isinstance(shards, dict) or not shards:
        return f"no weight_map in {index.name}"
    names = (*sorted(map(str, shards.values())), "config.json")
    return next(filter(None, (_fault_of(folder / name) for name in dict.fromkeys(names))), None)


def check_model_folder(argument: str, name: str | Path) -> None:
    """ValueError for a folder whose weights cannot be loaded, as of a run that was killed; no folder is no matter."""
    fault = weights_fault(name) if Path(name).is_dir() else None
    if fault is not None:
        raise ValueError(
            f"{argument}: expected the folder of a finished run, received {name}, which has {fault}. It is not "
            "finished: end its training with --resume_from_checkpoint true."
        )


def _numbered(folder: Path) -> list[Path]:
    """The folders checkpoint-N, the newest first."""
    found = [path for path in folder.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_number, reverse=True)


def _number(path: Path) -> int:
    matched = CHECKPOINT.fullmatch(path.name)
    return int(matched[1]) if matched else -1


def _faults(folder: Path, num_processes: int = 1) -> str:
    return "; ".join(f"{path.name} has {checkpoint_fault(path, num_processes)}" for path in _numbered(folder))


def _set_aside(output_dir: Path, chosen: Path | None, num_processes: int) -> None:
    """Renames the checkpoints after the chosen one that are not whole, with a warning each."""
    for path in _numbered(output_dir):
        newer = chosen is None or (_number(path) > _number(chosen) and path.resolve() != chosen.resolve())
        fault = checkpoint_fault(path, num_processes) if newer else None
        if fault is not None:
            target = path.with_name(f"{SET_ASIDE}{path.name}")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(path, target)
            logger.warning("%s is left out, it has %s; it is now %s", path, fault, target.name)


def _random_states_fault(folder: Path, num_processes: int) -> str | None:
    """One file of a single process, or one a process: rng_state_0.pth and so on."""
    if (folder / "rng_state.pth").exists():
        return _fault_of(folder / "rng_state.pth")
    count = len(list(folder.glob("rng_state_*.pth")))
    if not count and num_processes == 1:
        return "no rng_state.pth"
    faults = [_fault_of(folder / f"rng_state_{i}.pth") for i in range(max(count, num_processes))]
    hint = " (each process has its own: resume with as many as saved it)"
    return next((fault + hint for fault in faults if fault), None)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _one_of(folder: Path, *patterns: str) -> str | None:
    """A fault of the files and folders of these names, of which there must be one."""
    found: Iterator[Path] = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    faults = [_fault_of(path) for path in found]
    return next(filter(None, faults), None) if faults else f"no {patterns[0]}"


def _fault_of(path: Path) -> str | None:
    """Whether a file can be read to its end, by its format: safetensors, JSON, or the zip files of torch.save."""
    if path.is_dir() and not path.suffix:  # of FSDP and DeepSpeed
        return None if any(path.iterdir()) else f"an empty {path.name}"
    if not path.is_file():
        return f"no {path.name}"
    if path.stat().st_size == 0:
        return f"an empty {path.name}"
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np"):  # compares the header's sizes with the file's
                return None
        if path.suffix == ".json":
            is_object = isinstance(_read(path), dict)
            return None if is_object else f"a {path.name} that is no JSON object"
        with zipfile.ZipFile(path) as file:
            return None if file.testzip() is None else f"a damaged {path.name}"
    except (SafetensorError, ValueError, OSError, zipfile.BadZipFile, zlib.error) as error:
        return f"a {path.name} that cannot be read ({error})"
