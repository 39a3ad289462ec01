"""What do answers about posts with pictures cost, beside what one would use in VM-HAN's place? Ratios.

    OMP_NUM_THREADS=1 python -m benchmarks.inference.alternatives --data_dir MNRE_DIR --images MNRE_DIR/img_org

Each post has a picture with three boxes. All take turns in one process, over a batch of posts and then over the first
of them one at a time. Ratios are taken within a round, each to the row that is named beside it. The rows:

    bare text            the text encoder and its tokenizer over the sentences, padded to the longest
    VM-HAN, text only    its pipeline, packed, as the preset text_only
    VM-HAN, phrases      the preset full; each pair has three phrases of the text and three about the picture
    VM-HAN, features     the same with stored features of the picture and its boxes in the place of phrases
    bare vision          VGG16 over the pictures and their boxes, ready cut
    VM-HAN, VGG16        the pipeline from the pictures' files to answers
    VM-HAN, seen before  the same for pictures that it saw before
    VM-HAN, ViT-B/32     the pipeline with CLIP's visual network in the place of VGG16
    HVPNeT, ResNet-50    the baseline, its processor and its model, over the same pictures and boxes
    CLIP, zero-shot      transformers' pipeline with ViT-B/32, called once a pair: the picture against a text such as
                         "Ann and Oslo: place of residence" for each relation
    VLM, assumed         a vision-language model behind an endpoint, asked once a pair: counted, and not run

The visual networks and CLIP have random weights, which changes no time, so accuracy is not compared. CLIP's own
tokenizer is on the Hub: its texts are tokenized as the sentences are. So are a VLM's, and a picture has the tokens of
Qwen2-VL (vlm.py); its requests follow one another, at rates and prices that are assumptions about some server and no
measurement: give your own. Time is the processor's with one thread, and the wall's with more.

Writes alternatives.md, alternatives.json with every round, and answers.png.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.harness.command import new_parser
from benchmarks.harness.competitors import ENCODERS, encode_sentences, load_encoder
from benchmarks.harness.posts import Post, load_posts
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import take_turns
from benchmarks.harness.vision import load_pictures, three_boxes
from benchmarks.inference.subjects import (
    REGIONS,
    Subject,
    clip,
    clip_config,
    hvpnet,
    text_pipelines,
    vgg16_subjects,
    vit_subject,
)
from benchmarks.inference.vlm import Count, Rates, count


__all__ = ["AGAINST", "main"]

TEXT, VISION, PIXELS, VLM = "bare text", "bare vision", "VM-HAN, VGG16", "VLM, assumed"
AGAINST = {
    TEXT: TEXT, "VM-HAN, text only": TEXT, "VM-HAN, phrases": TEXT, "VM-HAN, features": TEXT,
    VISION: VISION, PIXELS: VISION,
    "VM-HAN, seen before": PIXELS, "VM-HAN, ViT-B/32": PIXELS, "HVPNeT, ResNet-50": PIXELS, "CLIP, zero-shot": PIXELS,
    VLM: PIXELS,
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure, count, and write the report."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    encoder, tokenizer = load_encoder(arguments.encoder)
    posts, relations = load_posts(arguments.data_dir, 1, arguments.posts)
    pictures = load_pictures(arguments.images, len(posts))
    posts = [post | {"image": picture, "boxes": three_boxes(picture)} for post, picture in zip(posts, pictures)]
    subjects = make_subjects(encoder, tokenizer, posts, relations, arguments)
    rates = Rates(**{name: getattr(arguments, f"vlm_{name}") for name in Rates.__annotations__})
    about: dict[str, Any] = {
        "sentences": "MNRE-2's training split" if arguments.data_dir else "drawn postcards, not real sentences",
        "pictures": "the first of a folder" if arguments.images else "drawn noise",
        "crops": f"{arguments.size} pixels",
        "text encoder": arguments.encoder,
        "relations": len(relations),
        VLM: dataclasses.asdict(rates),
    }
    tables: dict[str, Table] = {}
    sizes = {f"{len(posts)} posts": (posts, len(posts)), "one post": (posts[: arguments.singles], 1)}
    try:
        for title, (chosen, size) in sizes.items():
            asked = count(chosen, relations, tokenizer)
            about[f"VLM, {len(chosen)} posts"] = asked._asdict() | {"dollars": asked.dollars(rates)}
            times = measure(subjects, chosen, size, arguments) | {VLM: [asked.seconds(rates)] * arguments.rounds}
            work = work_of(chosen, relations, asked)
            rows = {name: Row({"time": times[name]}, AGAINST[name], work[name]) for name in AGAINST}
            tables[f"answers/{title}"] = Table(rows, per="posts")
    finally:  # what was measured before an error is kept
        print(write_report(arguments.output_dir, __spec__.name, argv, about, tables))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--encoder", choices=ENCODERS, default="offline", help="offline: all-MiniLM-L6-v2")
    parser.add_argument("--data_dir", help="folder of MNRE; postcards are drawn when left out")
    parser.add_argument("--images", type=Path, help="a folder of pictures, at any depth; drawn when left out")
    parser.add_argument("--posts", type=int, default=16, help="posts of a batch")
    parser.add_argument("--singles", type=int, default=2, help="how many of them are answered one at a time, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224, help="S in pixels")
    parser.add_argument("--threads", type=int, default=1)
    assumed = {"read_per_second": 2000, "written_per_second": 50, "usd_read": 0.5, "usd_written": 2}
    for name, default in assumed.items():
        unit = "dollars for a million tokens" if "usd" in name else "tokens"
        parser.add_argument(f"--vlm_{name}", type=_positive, default=default, help=f"{unit}, assumed: {default}")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/alternatives"))
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0, received {text}")
    return float(text)


def make_subjects(
    encoder, tokenizer, posts: Sequence[Post], relations: Sequence[str], arguments
) -> dict[str, Subject]:
    labels = dict(enumerate(relations))
    shape = clip_config(tokenizer, tiny=arguments.encoder == "tiny")
    return {
        TEXT: partial(encode_sentences, encoder, tokenizer),
        **text_pipelines(encoder, tokenizer, labels),
        **vgg16_subjects(encoder, tokenizer, labels, posts, arguments.size),
        "VM-HAN, ViT-B/32": vit_subject(encoder, tokenizer, labels, shape),
        "HVPNeT, ResNet-50": hvpnet(encoder, tokenizer, labels, arguments.size),
        "CLIP, zero-shot": clip(tokenizer, relations, shape),
    }


@torch.no_grad()
def measure(subjects: Mapping[str, Subject], posts: Sequence[Post], size: int, arguments) -> dict[str, list[float]]:
    """Seconds of each subject in each round over the posts, so many at a time."""
    batches = [posts[start : start + size] for start in range(0, len(posts), size)]
    turns = {name: [partial(subject, batch) for batch in batches] for name, subject in subjects.items()}
    clock = "processor" if arguments.threads == 1 else "wall"
    times = take_turns(turns, arguments.rounds)
    return {name: times[name][clock] for name in subjects}


def work_of(posts: Sequence[Post], relations: Sequence[str], asked: Count) -> dict[str, dict[str, int]]:
    """What each row does in a round: posts, pairs, and the texts and the pictures that a network reads."""
    pairs = sum(len(post["pairs"]) for post in posts)
    regions = REGIONS * len(posts)
    reads = dict.fromkeys(AGAINST, (len(posts), regions))
    reads |= {name: (len(posts), 0) for name in AGAINST if AGAINST[name] == TEXT or name == "VM-HAN, seen before"}
    reads |= {VISION: (0, regions), "HVPNeT, ResNet-50": (pairs, regions), VLM: (asked.requests, asked.requests)}
    reads["CLIP, zero-shot"] = (pairs * len(relations), pairs)
    return {
        name: {"posts": len(posts), "pairs": pairs, "texts": texts, "pictures": pictures}
        for name, (texts, pictures) in reads.items()
    }


if __name__ == "__main__":
    main()
