"""How fast is VM-HAN against the bare text encoder, the paper's recipe, its own presets and its baselines? Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.speed --encoder offline --data_dir MNRE_DIR --output_dir outputs/speed

What is compared takes turns in one process, in random order within each round; ratios are taken within a round, and
median and quartiles are over the rounds. All read the same posts, a batch at a time, as tensors (`loader` measures how
these are made); a training step is forward, backward and AdamW. The parts:

    step      bare_padded    the paper's recipe on its encoder alone: one linear layer, a pair a row, padded to 128
              bare_dynamic   the same, padded to the longest row of the batch; bare_buckets: rows of like length, too
              marker, span, packed    VM-HAN over the same batches; marker_buckets, packed_buckets: of like length
    pairs     marker, span and packed over sentences with 1, 2, 5, 10 and 20 pairs
    presets   every row of Table 2, packed;   baselines: every baseline against VM-HAN packed
    breakdown where the time of a step with markers and packed goes (benchmarks/breakdown.py)
    head      V-HAN alone (benchmarks/head.py)
    loader    posts through processor and collator with 0 and 2 workers, against the tokenizer alone
    memory    peak memory of a training run, a process each (benchmarks/training_memory.py); growth: over more rows

The visual features are random numbers (a vision encoder is no part of a step, but hvpnet's is) and there are no
captions. --bf16 measures all of `step` under autocast, too. Writes speed.json, speed.md and a picture a part; the
Markdown says which of the targets (speed_targets.py) are reached.
"""

import argparse
import copy
import gc
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader, Subset

from benchmarks import head
from benchmarks.breakdown import measure_breakdown
from benchmarks.competitors import (
    ENCODERS,
    Bench,
    Competitor,
    bare_competitor,
    baseline_competitor,
    load_encoder,
    preset_competitor,
)
from benchmarks.sentences import load_sentences, with_features, with_pairs
from benchmarks.speed_report import make_table, write_report
from benchmarks.timing import take_turns
from benchmarks.training_memory import measure_growth, measure_memory
from modeling_vmhan import PRESETS, VMHANCollator
from vmhan.baselines import BASELINES
from vmhan.training.environment import describe_environment


__all__ = ["main"]

PHASES = ("train", "inference")
PADDED = 128  # tokens of the paper's rows
HEAD_OF_TINY = ["--pairs", "8", "--hidden_size", "32", "--growth", "4", "8"]
LOADED = 32  # batches a round of the loader: the posts again and again
MEMORY_ROUNDS = 3  # at most: they differ little, and each is a new process a run

Tables = dict[str, Any]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measure the parts one after the other; the files are written anew after each of them."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()  # no weights of a pooler are missed here
    posts, relations, source = load_sentences(arguments.data_dir, arguments.batch_size, arguments.batches)
    facts = describe(arguments, posts, source, sys.argv[1:] if argv is None else argv)
    report: dict[str, Any] = {"facts": facts, "tables": {}, "skipped": {}}
    with tempfile.TemporaryDirectory() as folder:
        stored = with_features(posts, relations, Path(folder), feature_size=arguments.feature_size)
        bench = Bench(
            *load_encoder(arguments.encoder),
            posts=list(stored),
            relations=relations,
            batch_size=arguments.batch_size,
            device=arguments.device,
            pyramid=arguments.pyramid,
            pyramid_size_px=arguments.pyramid_size_px,
        )
        for part in arguments.parts:
            if part in TIMED:
                TIMED[part](report, bench, arguments)
            elif part == "breakdown":
                report[part] = measure_breakdowns(bench, arguments)
            elif part == "loader":
                measure_loader(report, bench, stored, arguments)
            elif part == "head":
                report["head"] = measure_head(arguments)
            else:
                report[part] = measure_processes(part, posts, stored, arguments, Path(folder))
            facts["load_average_after"] = load_average()
            gc.collect()
            markdown = write_report(arguments.output_dir, report)
    print(markdown)
    return report


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = (*TIMED, "breakdown", "head", "loader", "memory", "growth")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--encoder", choices=list(ENCODERS), default="offline", help="offline: all-MiniLM-L6-v2")
    parser.add_argument("--data_dir", help="folder of MNRE; postcards are drawn when left out")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/speed"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16, help="posts a batch")
    parser.add_argument("--batches", type=int, default=4, help="batches a round, the same posts for all")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--bf16", action="store_true", help="measure `step` under autocast to bfloat16, too")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 2, 5, 10, 20], help="pairs a sentence")
    parser.add_argument("--pairs_per_batch", type=int, default=40, help="of part `pairs`: batches hold as many pairs")
    parser.add_argument("--feature_size", type=int, default=4096, help="V, numbers of an image's or object's feature")
    parser.add_argument("--pyramid", default="resnet50:random:0", help="hvpnet's ResNet and its weights")
    parser.add_argument("--pyramid_size_px", type=int, default=224, help="side of the crops it sees")
    parser.add_argument("--large", action="store_true", help="growth: 100,000 rows, too")
    parser.add_argument("--growth", type=int, nargs="+", default=[1_000, 10_000], help="growth: numbers of rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the timed parts; memory and growth are the host's")
    return parser.parse_args(argv)


