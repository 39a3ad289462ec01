"""Does memory grow with the number of images while their features are made? Peak memory for several numbers.

    python benchmarks/visual_feature_memory.py --images 200 2000

Draws that many postcards, makes the features of each image and its objects with a tiny random vision backbone of 4096
features (memory, not speed, is measured), each number in a process of its own, and writes a table to standard output.
Linux only. If every vector were held, 2,000 postcards with 14,506 regions would need 113 MiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from transformers import AutoModel, ConvNextConfig

from datasets_scripts.builders.building import build
from datasets_scripts.builders.postcards import Postcards


__all__ = ["main"]

# As wide as VGG16's fc7, and a millionth of its work.
BACKBONE = ConvNextConfig(hidden_sizes=[8, 8, 8, 4096], depths=[1, 1, 1, 0], image_size=32)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000], help="numbers of images to compare")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)  # in a process of its own, with --folder
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.folder)))
        return
    print("images  regions  before (MiB)  peak (MiB)  growth (MiB)  seconds")
    with tempfile.TemporaryDirectory() as folder:
        AutoModel.from_config(BACKBONE).save_pretrained(Path(folder) / "backbone")
        for count in arguments.images:
            draw(count, Path(folder))
            command = [sys.executable, __file__, "--measure", str(count), "--folder", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            growth = row["peak"] - row["before"]
            line = "{images:6d}  {regions:7d}  {before:12.1f}  {peak:10.1f}  {growth:12.1f}  {seconds:7.1f}"
            print(line.format(growth=growth, **row), flush=True)


def draw(count: int, folder: Path, **options):
    """A set of `count` postcards, from the cache once it is drawn."""
    numbers = {"num_train": count, "num_validation": 1, "num_test": 1}
    return build(Postcards, config_name="postcards", cache_dir=folder / "cache", **numbers, **options)


def measure(count: int, folder: Path) -> dict[str, float]:
    """Memory of this process before its features are made, and the most while they are."""
    torch.set_num_threads(1)
    spec = f"transformers:{folder / 'backbone'}"
    draw(2, folder, features=spec)  # what is paid once: imports, the network
    sampler = MemorySampler()
    before, start = memory(), time.perf_counter()
    with sampler:
        posts = draw(count, folder, features=spec)
    seconds = time.perf_counter() - start
    regions = sum(1 + len(boxes) for boxes in posts["train"]["boxes"])
    return {"images": count, "regions": regions, "before": before, "peak": sampler.peak, "seconds": seconds}


class MemorySampler(threading.Thread):
    """The largest `memory()` seen in a `with` block, looked at every 5 milliseconds."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self._done = memory(), threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.005):
            self.peak = max(self.peak, memory())

    def __enter__(self) -> "MemorySampler":
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self._done.set()
        self.join()


def memory() -> float:
    """Memory of this process in MiB, without the pages of mapped files, which the kernel takes back when it likes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


if __name__ == "__main__":
    main()
