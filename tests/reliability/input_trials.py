"""Fuzzed posts and rows, hostile servers and odd pictures: what is wrong with how each was taken, or ""."""

import random
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from fuzz import failure, fuzzed_posts, fuzzed_rows
from hostile_servers import KINDS, SLOW, HostileServer
from picture_files import TURNS, files_without_exif, hand_made_pngs, pillows_files, with_exif
from tiny import LABELS, VISUAL_SIZE

from datasets_scripts.builders.jsonl_rows import Row, post_of_row
from datasets_scripts.checking import checked
from modeling_vmhan import VMHANConfig, VMHANForRelationClassification, VMHANProcessor
from modeling_vmhan.fetching import fetch_image
from modeling_vmhan.images import load_image
from modeling_vmhan.pipeline_vmhan import MultimodalRelationClassificationPipeline
from vmhan.training.text_encoders import load_text_encoder


__all__ = ["fuzz_trials", "picture_trials", "row_trials", "server_trials"]

SECONDS_OVER = 3.0  # that a server may take beyond the time limit
LOSSY, MEAN = ("JPEG", "MPO", "AVIF"), 4.0  # formats whose pixels are not kept, and their mean difference at most
DAMAGED = 3_000


def fuzz_trials(folder: Path, count: int) -> Iterator[tuple[int, str]]:
    """Half of the posts with features, half with pictures, each asked by its own pipeline."""
    for seed, pixels in enumerate((False, True)):
        pipe = _pipeline(pixels)

        def ask(post: object, pipe: MultimodalRelationClassificationPipeline = pipe, **options: object) -> object:
            return pipe([post], **options)[0]  # in a list: of an iterator the pipeline makes another one

        for fuzzed in fuzzed_posts(seed, count // 2, folder=folder, pixels=pixels):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                problem = failure(fuzzed, ask)
            yield 1, problem and f"{fuzzed.done}: {problem}"


def _pipeline(pixels: bool) -> MultimodalRelationClassificationPipeline:
    """A model of one layer, which reads VISUAL_SIZE features of tiny pictures, or takes them."""
    encoder, tokenizer = load_text_encoder("offline:all-MiniLM-L6-v2", 1)
    shape = {"hidden_size": VISUAL_SIZE, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = transformers.AutoConfig.for_model("clip_vision_model", **shape, image_size=32, patch_size=8)
    sees = {"vision_encoder": "transformers", "vision_config": vision} if pixels else {}
    labels = {"id2label": dict(enumerate(LABELS)), "visual_feature_size": VISUAL_SIZE}
    config = VMHANConfig(text_config=encoder.config, **labels, **sees)
    processor = VMHANProcessor.for_config(config, tokenizer)
    torch.manual_seed(0)
    model = VMHANForRelationClassification(config)
    model.resize_token_embeddings(len(processor.tokenizer))
    return MultimodalRelationClassificationPipeline(model, processor, device="cpu")


def row_trials(count: int) -> Iterator[tuple[int, str]]:
    """A row of JSONL becomes a post, or an error that begins with its place."""
    place = "rows.jsonl, line 3"
    for row, never_right in fuzzed_rows(0, count):
        problem = ""
        try:
            post_of_row(checked(Row, row, place), place=place, labels=["None", "peer"])
            problem = "was taken" if never_right else ""
        except ValueError as error:
            problem = "" if str(error).startswith(place) else f"does not name the place: {str(error)[:200]}"
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        yield 1, problem and f"{_short(row)}: {problem}"


def _short(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:
        return f"a {type(value).__name__} that has no repr"


def server_trials() -> tuple[int, Iterator[tuple[int, str]]]:
    """Each kind of server ten times."""
    kinds = [kind for kind in KINDS for _ in range(10)]
    return len(kinds), (
        (1, problem and f"a server that {kind}: {problem}") for kind in kinds for problem in [_ask(kind)]
    )


def _ask(kind: str) -> str:
    before, timeout = set(threading.enumerate()), 0.3 if kind in SLOW else 10.0
    with HostileServer(kind) as server:
        started = time.monotonic()
        try:
            fetch_image(server.url, timeout=timeout, max_bytes=20_000, allow_private=True)
            return "gave a picture"
        except (OSError, ValueError) as error:
            if repr(server.url) not in str(error):
                return f"an error that does not name the address: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if time.monotonic() - started > timeout + SECONDS_OVER:
            return f"took {time.monotonic() - started:.1f} s"
        deadline = time.monotonic() + SECONDS_OVER
        while left := set(threading.enumerate()) - before - set(server.threads):
            if time.monotonic() > deadline:
                return f"left {len(left)} threads behind"
            time.sleep(0.01)
    return ""


def picture_trials() -> tuple[int, Iterator[tuple[int, str]]]:
    """Every kind of file in every orientation, shrunk and not, against numpy; then damaged files."""
    cases = [
        (f"{name}, turned {n}", with_exif(data, n), right, n) for name, data, right in hand_made_pngs() for n in TURNS
    ]
    cases += [(f"{name}, turned {n}", data, right, n) for n in TURNS for name, data, right in pillows_files(n)]
    cases += [(name, data, right, 1) for name, data, right in files_without_exif()]
    whole = [(case, max_side) for case in cases for max_side in (None, 20)]
    chance = random.Random(0)
    broken = [_damaged(chance, cases[i % len(cases)][1]) for i in range(DAMAGED)]
    outcomes = [(lambda c=case, m=max_side: _compared(*c, m)) for case, max_side in whole]
    outcomes += [(lambda data=data: _named(data)) for data in broken]
    return len(outcomes), ((1, outcome()) for outcome in outcomes)


def _compared(name: str, data: bytes, right: np.ndarray, turned: int, max_side: int | None) -> str:
    """What is wrong with the picture; of a shrunk one its size and its mean are compared."""
    try:
        image = load_image(data, max_side=max_side)
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"
    expected = np.asarray(TURNS[turned](np.asarray(right, dtype=float)))
    if max_side is not None:
        sides = (round(side * max_side / max(expected.shape[:2])) for side in expected.shape[1::-1])
        far = np.abs(np.asarray(image, dtype=float).mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max()
        return "" if image.size == tuple(sides) and far < 2 * MEAN else f"{name}, shrunk: {image.size}, {far:.1f} off"
    if image.size != expected.shape[1::-1] or image.mode != "RGB":
        return f"{name}: {image.mode} of {image.size}"
    far = np.abs(np.asarray(image, dtype=float) - expected)
    is_right = far.mean() < MEAN if name.startswith(LOSSY) else far.max() <= 2
    return "" if is_right else f"{name}: {far.mean():.1f} off, {far.max():.0f} at most"


def _named(data: bytes) -> str:
    """What is wrong with how a damaged file was taken: as an RGB picture, or as an error that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return "" if load_image(data, max_pixels=1 << 20).mode == "RGB" else "no RGB"
    except ValueError as error:
        return "" if str(error).startswith(f"image of {len(data)} bytes: ") else f"a damaged file: {error}"
    except Exception as error:
        return f"a damaged file: {type(error).__name__}: {error}"


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """Cut, or with some bytes changed, taken out or put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 30))):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.choice((0, 1, 127, 128, 255))
            case 1:
                del data[place : place + chance.randrange(1, 9)]
            case 2:
                data[place:place] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                del data[max(place, 20) :]
        data = data or bytearray(b"x")
    return bytes(data)