def describe(arguments: argparse.Namespace, posts: list[dict], source: str, argv: list[str]) -> dict[str, Any]:
    """What a reader must know of the run."""
    asked = ("encoder", "rounds", "batch_size", "batches", "threads", "device", "feature_size", "bf16")
    facts: dict[str, Any] = {name: getattr(arguments, name) for name in asked}
    facts["command"] = " ".join(["python -m benchmarks.speed", *argv])
    facts["processor"] = processor_name()
    if arguments.device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(arguments.device)
    facts |= {"sentences": source, "posts": len(posts), "pairs": sum(len(post["pairs"]) for post in posts)}
    facts |= {"clock": clock_of(arguments), "environment": describe_environment()}
    return facts | {"load_average_before": load_average(), "load_average_after": load_average()}


def clock_of(arguments: argparse.Namespace) -> str:
    """The processor's time is the time it took for a single thread on a CPU only."""
    return "wall" if arguments.threads > 1 or arguments.device != "cpu" else "processor"


def load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


def processor_name() -> str:
    """As Linux calls it, and the vector instructions that PyTorch uses."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


# ---------------------------------------------------------------- the timed parts


def race(
    competitors: dict[str, Competitor], reference: str, phase: str, arguments: argparse.Namespace, bf16: bool = False
) -> dict[str, Any]:
    """A table: what each does in a pass over its batches, and how long that takes in each round."""
    turns, work = {}, {}
    for precision in (False, True) if bf16 else (False,):
        for name, competitor in competitors.items():
            competitor.model.train(phase == "train")
            label = f"{name}, bf16" if precision else name
            turns[label] = competitor.turns(training=phase == "train", bf16=precision)
            work[label] = competitor.work
    return make_table(take_turns(turns, arguments.rounds, device=arguments.device), work, reference)


def measure_step(report: dict[str, Any], bench: Bench, arguments: argparse.Namespace) -> None:
    competitors = {
        "bare_padded": bare_competitor(bench, pad_to=PADDED),
        "bare_dynamic": bare_competitor(bench),
        "bare_buckets": bare_competitor(bench, by_length=True),
        **{mode: preset_competitor(bench, mode) for mode in ("marker", "span", "packed")},
        **{f"{mode}_buckets": preset_competitor(bench, mode, by_length=True) for mode in ("marker", "packed")},
    }
    for phase in arguments.phases:
        report["tables"][f"step/{phase}"] = race(competitors, "bare_dynamic", phase, arguments, arguments.bf16)


def measure_pairs(report: dict[str, Any], bench: Bench, arguments: argparse.Namespace) -> None:
    for count in arguments.pairs:
        competitors = with_so_many_pairs(bench, count, ("marker", "span", "packed"), arguments)
        for phase in arguments.phases:
            report["tables"][f"pairs/{phase}/{count}"] = race(competitors, "marker", phase, arguments)


def with_so_many_pairs(
    bench: Bench, count: int, representations: tuple[str, ...], arguments: argparse.Namespace
) -> dict[str, Competitor]:
    """VM-HAN over sentences with `count` pairs, in batches of about `--pairs_per_batch` pairs."""
    posts_a_batch = max(1, arguments.pairs_per_batch // count)
    bench = copy.copy(bench)  # with the same encoder and optimizer
    bench.batch_size = posts_a_batch
    posts = [with_pairs(post, count) for post in bench.posts[: posts_a_batch * arguments.batches]]
    return {name: preset_competitor(bench, name, posts=posts) for name in representations}


def measure_presets(report: dict[str, Any], bench: Bench, arguments: argparse.Namespace) -> None:
    competitors = {preset: preset_competitor(bench, preset=preset) for preset in PRESETS}
    for phase in arguments.phases:
        report["tables"][f"presets/{phase}"] = race(competitors, "full", phase, arguments)


def measure_baselines(report: dict[str, Any], bench: Bench, arguments: argparse.Namespace) -> None:
    competitors, skipped = {"vmhan": preset_competitor(bench)}, {}
    for name in BASELINES:
        try:
            competitors[name] = baseline_competitor(bench, name)
        except (OSError, ValueError) as error:  # weights that cannot be had, an encoder it does not take
            skipped[name] = str(error)
    report["skipped"] |= skipped
    for phase in arguments.phases:
        report["tables"][f"baselines/{phase}"] = race(competitors, "vmhan", phase, arguments)


TIMED = {"step": measure_step, "pairs": measure_pairs, "presets": measure_presets, "baselines": measure_baselines}


# ---------------------------------------------------------------- the others


def measure_breakdowns(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """Of the data's sentences, as batches come and by length, and of those with many pairs."""
    modes = ("marker", "packed")
    subjects = {
        "The data's sentences": {mode: preset_competitor(bench, mode) for mode in modes},
        "Batches of like length": {mode: preset_competitor(bench, mode, by_length=True) for mode in modes},
        **{
            f"{count} pairs a sentence": with_so_many_pairs(bench, count, modes, arguments)
            for count in arguments.pairs
            if count > 2
        },
    }
    options = {"clock": clock_of(arguments), "device": arguments.device}
    return {
        title: measure_breakdown(competitors, bench.encoder, arguments.rounds, **options)
        for title, competitors in subjects.items()
    }


