"""A command is killed with -9 at a random moment and run again: what it leaves must be what an undisturbed run leaves.

Each command runs in a process forked from this one, which has imported what takes seconds; the process is the head of
a session of its own, so that whatever it has started and left behind is found.
"""

import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from vmhan import cli


__all__ = ["COMMANDS", "kill_trials", "two_at_once"]

for command in ("predict", "prepare", "train", "sweep"):
    importlib.import_module(cli.COMMANDS[command][0])  # once, here: a fork has it then

REFUSED = 2  # the exit code of a command whose output another process has
SECONDS_TO_END = 3.0  # that a killed command's own workers may take
# Parts of the names of scores that are times, and of the loss that is a mean over what one process has trained.
OF_ONE_RUN = ("runtime", "per_second", "seconds", "_time", "train_loss")
POSTCARDS = {
    "text_encoder": "offline:all-MiniLM-L6-v2", "text_encoder_layers": 1, "dataset": "postcards", "num_train": 40,
    "num_validation": 16, "num_test": 16, "features": "random:0", "feature_size_px": 32, "visual": "features",
    "num_image_phrases": 0, "do_train": True, "num_train_epochs": 2, "per_device_train_batch_size": 8,
    "eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 3, "save_total_limit": 2, "report_to": "none",
    "disable_tqdm": True,
}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command line in `folder`, the one that goes on after a kill, and what is compared of its folder."""

    prepare: Callable[[Path], None]  # makes the inputs
    begin: list[str]
    resume: list[str]
    leaves: str  # a file that tells that the work was done
    code: int = 0


def predict_inputs(folder: Path) -> None:
    """A small trained model, and 600 questions of which some cannot be answered."""
    train = {**POSTCARDS, "num_train_epochs": 1, "visual": "none", "features": None, "save_strategy": "no"}
    (folder / "train.yaml").write_text(yaml.safe_dump({n: value for n, value in train.items() if value is not None}))
    assert run_here(["train", str(folder / "train.yaml"), "--output_dir", str(folder / "model")]) == 0
    names = [random.Random(i).choice(["Ann Keller", "Bob Ray", "Cleo Diaz"]) for i in range(600)]
    rows = [{"id": i, "text": f"{name} waves at Oslo", "head": name, "tail": "Oslo"} for i, name in enumerate(names)]
    rows[7]["head"] = rows[300]["tail"] = "Dora"
    (folder / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepare_inputs(folder: Path) -> None:
    """Forty pictures in sixty posts."""
    (folder / "data" / "images").mkdir(parents=True)
    for i in range(40):
        Image.effect_noise((200, 150), 60 + i).convert("RGB").save(folder / "data" / "images" / f"{i}.png")
    for split, numbers in (("train", range(60)), ("validation", range(10))):
        rows = [
            {
                "text": f"Ann met Bob number {i}", "image": f"{i % 40}.png",
                "pairs": [{"head": "Ann", "tail": "Bob", "relation": "peer" if i % 2 else "None"}],
            }
            for i in numbers
        ]  # fmt: skip
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_inputs(folder: Path) -> None:
    (folder / "train.yaml").write_text(yaml.safe_dump({**POSTCARDS, "cache_dir": str(folder.parent / "cache")}))


def sweep_inputs(folder: Path) -> None:
    train_inputs(folder)
    sweep = {
        "datasets": {"postcards": {"config": "train.yaml"}},
        "rows": {"full": {}, "no_kl": {"preset": "no_kl"}},
        "flags": {"num_train_epochs": 1},
        "reference": "full",
        "seeds": [1],
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))


PREPARE = "prepare --source jsonl --data_dir data --output_dir out --selector none --features random:0 --shard_size 8"
PREPARE += ' --feature_options {"size":64} --figures false'
SWEEP = "sweep sweep.yaml --results out --num_proc 1".split()
TRAIN = "train train.yaml --output_dir out".split()
PREDICT = "predict model posts.jsonl --output out/answers.jsonl".split()
PREPARE_BY_TWO = [*PREPARE.split(), "--num_proc", "2"]
COMMANDS = {
    "predict": Command(predict_inputs, PREDICT, PREDICT, "answers.errors.jsonl", code=1),
    "prepare": Command(prepare_inputs, PREPARE.split(), PREPARE.split(), "jsonl/train-*.parquet"),
    "prepare --num_proc 2": Command(prepare_inputs, PREPARE_BY_TWO, PREPARE_BY_TWO, "jsonl/train-*.parquet"),
    "train": Command(train_inputs, TRAIN, [*TRAIN, "--resume_from_checkpoint", "true"], "checkpoint-*/optimizer.pt"),
    "sweep": Command(sweep_inputs, SWEEP, SWEEP, "postcards/*/seed-1/run.json"),
}


def kill_trials(name: str, folder: Path, *, kills: int, seed: int = 0) -> Iterator[tuple[int, str]]:
    """Yield (kills, what was wrong or "") of each trial, which has one kill or two, until there were `kills`."""
    command, chance, done = COMMANDS[name], random.Random(f"{name} {seed}"), 0
    folder, longest, expected = undisturbed(name, folder / f"{name} killed")
    while done < kills:
        place = clone(folder / "inputs", folder / f"kill-{done}")
        moments = [chance.uniform(0, longest) for _ in range(min(chance.choice((1, 1, 2)), kills - done))]
        met, problem = killed_run(command, place, moments)
        if met and not problem:
            problem = difference(expected, outcome(place / "out"))
        if met:  # else it had ended before, which is no trial
            yield met, problem and f"{place}: {problem}"
        if not (met and problem):
            shutil.rmtree(place)
        done += met


def two_at_once(name: str, folder: Path, count: int) -> Iterator[tuple[int, str]]:
    """The same for two processes that are begun at random moments with one output."""
    command, chance = COMMANDS[name], random.Random(name)
    folder, longest, expected = undisturbed(name, folder / f"{name} twice")
    for number in range(count):
        place = clone(folder / "inputs", folder / f"twice-{number}")
        first = fork(call, command.begin, place)
        time.sleep(chance.uniform(0, longest / 2))
        codes = [run(command.resume, place), end(first)]
        problem = difference(expected, outcome(place / "out"))
        if command.code not in codes or not set(codes) <= {command.code, REFUSED}:
            problem = f"exit codes {codes}; {problem}"
        yield 1, problem and f"{place}: {problem}"
        if not problem:
            shutil.rmtree(place)


def undisturbed(name: str, folder: Path) -> tuple[Path, float, dict[str, Any]]:
    """The folder with its inputs, how long the command takes there, and what it leaves."""
    command, inputs = COMMANDS[name], folder / "inputs"
    inputs.mkdir(parents=True)
    assert end(fork(command.prepare, inputs)) == 0, f"{name}: no inputs, see {folder}"
    whole, started = clone(inputs, folder / "whole"), time.monotonic()
    assert run(command.begin, whole) == command.code, (whole / "log.txt").read_text()[-2000:]
    assert list((whole / "out").glob(command.leaves)), f"{name}: no {command.leaves} in {whole / 'out'}"
    return folder, time.monotonic() - started, outcome(whole / "out")


def killed_run(command: Command, place: Path, moments: list[float]) -> tuple[int, str]:
    """Kill the command at these moments, a run each, then let it end; returns the kills that met it, and a problem."""
    met = 0
    for moment in moments:
        process = fork(call, command.resume if met else command.begin, place)
        process.join(moment)
        if not process.is_alive():
            break
        process.kill()
        process.join()
        met += 1
        if left := still_there(process.pid):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return met, f"{len(left)} processes of a killed command were there after {SECONDS_TO_END} s"
    code = run(command.resume if met else command.begin, place)
    return met, "" if code == command.code else f"exit code {code} after a kill at {moments}, see log.txt"


def clone(inputs: Path, place: Path) -> Path:
    """The inputs under another name, their large files as links."""
    return Path(shutil.copytree(inputs, place, copy_function=os.link))


def outcome(folder: Path) -> dict[str, Any]:
    """{name: content} of every file, where times and paths are left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): content(path) for path in files}


