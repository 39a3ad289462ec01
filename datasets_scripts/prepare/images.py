"""First stage: each distinct image is read, its objects are found and its features computed, once.

A shard of images becomes one Arrow file, whole or not at all. Batches never cross a shard, so that an interrupted
preparation computes the very same batches again, to the last bit.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from datasets_scripts.prepare.files import writing
from datasets_scripts.prepare.image_files import image_content
from datasets_scripts.prepare.plan import Plan
from datasets_scripts.prepare.tools import Tools


__all__ = ["ImageRecords", "image_file", "load_upright", "write_image_shard"]

IMAGES_A_BATCH = 8  # that are decoded and given to the detector at a time
MAPPED_FILES = 4


@dataclass
class _Opened:
    """An image with its boxes, or why there is none (`reason`)."""

    number: int
    image: Any = None
    boxes: list[list[float]] | None = None
    object_labels: list[str] | None = None
    object_scores: list[float] | None = None  # of the detector; None where the source has the boxes
    reason: str | None = None


def write_image_shard(plan: Plan, tools: Tools, shard: int, *, progress: Callable[[int], None]) -> None:
    """Write boxes, labels and features of a shard of images; a bad image gets the reason why it is left out.

    Args:
        progress: called with the number of images done since the last call.

    Raises:
        ValueError: a bad image, where `on_bad_image` is "error"; names the file.
    """
    done: list[_Opened] = []

    def regions() -> Iterator[tuple[Any, list[list[float]]]]:
        numbers = plan.image_shards()[shard]
        for start in range(0, len(numbers), IMAGES_A_BATCH):
            batch = [_open(plan, number) for number in numbers[start : start + IMAGES_A_BATCH]]
            _detect(plan, tools, batch)
            for opened in batch:
                image, opened.image = opened.image, None
                done.append(opened)
                if opened.reason is None:
                    yield image, opened.boxes
            progress(len(batch))

    if tools.extractor is None:
        vectors = [None for _ in regions()]
    else:
        vectors = list(tools.extractor.extract(regions(), progress=False))
    rest = iter(vectors)
    with writing(plan.image_file(shard)) as file:
        writer = ArrowWriter(stream=file, features=_columns(plan))
        for opened in done:
            writer.write(_record(plan, opened, None if opened.reason else next(rest)))
        writer.finalize(close_stream=False)


class ImageRecords:
    """What the first stage wrote, by the image's number; a few files at a time are memory-mapped."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._files: dict[int, tuple[datasets.table.Table, datasets.Dataset]] = {}

    def __getitem__(self, number: int) -> dict[str, Any]:
        """boxes, object_labels, object_scores and reason as Python has them; features as Arrow arrays of one row."""
        shards = self.plan.image_shards()
        shard = number // len(shards[0])
        if shard not in self._files:
            if len(self._files) == MAPPED_FILES:
                del self._files[next(iter(self._files))]
            rows = datasets.Dataset.from_file(str(self.plan.image_file(shard)))
            self._files[shard] = (
                rows.data,
                rows.select_columns(["boxes", "object_labels", "object_scores", "reason"]),
            )
        table, rows = self._files[shard]
        index = number - shards[shard].start
        record = dict(rows[index])
        if self.plan.has_features:
            row = table.slice(index, 1)
            record |= {name: row.column(name).chunk(0) for name in ("image_features", "object_features")}
        return record


def image_file(plan: Plan, number: int) -> bytes:
    """The bytes of the image's file."""
    return image_content(_first_use(plan, number)["image"])


def load_upright(plan: Plan, content: bytes) -> Image.Image:
    """An image file's image as everything here sees it: upright RGB, no side longer than `max_side`.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    from modeling_vmhan.images import load_image  # here, as it brings in torch

    return load_image(content, max_side=plan.arguments.max_side)


def _first_use(plan: Plan, number: int) -> dict[str, Any]:
    split, row = plan.images.uses[number][0]
    return plan.source.images[split][row]


def _open(plan: Plan, number: int) -> _Opened:
    """The image with the source's boxes; ValueError if it is bad and may not be."""
    from modeling_vmhan.images import image_size

    post = _first_use(plan, number)
    try:
        content = image_content(post["image"])
        image = load_upright(plan, content)
        boxes = _fitted(post["boxes"], image_size(content), image.size)
    except (OSError, ValueError) as error:
        if plan.arguments.on_bad_image == "error":
            file = post["image"]["path"] or post["image_id"]
            raise ValueError(
                f"{file} (image of post {post['id']!r}): {error}. Replace the image or mend its boxes, or pass "
                "--on_bad_image skip_image (its posts stay, without image) or skip_post (they are left out)"
            ) from error
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error))  # Pillow names objects by their address
        return _Opened(number, boxes=[], object_labels=[], reason=reason)
    return _Opened(number, image, boxes, post["object_labels"])


def _fitted(boxes: list[list[float]], size: tuple[int, int], new_size: tuple[int, int]) -> list[list[float]]:
    """Boxes of an image of `size` (width, height), clipped to it, on the same image shrunk to `new_size`."""
    fitted = []
    for index, box in enumerate(boxes):
        clipped = [min(max(side, 0.0), length) for side, length in zip(box, (*size, *size))]
        if not (clipped[0] < clipped[2] and clipped[1] < clipped[3]):
            raise ValueError(
                f"box {index}, {[round(side, 2) for side in box]}: expected some area inside the upright image of "
                f"{size[0]} x {size[1]} pixels, received none"
            )
        scales = (new_size[0] / size[0], new_size[1] / size[1]) * 2
        fitted.append([side * scale for side, scale in zip(clipped, scales)])
    return fitted


def _detect(plan: Plan, tools: Tools, batch: list[_Opened]) -> None:
    """Put detected objects where the source has none, or everywhere if it is told to."""
    if tools.detector is None:
        return
    wanted = [opened for opened in batch if opened.reason is None and (plan.arguments.redetect or not opened.boxes)]
    if not wanted:
        return
    queries = [_queries(plan, opened.number) for opened in wanted]
    for opened, found in zip(wanted, tools.detector.detect([o.image for o in wanted], queries), strict=True):
        opened.boxes = [list(detection.box) for detection in found]
        opened.object_labels = [detection.label for detection in found]
        opened.object_scores = [detection.score for detection in found]


def _queries(plan: Plan, number: int) -> list[str]:
    """What a text-conditioned detector looks for: the image's phrases, else the mentions of the posts that show it."""
    phrases, mentions = [], []
    for split, row in plan.images.uses[number]:
        post = plan.source.texts[split][row]
        phrases += post["image_phrases"]
        spans = [span for pair in post["pairs"] for span in (pair["head"], pair["tail"]) if span]
        mentions += [" ".join(post["tokens"][slice(*span)]) for span in spans]
    return list(dict.fromkeys(phrases or mentions))


def _columns(plan: Plan) -> datasets.Features:
    names = ("boxes", "object_labels", "image_features", "object_features")
    columns = {name: plan.columns[name] for name in names if name in plan.columns}
    scores = datasets.List(datasets.Value("float32"))
    return datasets.Features({**columns, "object_scores": scores, "reason": datasets.Value("string")})


def _record(plan: Plan, opened: _Opened, vectors: tuple[Any, Any] | None) -> dict[str, Any]:
    record = {name: getattr(opened, name) for name in ("boxes", "object_labels", "object_scores", "reason")}
    if plan.has_features:
        image_features, object_features = (None, []) if vectors is None else vectors
        record |= {"image_features": image_features, "object_features": list(object_features)}
    return record
