"""How fast do VM-HANs train and answer on a GPU, against the bare encoders, up to the batch that fills it?

    python -m benchmarks.model.gpu --output_dir outputs/gpu
    python -m benchmarks.model.gpu --device cpu --encoder tiny --image_size 32 --batch_sizes 2 4 --no_compile

At each batch size, smallest first, what is compared takes turns in one process, under autocast to bfloat16:

    bare text      the text encoder and one linear layer over the states of two markers, a pair in each row
    text only      the preset text_only, packed
    features       VM-HAN, packed, with three objects a post, whose features are given
    pixels         the same with VGG16 in the model: four crops a post
    bare vision    VGG16 over as many crops, in one call; it is frozen, so that its step is a forward pass

and each but the bare vision encoder once more as torch.compile has it (not with --no_compile). A row that runs out of
memory is left out at larger batches. What was measured when the minutes are over is kept. Memory is the most that
tensors of the device had during the row's first turn, on a CPU 0. The pictures are noise, the weights of VGG16 random.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.harness.command import new_parser
from benchmarks.harness.competitors import (
    ENCODERS,
    MAX_LENGTH,
    Bench,
    Competitor,
    bare_competitor,
    load_encoder,
    preset_competitor,
)
from benchmarks.harness.posts import load_posts, with_features
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import take_turns
from benchmarks.harness.vision import anew
from modeling_vmhan import VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.weights import load_region_encoder


__all__ = ["main"]

PHASES = ("train", "inference")
Turns = dict[str, list[Callable[[], Any]]]


def main(argv: list[str] | None = None) -> None:
    """Measure batch size by batch size and write gpu.md, gpu.json and a picture for each phase."""
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--encoder", choices=ENCODERS, default="bert-base-random")
    parser.add_argument("--image_size", type=int, default=224, help="S in pixels")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 64, 256, 1024], help="posts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no_compile", action="store_true", help="leave those rows out")
    parser.add_argument("--minutes", type=float, default=8, help="after which no further batch size is begun")
    parser.add_argument("--data_dir", help="folder of MNRE; postcards are drawn when left out")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/gpu"))
    arguments = parser.parse_args(argv)
    end = time.monotonic() + 60 * arguments.minutes
    transformers.utils.logging.set_verbosity_error()
    tables: dict[str, Table] = {}
    about = {"device": _name_of(arguments.device), "encoder": arguments.encoder, "crops, pixels": arguments.image_size}
    try:
        for phase, size, table in measure(arguments, end):
            tables[f"{phase}/{size} posts"] = table
    finally:  # what was measured before an error is kept
        print(write_report(arguments.output_dir, __spec__.name, argv, about, tables))


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def measure(arguments: argparse.Namespace, end: float) -> Iterator[tuple[str, int, Table]]:
    posts, relations = load_posts(arguments.data_dir, max(arguments.batch_sizes), 1)
    encoder = load_encoder(arguments.encoder)
    full: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        stored = list(
            with_features(posts, relations, Path(folder), feature_size=4096, count=max(arguments.batch_sizes))
        )
        for size in sorted(arguments.batch_sizes):
            if time.monotonic() > end:
                return
            bench = Bench(*encoder, stored[:size], relations, size, arguments.device)
            for phase in PHASES:
                turns, memory = {}, {}
                for name, of_row in rows_of(bench, arguments, training=phase == "train").items():
                    if name not in full:
                        memory[name] = peak_memory(of_row, arguments.device)
                        turns |= {} if memory[name] is None else {name: of_row}
                full |= {name for name, most in memory.items() if most is None}
                times = take_turns(turns, arguments.rounds, device=arguments.device)
                work = {"posts": size, "pairs": sum(len(post["pairs"]) for post in bench.posts)}
                if not times:
                    continue
                reference = next(iter(times))  # "bare text", where it still fits
                rows = {
                    name: Row({"wall": of["wall"]}, reference, work | {"peak MiB": memory[name]})
                    for name, of in times.items()
                }
                yield phase, size, Table(rows, per="posts")


def rows_of(bench: Bench, arguments: argparse.Namespace, *, training: bool) -> Turns:
    """A turn over one batch for each row of the docstring."""
    pixels = pixel_competitor(bench, arguments.image_size)
    competitors = {
        "bare text": bare_competitor(bench),
        "text only": preset_competitor(bench, preset="text_only"),
        "features": preset_competitor(bench),
        "pixels": pixels,
    }
    turns: Turns = {}
    for name, competitor in competitors.items():
        competitor.model.train(training)
        turns[name] = competitor.turns(training=training, bf16=True)
        if not arguments.no_compile:
            compiled = copy.copy(competitor)
            compiled.model = torch.compile(competitor.model, dynamic=False)
            turns[f"{name}, compiled"] = compiled.turns(training=training, bf16=True)
    vision, crops = pixels.model.vmhan.vision_encoder, pixels.batches[0]["pixel_values"].flatten(0, 1)
    turns["bare vision"] = [lambda: vision.in_form(crops.device).encode(crops)]
    return {name: [partial(anew, vision, turn) for turn in of_row] for name, of_row in turns.items()}


def pixel_competitor(bench: Bench, image_size: int) -> Competitor:
    """VM-HAN with VGG16 over the bench's posts, whose features give way to pictures of noise."""
    vision, transform = load_region_encoder("vgg16", "random:0")
    fields = {"vision_encoder": "vgg16", "image_transform": {**transform.to_dict(), "size": image_size}}
    fields |= {"entity_representation": "packed", **bench.fields}
    model = VMHANForRelationClassification.from_text_encoder(bench.encoder, vision=(vision, transform), **fields)
    processor = VMHANProcessor.for_config(model.config, bench.tokenizer, max_length=MAX_LENGTH)
    noise = np.random.default_rng(0)
    pictured = [
        {name: value for name, value in post.items() if not name.endswith("_features")}
        | {"image": Image.fromarray(noise.integers(0, 256, (96, 96, 3), dtype=np.uint8))}
        for post in bench.posts
    ]
    return bench.compete(model, processor, pictured)


def peak_memory(turns: list[Callable[[], Any]], device: str) -> int | None:
    """MiB of the device's tensors during the first turn; None where they do not fit."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        turns[0]()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return torch.cuda.max_memory_allocated(device) >> 20 if on_gpu else 0


if __name__ == "__main__":
    main()