def content(path: Path) -> Any:
    """What must be the same in two runs: all of it, but for records of times, of command lines and of this machine."""
    if path.name == "metrics.json":
        values = json.loads(path.read_text())
        return {name: value for name, value in values.items() if not any(part in name for part in OF_ONE_RUN)}
    if path.suffix in (".safetensors", ".jsonl", ".parquet", ".txt") and path.name != "log.txt":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "there"


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    names = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    return "; ".join(f"{name}: {found.get(name, 'missing')} for {expected.get(name, 'nothing')}" for name in names)[
        :600
    ]


def fork(function: Callable[..., Any], *arguments: Any) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=_in_session, args=(function, *arguments))
    process.start()
    return process


def _in_session(function: Callable[..., Any], *arguments: Any) -> None:
    os.setsid()
    sys.exit(function(*arguments))


def end(process: multiprocessing.Process) -> int:
    process.join()
    return process.exitcode


def run(argv: list[str], place: Path) -> int:
    return end(fork(call, argv, place))


def call(argv: list[str], place: Path) -> int:
    """The command in the folder `place`, its output in log.txt there."""
    os.chdir(place)
    sys.modules["__main__"] = cli  # what the command's own processes import first, as those of `vmhan` do
    with open("log.txt", "a") as log:
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
    return run_here(argv)


def run_here(argv: list[str]) -> int:
    code = cli.main(argv)
    sys.stdout.flush(), sys.stderr.flush()
    return code


def still_there(session: int) -> list[int]:
    """Processes of this session that live on after `SECONDS_TO_END`."""
    deadline = time.monotonic() + SECONDS_TO_END
    while left := [pid for pid, of in sessions() if of == session]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def sessions() -> Iterator[tuple[int, int]]:
    """(pid, session id) of every living process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if state != "Z":
                yield int(folder.name), int(session)
