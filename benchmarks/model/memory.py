"""Memory of a training run by RelationTrainer, each run in a process of its own. Linux only.

"peak resident MiB" is the most that was resident at once, Python and its packages included; "anonymous MiB" is what is
held at the end without the pages of mapped files, which the kernel takes back when it likes.
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, load_from_disk

from benchmarks.harness.competitors import Bench, bare_competitor, load_encoder, preset_competitor
from modeling_vmhan import VMHANCollator
from vmhan.training.arguments import RunArguments
from vmhan.training.loop.trainer import RelationTrainer
from vmhan.training.posts.data import FEATURE_COLUMNS, with_lengths


__all__ = ["measure_runs", "train"]


def measure_runs(runs: dict[str, dict[str, Any]], rounds: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Return what `train` says of each run in each round. The runs' `posts`, a data set, go through `folder`."""
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    for name, run in runs.items():
        run["posts"].save_to_disk(folder / name)
    for _ in range(rounds):
        for name, run in runs.items():
            job = {**run, "posts": str(folder / name), "output": str(folder / "output")}
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                for measure, value in process.submit(train, **job).result().items():
                    measured[name].setdefault(measure, []).append(value)
    return measured


def train(posts: str, encoder: str, competitor: str, batch_size: int, max_steps: int, output: str) -> dict[str, float]:
    """Train as run_mmre.py does on the posts of a folder; the peaks of this process, and milliseconds of processor
    time a post. `competitor` is "bare" or VM-HAN's entity representation; `max_steps` of -1 is one epoch.
    """
    torch.set_num_threads(1)
    rows: Dataset = load_from_disk(posts)
    rows = rows.with_format("numpy", columns=list(FEATURE_COLUMNS), output_all_columns=True)
    relations = rows.features["pairs"].feature["relation"].names
    bench = Bench(*load_encoder(encoder), [rows[0]], relations, batch_size=1)
    built = bare_competitor(bench) if competitor == "bare" else preset_competitor(bench, competitor)
    length = {"max_steps": max_steps, "num_train_epochs": 1, "per_device_train_batch_size": batch_size}
    quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    rules = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
    run_args = RunArguments(output_dir=output, **length, **rules, **quiet)
    trainer = RelationTrainer(
        model=built.model,
        args=run_args,
        train_dataset=with_lengths(DatasetDict(train=rows), built.processor, run_args)["train"],
        data_collator=VMHANCollator(built.processor, built.model.config.label2id),
    )
    start = time.process_time()
    trainer.train()
    milliseconds = 1000 * (time.process_time() - start)
    seen = trainer.state.global_step * batch_size if max_steps > 0 else len(rows)
    # not getrusage's ru_maxrss, which a child process inherits from the one that started it
    peaks = {"peak resident MiB": memory("VmHWM"), "anonymous MiB": memory("RssAnon")}
    return {**peaks, "processor ms a post": milliseconds / seen}


def memory(name: str) -> float:
    """Read a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
