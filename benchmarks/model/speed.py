"""How fast is VM-HAN against the bare text encoder, and against the paper's recipe? Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.model.speed --encoder offline --data_dir MNRE_DIR --output_dir outputs/speed

What is compared takes turns in one process, in random order within each round; ratios are taken within a round. All
read the same posts, a batch at a time, as tensors; a training step is forward, backward and AdamW. The parts:

    step       bare_padded: the paper's recipe on its encoder alone, one linear layer, a pair a row, padded to 128;
               bare_dynamic: the same, padded to the longest row of the batch;
               marker, span, packed: VM-HAN over the same batches; ..._buckets: batches of like length
    pairs      marker, span and packed over sentences with 1, 2, 5, 10 and 20 pairs
    breakdown  the parts of a step with markers and packed
    latency    posts as text through tokenizer and encoder, processor and model, and the whole pipeline, with features
               and as text alone (preset text_only), one post at a time and in batches
    memory     peak memory of a training run, each in a process of its own (memory.py)
    growth     the same over an epoch with more and more rows and a tiny encoder

The visual features are random numbers (a vision encoder is no part of a step) and there are no captions. Writes
speed.md, speed.json with every round, and a picture a part. V-HAN alone: head.py.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import transformers

from benchmarks.harness.command import new_parser
from benchmarks.harness.competitors import (
    ENCODERS,
    STEP_PARTS,
    Bench,
    Competitor,
    bare_competitor,
    encode_sentences,
    load_encoder,
    preset_competitor,
    step_in_parts,
    with_so_many_pairs,
)  # fmt: skip
from benchmarks.harness.posts import load_posts, text_alone, with_features
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import CLOCKS, take_turns
from benchmarks.model.memory import measure_runs
from modeling_vmhan import MultimodalRelationClassificationPipeline


__all__ = ["main"]

PHASES = ("train", "inference")
PADDED = 128  # tokens of the paper's rows
MEMORY_STEPS = 4
GROWTH_FEATURES = 512  # numbers a region: less to write than VGG16's 4096, and the same way into the batch

Tables = Iterator[tuple[str, Table]]


def main(argv: list[str] | None = None) -> None:
    """Measure the parts one after the other and write the report."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()  # no weights of a pooler are missed here
    posts, relations = load_posts(arguments.data_dir, arguments.batch_size, arguments.batches)
    source = "MNRE-2's training split" if arguments.data_dir else "drawn postcards, not real sentences"
    pairs = sum(len(post["pairs"]) for post in posts)
    about = {"encoder": arguments.encoder, "sentences": source, "posts": len(posts), "pairs": pairs}
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory() as folder:
        stored = with_features(posts, relations, Path(folder), feature_size=arguments.feature_size)
        encoder = load_encoder(arguments.encoder)
        bench = Bench(*encoder, list(stored), relations, arguments.batch_size, arguments.device)
        try:
            for part in arguments.parts:
                tables.update(PARTS[part](bench, stored, arguments))
        finally:  # what was measured before an error is kept
            print(write_report(arguments.output_dir, __spec__.name, argv, about, tables))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--encoder", choices=ENCODERS, default="offline", help="offline: all-MiniLM-L6-v2")
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
    parser.add_argument("--growth", type=int, nargs="+", default=[1_000, 10_000], help="growth: numbers of rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the timed parts; memory and growth are the host's")
    return parser.parse_args(argv)


def race(part: str, competitors: dict[str, Competitor], against: str, arguments, precisions=(False,)) -> Tables:
    """Time a pass over its batches for each competitor; there is a table for each phase."""
    for phase in arguments.phases:
        turns, work = {}, {}
        for bf16 in precisions:
            for name, competitor in competitors.items():
                competitor.model.train(phase == "train")
                label = f"{name}, bf16" if bf16 else name
                turns[label] = competitor.turns(training=phase == "train", bf16=bf16)
                work[label] = competitor.work
        times = take_turns(turns, arguments.rounds, device=arguments.device)
        yield f"{part}/{phase}", Table({name: Row(times[name], against, work[name]) for name in turns}, per="pairs")


def measure_step(bench: Bench, stored, arguments) -> Tables:
    competitors = {
        "bare_padded": bare_competitor(bench, pad_to=PADDED),
        "bare_dynamic": bare_competitor(bench),
        "bare_buckets": bare_competitor(bench, by_length=True),
        **{mode: preset_competitor(bench, mode) for mode in ("marker", "span", "packed")},
        **{f"{mode}_buckets": preset_competitor(bench, mode, by_length=True) for mode in ("marker", "packed")},
    }
    return race("step", competitors, "bare_dynamic", arguments, (False, True) if arguments.bf16 else (False,))


