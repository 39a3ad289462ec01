"""How fast is the way of a picture through VM-HAN against its bare vision encoder, and how near is the fast form?

    OMP_NUM_THREADS=1 python -m benchmarks.inference.pictures --images DIR --output_dir outputs/pictures

Each picture of DIR (drawn noise if left out) has three boxes; VGG16 at 224 pixels with random weights, two layers of
all-MiniLM-L6-v2. What is compared takes turns in one process; ratios are taken within a round. The tables:

    batch     16 posts through the pipeline, from the files' bytes to answers, and their 64 crops, ready made, through
              the bare encoder in one call; "before" is the pipeline with its encoder in float32 as torchvision has it
    again     the pictures' part alone, decoding to features: for the first time, and for the second

--demo FOLDER (of `vmhan train demo`) adds the F1 of its test split and how far the answers are apart; --cosine the
least and the median cosine of all regions' features to those of the encoder in float32.
"""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from benchmarks.harness.command import new_parser
from benchmarks.harness.competitors import load_encoder
from benchmarks.harness.report import Row, Table, write_report
from benchmarks.harness.timing import take_turns
from benchmarks.harness.vision import anew, load_pictures, make_pipeline, pixels_of, three_boxes
from datasets_scripts.builders.building import build
from datasets_scripts.builders.postcards import Postcards
from modeling_vmhan import MultimodalRelationClassificationPipeline
from modeling_vmhan.frozen import FrozenEncoder
from modeling_vmhan.weights import load_region_encoder, resized
from vmhan.scoring.scorer import score


__all__ = ["main"]

TEXT = "Ann met Bob in Paris"


def main(argv: list[str] | None = None) -> None:
    """Measure and write pictures.md and pictures.json."""
    parser = new_parser(__spec__.name, __doc__)
    parser.add_argument("--images", type=Path, help="a folder of pictures, at any depth")
    parser.add_argument("--posts", type=int, default=16, help="posts of a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="S in pixels")
    parser.add_argument("--cosine", action="store_true", help="compare the features of all pictures")
    parser.add_argument("--demo", type=Path, help="a folder that `vmhan train demo` made")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/pictures"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    pipe = two_layers(arguments.size)
    posts = make_posts(arguments.images, arguments.posts)
    encoder = pipe.model.vmhan.vision_encoder
    about: dict[str, Any] = {"pictures": arguments.images and len(posts), "vision weights": "random:0"}
    tables = measure(pipe, posts[: arguments.posts], arguments.rounds)
    about["form"] = str(next(encoder.parameters()).dtype)
    if arguments.cosine:
        about["cosine to float32, least and median"] = cosine(pipe, posts)
    if arguments.demo:
        about["demo, test F1 in float32 and in the fast form, largest difference of a score"] = demo(arguments.demo)
    print(write_report(arguments.output_dir, __spec__.name, argv, about, tables))


def two_layers(size: int) -> MultimodalRelationClassificationPipeline:
    text_encoder, tokenizer = load_encoder("offline")
    del text_encoder.encoder.layer[2:]
    text_encoder.config.num_hidden_layers = 2
    encoder, transform = load_region_encoder("vgg16", "random:0")
    fields = {"vision_encoder": "vgg16", "vision": (encoder, resized(transform, size))}
    return make_pipeline(text_encoder, tokenizer, id2label={0: "None", 1: "peer"}, **fields)


def make_posts(folder: Path | None, count: int) -> list[dict[str, Any]]:
    """A post for each picture of a folder, or for so many drawn ones."""
    post = {"text": TEXT, "head": "Ann", "tail": "Bob"}
    pictures = load_pictures(folder, count if folder is None else None)
    return [{**post, "image": picture, "boxes": three_boxes(picture)} for picture in pictures]


def as_before(pipe: MultimodalRelationClassificationPipeline) -> MultimodalRelationClassificationPipeline:
    """The pipeline with the encoder's own weights in float32, in torchvision's layout and without memory."""
    encoder, _ = load_region_encoder("vgg16", "random:0")
    encoder.in_form = lambda device: encoder
    encoder.encode_image = encoder.encode
    model = copy.deepcopy(pipe.model)
    model.vmhan.vision_encoder = encoder
    return MultimodalRelationClassificationPipeline(model, pipe.processor, device="cpu")


def measure(pipe: MultimodalRelationClassificationPipeline, posts: list[Any], rounds: int) -> dict[str, Table]:
    encoder: FrozenEncoder = pipe.model.vmhan.vision_encoder
    before, crops = as_before(pipe), pixels_of(pipe, posts)["pixel_values"].flatten(0, 1)

    answer = partial(pipe, posts, batch_size=len(posts))
    see = lambda: pipe.model.vmhan.encode_regions(**pixels_of(pipe, posts))  # noqa: E731
    batch = {
        "bare encoder": [lambda: encoder.in_form(crops.device).encode(crops)],
        "pipeline": [partial(anew, encoder, answer)],
        "before": [partial(before, posts, batch_size=len(posts))],
    }
    again = {"first": [partial(anew, encoder, see)], "second": [see]}
    work, tables = {"posts": len(posts), "regions": len(crops)}, {}
    for name, turns, against in (("batch", batch, "bare encoder"), ("again", again, "second")):
        with torch.no_grad():
            times = take_turns(turns, rounds)
        tables[name] = Table({key: Row(times[key], against, work) for key in turns}, per="posts")
    return tables


@torch.no_grad()
def cosine(pipe: MultimodalRelationClassificationPipeline, posts: list[Any]) -> list[float]:
    exact, _ = load_region_encoder("vgg16", "random:0")  # in float32, weights not rounded
    found = []
    for post in posts:
        inputs = pixels_of(pipe, [post])
        image, objects = pipe.model.vmhan.encode_regions(**inputs)
        fast = torch.cat([image.unsqueeze(1), objects], dim=1)[0]  # (4, V)
        found.append(nn.functional.cosine_similarity(fast, exact(inputs["pixel_values"][0]), dim=1))
    return [torch.cat(found).min().item(), torch.cat(found).median().item()]


def demo(folder: Path) -> list[float]:
    """Answer the demo's test pictures by both forms of the encoder."""
    sizes = {"num_train": 1, "num_validation": 1, "num_test": 150}
    posts = build(Postcards, config_name="postcards", **sizes)["test"]
    pipe = transformers.pipeline(model=str(folder), device="cpu")
    labels = pipe.model.config.labels
    gold = [labels[pair["relation"]] for pairs in posts["pairs"] for pair in pairs]
    found = [[answer for post in of(posts, batch_size=16) for answer in post] for of in (as_before(pipe), pipe)]
    f1 = [score(gold, [answer["relation"] for answer in answers], labels=labels)["f1"] for answers in found]
    return [*f1, max(abs(before["score"] - now["score"]) for before, now in zip(*found))]


if __name__ == "__main__":
    main()
