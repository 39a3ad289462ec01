"""Memory of a training run by RelationTrainer, each run in a process of its own. Linux only.

`peak_resident_mib` is all that was resident at once (VmHWM), Python and its packages included; `peak_anonymous_mib` is
without the pages of mapped files, which the kernel takes back when it likes.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, load_from_disk
from tqdm.auto import tqdm

from benchmarks.competitors import Bench, Competitor, bare_competitor, load_encoder, preset_competitor
from benchmarks.sentences import with_features
from benchmarks.visual_feature_memory import MemorySampler
from modeling_vmhan import VMHANCollator
from vmhan.training.arguments import RunArguments
from vmhan.training.data import FEATURE_COLUMNS, with_lengths
from vmhan.training.trainer import RelationTrainer


__all__ = ["main", "measure_growth", "measure_memory"]

RUNS = ("bare", "marker", "packed")
GROWTH_FEATURES = 512  # numbers a region: less to write than VGG16's 4096, and the same way into the batch
STEPS = 4


def measure_memory(posts: Dataset, encoder: str, *, batch_size: int, rounds: int, folder: Path) -> dict[str, Any]:
    """A few steps over these posts: `peak_resident_mib` and `peak_anonymous_mib` of each run, a number a round."""
    posts.save_to_disk(folder / "posts")
    job = {"posts": str(folder / "posts"), "encoder": encoder, "batch_size": batch_size, "max_steps": STEPS}
    rows: dict[str, Any] = {run: {} for run in RUNS}
    for _ in tqdm(range(rounds), desc="memory", leave=False):
        for run in RUNS:
            add(rows[run], run_alone({**job, "run": run, "output": str(folder / "out")}))
    return {"reference": "bare", "rows": rows, "steps": STEPS}


def measure_growth(
    posts: list, relations: list[str], sizes: list[int], *, batch_size: int, rounds: int, folder: Path
) -> dict[str, Any]:
    """A whole epoch of VM-HAN `packed` over so many generated rows, with a tiny encoder: memory, seconds a row."""
    rows: dict[str, Any] = {str(size): {} for size in sizes}
    for size in sizes:
        made = with_features(posts, relations, folder, feature_size=GROWTH_FEATURES, count=size)
        made.save_to_disk(folder / f"rows-{size}")
    for _ in tqdm(range(rounds), desc="growth", leave=False):
        for size in sizes:
            job = {"posts": str(folder / f"rows-{size}"), "encoder": "tiny", "batch_size": batch_size, "max_steps": -1}
            add(rows[str(size)], run_alone({**job, "run": "packed", "output": str(folder / "out")}))
    return {"reference": str(sizes[0]), "rows": rows, "encoder": "tiny"}


def add(row: dict[str, list[float]], measured: dict[str, float]) -> None:
    for name, value in measured.items():
        row.setdefault(name, []).append(value)


def run_alone(job: dict[str, Any]) -> dict[str, float]:
    """`train` in a new process, which says what it took in its last line."""
    command = [sys.executable, "-m", "benchmarks.training_memory", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"the run {job} failed with exit code {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=json.loads, help="what run_alone was given")
    print(json.dumps(train(parser.parse_args(argv).job)))


def train(job: dict[str, Any]) -> dict[str, float]:
    """Train as run_mmre.py does; peaks of this process, and seconds a post of the training itself."""
    torch.set_num_threads(1)
    posts = load_from_disk(job["posts"]).with_format("numpy", columns=list(FEATURE_COLUMNS), output_all_columns=True)
    competitor = competitor_of(job, posts)
    model, processor = competitor.model, competitor.processor
    run_args = RunArguments(
        output_dir=job["output"],
        per_device_train_batch_size=job["batch_size"],
        max_steps=job["max_steps"],
        num_train_epochs=1,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    with MemorySampler() as sampler:
        posts = with_lengths(DatasetDict(train=posts), processor, run_args)["train"]
        trainer = RelationTrainer(
            model=model,
            args=run_args,
            train_dataset=posts,
            data_collator=VMHANCollator(processor, model.config.label2id),
        )
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    seen = trainer.state.global_step * job["batch_size"] if job["max_steps"] > 0 else len(posts)
    return {"peak_resident_mib": peak_resident(), "peak_anonymous_mib": sampler.peak, "seconds_a_post": seconds / seen}


def competitor_of(job: dict[str, Any], posts: Dataset) -> Competitor:
    """The model of the run, around an encoder of its own."""
    encoder, tokenizer = load_encoder(job["encoder"])
    relations = posts.features["pairs"].feature["relation"].names
    bench = Bench(encoder, tokenizer, [posts[0]], relations, batch_size=1)
    return bare_competitor(bench) if job["run"] == "bare" else preset_competitor(bench, job["run"])


def peak_resident() -> float:
    """MiB. Not getrusage's ru_maxrss, which a child process inherits from the one that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main()
