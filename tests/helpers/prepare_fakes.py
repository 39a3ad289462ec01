"""Small real tools for tests of the preparation: a detector of colour blobs, and features that are mean colours."""

import json
import math
import time
from types import SimpleNamespace

import numpy as np
from PIL import Image


FEATURE_SIZE = 6
seconds_an_image = 0.0  # tests that need time to kill a preparation set it


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
        return [self._blobs(np.asarray(image, dtype=np.int16)) for image in images]

    def _blobs(self, pixels):
        found = []
        for label, colour in self.COLOURS.items():
            rows, columns = np.nonzero(np.abs(pixels - colour).sum(axis=-1) < 120)
            if len(rows):
                box = tuple(map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
                found.append(SimpleNamespace(box=box, score=len(rows) / pixels[..., 0].size, label=label))
        return sorted(found, key=lambda blob: -blob.score)


class ColourFeatures:
    """The mean and the deviation of each channel of a region."""

    feature_size = FEATURE_SIZE
    description = {"network": "mean colours", "weights": "none"}

    def __init__(self):
        self.passes = 0

    def extract(self, images_and_boxes):
        for image, boxes in images_and_boxes:
            self.passes += 1
            time.sleep(seconds_an_image)
            crops = [image.crop([int(x0), int(y0), math.ceil(x1), math.ceil(y1)]) for x0, y0, x1, y1 in boxes]
            vectors = np.stack([self._vector(region) for region in (image, *crops)])
            yield vectors[0], vectors[1:]

    def _vector(self, region):
        pixels = np.asarray(region.resize((8, 8), Image.Resampling.BOX), dtype=np.float64).reshape(-1, 3) / 255
        return np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]).astype(np.float16)


class FirstNodes:
    """The first free token, phrase and object of each pair."""

    description = {"selector": "first"}
    window = 1

    def __init__(self):
        self.posts: list[dict] = []

    def select_window(self, posts):
        from datasets_scripts.nodes.pairs import PairSelection

        time.sleep(seconds_an_image)
        self.posts += [post for post, _ in posts]
        answers = []
        for post, image in posts:
            assert image is None or image.mode == "RGB"
            objects = [0] if post["boxes"] else []
            reasons = {} if objects else {"objects": "there is none"}
            chosen = PairSelection([(0, 1)], post["image_phrases"][:1], objects, reasons)
            answers.append([chosen for _ in post["pairs"]])
        return answers


def make_fakes(arguments, device):
    """`make_tools` for tests: "blobs" detects, "first" selects, "colours" encodes."""
    from datasets_scripts.prepare.plan import Tools

    return Tools(
        detector=BlobDetector() if arguments.detector == "blobs" else None,
        selector=FirstNodes() if arguments.selector == "first" else None,
        extractor=ColourFeatures() if arguments.features == "colours" else None,
    )


def write_posts(folder, *, images, **splits_and_fields):
    """A folder for the source "jsonl": `images` small pictures with a red and a green blob, N.png; for each split the
    numbers of the images its posts show (None: none); other fields go into every row."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(images):
        picture = Image.new("RGB", (40, 30), (60, 60, 90 + number % 100))
        picture.paste((255, 0, 0), (2, 3, 12, 13))
        picture.paste((0, 255, 0), (20, 5 + number % 10, 28, 13 + number % 10))
        picture.save(folder / "images" / f"{number}.png")
    splits = {name: splits_and_fields.pop(name) for name in ("train", "validation") if name in splits_and_fields}
    (folder / "labels.json").write_text('["None", "peer"]')
    for name, numbers in splits.items():
        rows = []
        for row, number in enumerate(numbers):
            pair = {"head": "Ann", "tail": "Bob", "relation": ("peer", "None")[row % 2]}
            rows.append({"text": f"Ann met Bob {row}", "pairs": [pair], **splits_and_fields})
            rows[-1] |= {} if number is None else {"image": f"{number}.png"}
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