def measure_loader(report: dict[str, Any], bench: Bench, stored: Any, arguments: argparse.Namespace) -> None:
    """The posts from disk to batches; what the tokenizer alone takes for the same sentences."""
    competitor = preset_competitor(bench)
    collate = VMHANCollator(competitor.processor, competitor.model.config.label2id)
    rows = [i % len(bench.posts) for i in range(LOADED * bench.batch_size)]
    texts = [" ".join(bench.posts[i]["tokens"]) for i in rows]

    def tokenize() -> None:
        for start in range(0, len(texts), bench.batch_size):
            bench.tokenizer(texts[start : start + bench.batch_size], padding=True, return_tensors="pt")

    def load(loader: DataLoader) -> None:
        for _ in loader:
            pass

    turns = {"tokenizer": [tokenize]}
    for workers in (0, 2):
        options = {"num_workers": workers, "persistent_workers": workers > 0}
        loader = DataLoader(Subset(stored, rows), batch_size=bench.batch_size, collate_fn=collate, **options)
        turns[f"workers_{workers}"] = [partial(load, loader)]
    work = {name: {"posts": len(rows)} for name in turns}
    report["tables"]["loader"] = make_table(take_turns(turns, arguments.rounds), work, "tokenizer")


def measure_head(arguments: argparse.Namespace) -> dict[str, Any]:
    sizes = HEAD_OF_TINY if arguments.encoder == "tiny" else []
    options = ["--rounds", str(max(2, arguments.rounds)), "--threads", str(arguments.threads)]
    return head.measure_head(head.parse_arguments([*options, *sizes]))


def measure_processes(
    part: str, posts: list[dict], stored: Any, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    options = {"batch_size": arguments.batch_size, "rounds": min(arguments.rounds, MEMORY_ROUNDS), "folder": folder}
    if part == "memory":
        return measure_memory(stored, arguments.encoder, **options)
    sizes = [*arguments.growth, *([100_000] if arguments.large else [])]
    return measure_growth(posts, stored.features["pairs"].feature["relation"].names, sizes, **options)


if __name__ == "__main__":
    main()
