"""How long does an answer take, against the bare text encoder on the same texts? Latency and throughput.

    python -m benchmarks.pipeline_latency --output outputs/pipeline_latency.json

Three things read the posts of a drawn data set (postcards), in one process and taking turns, so that whatever else the
machine does falls on all alike:

    encoder     tokenizer and text encoder over the sentences: what any answer must cost
    model       VMHANProcessor and VMHANForRelationClassification: hypergraph, images' features and phrases included
    pipeline    the whole of it: reading of the question, Monte Carlo uncertainty, ranking

Latency is of one post at a time; throughput of batches. Every batch is timed by the three in turn, in random order; a
ratio is taken within a round over all batches, and median and quartiles are over the rounds. Beside the clock on the
wall there is the processor time of this process, which other processes stretch less (on a GPU it says little). The
visual features are random numbers, precomputed: a vision encoder would hide the rest. Prints a table and writes JSON.
"""

import argparse
import functools
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoTokenizer

from benchmarks.timing import ratio, spread, take_turns
from datasets_scripts.builders.building import build
from datasets_scripts.builders.postcards import Postcards
from model_cards.run_metadata import write_atomically
from modeling_vmhan import MultimodalRelationClassificationPipeline, VMHANForRelationClassification, VMHANProcessor
from vmhan.training.text_encoders import OFFLINE_ENCODER, resolve_text_encoder


__all__ = ["main"]

FEATURES = 4096  # as wide as VGG16's fc7
KEPT = ("tokens", "boxes", "object_labels", "caption", "image_phrases", "pairs")

Post = dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    posts = draw_posts(arguments.posts)
    subjects, facts = make_subjects(arguments, posts)
    single = [[post] for post in posts]
    batches = [posts[i : i + arguments.batch_size] for i in range(0, len(posts), arguments.batch_size)]
    with torch.no_grad():
        results = {
            name: compare(subjects, given, arguments.rounds)
            for name, given in (("latency", single[: arguments.single]), ("throughput", batches))
        }
    report = {"facts": facts, **results}
    write_atomically(arguments.output, json.dumps(report, indent=2) + "\n")
    print(table(report))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=32, help="posts in batches")
    parser.add_argument("--single", type=int, default=4, help="of them, posts asked one at a time")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--entity_representation", default="packed", choices=("packed", "span", "marker"))
    parser.add_argument("--output", type=Path, default=Path("outputs/pipeline_latency.json"))
    return parser.parse_args(argv)


def draw_posts(count: int) -> list[Post]:
    """Posts with random visual features in place of the picture."""
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"num_train": count, "num_validation": 1, "num_test": 1}
        drawn = build(Postcards, config_name="postcards", cache_dir=folder, **sizes)["train"]
        posts = list(drawn.select_columns([name for name in KEPT if name in drawn.column_names]))
    for post in posts:
        post["image_features"] = torch.rand(FEATURES, generator=generator)
        post["object_features"] = torch.rand(len(post["boxes"]), FEATURES, generator=generator)
    return posts


def make_subjects(
    arguments: argparse.Namespace, posts: list[Post]
) -> tuple[dict[str, Callable[[list[Post]], Any]], dict[str, Any]]:
    """What is timed, by name, each a function of a list of posts; and what the report says of it."""
    name = resolve_text_encoder(OFFLINE_ENCODER)
    options = {"visual_feature_size": FEATURES, "entity_representation": arguments.entity_representation}
    labels = {"id2label": {0: "None", **{i: f"relation {i}" for i in range(1, 23)}}}  # as many as MNRE has
    model = VMHANForRelationClassification.from_text_encoder(name, **options, **labels)
    processor = VMHANProcessor.for_config(model.config, AutoTokenizer.from_pretrained(name))
    model.resize_token_embeddings(len(processor.tokenizer))
    tokenizer, encoder = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
    device = torch.device(arguments.device)
    pipe = MultimodalRelationClassificationPipeline(model, processor, device=device)
    encoder.to(device)

    def encode(given: list[Post]) -> Any:
        texts = [" ".join(post["tokens"]) for post in given]
        return encoder(**tokenizer(texts, padding=True, return_tensors="pt").to(device)).last_hidden_state.cpu()

    def classify(given: list[Post]) -> Any:
        return model(**processor(given).to(device)).logits.cpu()

    def ask(given: list[Post]) -> Any:
        return pipe(given, batch_size=len(given))

    asked = ("posts", "single", "batch_size", "rounds", "threads", "entity_representation", "device")
    facts = {option: getattr(arguments, option) for option in asked}
    facts["pairs"] = sum(len(post["pairs"]) for post in posts)
    facts["encoder"] = OFFLINE_ENCODER
    facts["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    facts |= {"machine": platform.machine(), "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}
    return {"encoder": encode, "model": classify, "pipeline": ask}, facts


def compare(
    subjects: dict[str, Callable[[list[Post]], Any]], batches: list[list[Post]], rounds: int
) -> dict[str, Any]:
    """Of each subject and clock: milliseconds a post, their ratio to the first subject's; spread over the rounds."""
    turns = {name: [functools.partial(subject, batch) for batch in batches] for name, subject in subjects.items()}
    times, count, names = take_turns(turns, rounds), sum(map(len, batches)), list(subjects)
    return {
        name: {
            clock: {
                "milliseconds_a_post": spread([1000 * seconds / count for seconds in of[name]]),
                "ratio": ratio(of[name], of[names[0]]),
            }
            for clock, of in times.items()
        }
        for name in names
    }


def table(report: dict[str, Any]) -> str:
    lines = ["what        clock      subject   ms a post  (quartiles)        posts/s  times the encoder  (quartiles)"]
    for what in ("latency", "throughput"):
        for name, clocks in report[what].items():
            for clock, row in clocks.items():
                milliseconds, ratio = row["milliseconds_a_post"], row["ratio"].values()
                line = "{:<11s} {:<10s} {:<9s} {:9.2f}  ({:7.2f} {:7.2f})  {:9.1f}  {:17.2f}  ({:.2f} {:.2f})"
                speed = 1000 / milliseconds["median"]
                lines.append(line.format(what, clock, name, *milliseconds.values(), speed, *ratio))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
