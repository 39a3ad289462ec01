"""Small real tools for tests of the preparation: a detector of colour blobs, and features that are mean colours.

Run as a program it is `python -m datasets_scripts.prepare` with these tools.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import prepare_standins


prepare_standins.install()

FEATURE_SIZE = 6
PASSES = Path(os.environ["PREPARE_PASSES"]) if "PREPARE_PASSES" in os.environ else None
SECONDS_AN_IMAGE = float(os.environ.get("PREPARE_SECONDS", "0"))


@dataclass(frozen=True)
class Found:
    box: tuple[float, float, float, float]
    score: float
    label: str


class BlobDetector:
    """Boxes around the pixels of each primary colour."""

    description = {"adapter": "blobs"}
    COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}

    def __init__(self):
        self.seen: list[tuple[int, int]] = []
        self.queries: list[list[str]] = []

    def detect(self, images, queries=None):
        self.seen += [image.size for image in images]
        self.queries += queries
        return [self._blobs(np.asarray(image, dtype=np.int64)) for image in images]

    def _blobs(self, pixels):
        found = []
        for label, colour in self.COLOURS.items():
            rows, columns = np.nonzero(np.abs(pixels - colour).sum(axis=-1) < 120)
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                found.append(Found(tuple(map(float, box)), len(rows) / pixels[..., 0].size, label))
        return sorted(found, key=lambda blob: (-blob.score, blob.box, blob.label))


class ColourFeatures:
    """The mean and the deviation of each channel of a region; slow if the environment says so."""

    feature_size = FEATURE_SIZE
    description = {"network": "mean colours", "weights": "none"}

    def __init__(self):
        self.passes = 0

    def extract(self, images_and_boxes, *, progress=True):
        for image, boxes in images_and_boxes:
            self.passes += 1
            time.sleep(SECONDS_AN_IMAGE)
            regions = [image, *(image.crop([round(side) for side in box]) for box in boxes)]
            vectors = np.stack([self._vector(region) for region in regions])
            yield vectors[0], vectors[1:]

    def _vector(self, region):
        pixels = np.asarray(region, dtype=np.float64).reshape(-1, 3) / 255
        return np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]).astype(np.float16)


class FirstNodes:
    """The first free token, phrase and object of each pair."""

    description = {"selector": "first"}
    window = 1

    def __init__(self):
        self.posts: list[dict] = []

    def select_window(self, posts):
        from datasets_scripts.selection import PairSelection

        time.sleep(SECONDS_AN_IMAGE)
        self.posts += [post for post, _ in posts]
        answers = []
        for post, image in posts:
            assert image is None or image.mode == "RGB"
            objects = [index for index in range(len(post["boxes"]))][:1]
            reasons = {} if objects else {"objects": "there is none"}
            phrases = post["image_phrases"][:1]
            answers.append([PairSelection([(0, 1)], phrases, objects, reasons) for _ in post["pairs"]])
        return answers


def make_fakes(arguments, device):
    """`make_tools` for tests: "blobs" detects, "first" selects, "colours" encodes."""
    from datasets_scripts.prepare_tools import Tools

    return Tools(
        detector=BlobDetector() if arguments.detector == "blobs" else None,
        selector=FirstNodes() if arguments.selector == "first" else None,
        extractor=ColourFeatures() if arguments.features == "colours" else None,
    )


if __name__ == "__main__":
    from transformers import HfArgumentParser

    from datasets_scripts.prepare import prepare
    from datasets_scripts.prepare_arguments import PrepareArguments
    from datasets_scripts.prepare_workers import join_world

    world = join_world()
    prepare(HfArgumentParser((PrepareArguments,)).parse_args_into_dataclasses()[0], world=world, make_tools=make_fakes)
    world.leave()