def measure_pairs(bench: Bench, stored, arguments) -> Tables:
    sizes = {"pairs_per_batch": arguments.pairs_per_batch, "batches": arguments.batches}
    for count in arguments.pairs:
        competitors = with_so_many_pairs(bench, count, ("marker", "span", "packed"), **sizes)
        for name, table in race("pairs", competitors, "marker", arguments):
            yield f"{name}/{count}", table


def measure_breakdown(bench: Bench, stored, arguments) -> Tables:
    """Take steps apart over the data's sentences, as batches come and by length, and over those with many pairs."""
    modes, sizes = ("marker", "packed"), {"pairs_per_batch": arguments.pairs_per_batch, "batches": arguments.batches}
    subjects = {
        "sentences": {mode: preset_competitor(bench, mode) for mode in modes},
        "like length": {mode: preset_competitor(bench, mode, by_length=True) for mode in modes},
        **{f"{n} pairs": with_so_many_pairs(bench, n, modes, **sizes) for n in arguments.pairs if n > 2},
    }
    clock = CLOCKS["processor" if arguments.threads == 1 and arguments.device == "cpu" else "wall"]
    for title, competitors in subjects.items():
        yield f"breakdown/{title}", break_down(competitors, bench, arguments.rounds, clock, arguments.device)


def break_down(competitors: dict[str, Competitor], bench: Bench, rounds: int, clock, device: str = "cpu") -> Table:
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in competitors}

    def take(name: str, batch) -> None:
        steps[name].append(step_in_parts(competitors[name], batch, bench.encoder, clock, device))

    for competitor in competitors.values():
        competitor.model.train()
    take_turns({name: [partial(take, name, b) for b in of.batches] for name, of in competitors.items()}, rounds)
    rows = {}
    for name, competitor in competitors.items():
        count, timed = len(competitor.batches), steps[name][1:]  # the first is the warm-up
        by_round = [timed[start : start + count] for start in range(0, len(timed), count)]
        values = {part: [sum(step[part] for step in of_round) for of_round in by_round] for part in STEP_PARTS}
        values["step"] = [sum(of_round) for of_round in zip(*values.values())]
        rows[name] = Row(values, "marker", competitor.work)
    return Table(rows, per="pairs")


def measure_latency(bench: Bench, stored, arguments) -> Tables:
    built = preset_competitor(bench)
    device = torch.device(arguments.device)
    pipe = MultimodalRelationClassificationPipeline(built.model, built.processor, device=device)
    names = ("tokens", "boxes", "object_labels", "caption", "image_phrases", "pairs", "image_features")
    posts = [{name: post[name] for name in (*names, "object_features")} for post in bench.posts]

    text = preset_competitor(bench, preset="text_only")
    of_text = MultimodalRelationClassificationPipeline(text.model, text.processor, device=device)
    subjects = {
        "encoder": partial(encode_sentences, bench.encoder, bench.tokenizer),
        "model": lambda given: built.model(**built.processor(given).to(device)).logits.cpu(),
        "pipeline": lambda given: pipe(given, batch_size=len(given)),
        "text pipeline": lambda given: of_text([text_alone(post) for post in given], batch_size=len(given)),
    }
    built.model.eval()
    sizes = {"one post": 1, f"{bench.batch_size} posts": bench.batch_size}
    for title, size in sizes.items():
        batches = [posts[start : start + size] for start in range(0, len(posts), size)][: arguments.batches]
        turns = {name: [partial(subject, batch) for batch in batches] for name, subject in subjects.items()}
        with torch.no_grad():
            times, work = take_turns(turns, arguments.rounds), {"posts": sum(map(len, batches))}
        yield f"latency/{title}", Table({name: Row(times[name], "encoder", work) for name in turns}, "posts")


def measure_memory(bench: Bench, stored, arguments) -> Tables:
    run = {"posts": stored, "encoder": arguments.encoder, "batch_size": bench.batch_size, "max_steps": MEMORY_STEPS}
    runs = {name: {**run, "competitor": name} for name in ("bare", "marker", "packed")}
    yield "memory", processes(runs, "bare", arguments)


def measure_growth(bench: Bench, stored, arguments) -> Tables:
    run = {"encoder": "tiny", "competitor": "packed", "batch_size": bench.batch_size, "max_steps": -1}
    with tempfile.TemporaryDirectory() as folder:
        make = partial(with_features, bench.posts, bench.relations, Path(folder), feature_size=GROWTH_FEATURES)
        runs = {f"{size} rows": {**run, "posts": make(count=size)} for size in arguments.growth}
        yield "growth", processes(runs, f"{arguments.growth[0]} rows", arguments)


def processes(runs, against: str, arguments) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        measured = measure_runs(runs, arguments.rounds, Path(folder))
    return Table({name: Row(values, against) for name, values in measured.items()}, milliseconds=False)


PARTS = {
    "step": measure_step,
    "pairs": measure_pairs,
    "breakdown": measure_breakdown,
    "latency": measure_latency,
    "memory": measure_memory,
    "growth": measure_growth,
}


if __name__ == "__main__":
    main()
