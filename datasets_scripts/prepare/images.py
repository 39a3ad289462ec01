"""First stage: each distinct image is read, its objects are found, its features and depths are computed, once.

Images are kept upright, in RGB and of bounded size. Boxes refer to the upright image, EXIF orientation applied.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ExifTags, Image

from datasets_scripts.prepare.plan import Plan, Shard, Tools, digests, write_parquet
from datasets_scripts.prepare.source import image_content
from datasets_scripts.schema import object_columns
from model_cards.files import whole_file, write_text


__all__ = ["FEATURES", "image_file", "image_record", "is_kept", "load_upright", "open_image"]
__all__ += ["write_image_shard"]

IMAGES_A_BATCH = 8  # that are decoded and given to the detector at a time
KEPT_FORMATS = ("JPEG", "PNG", "WEBP")  # every viewer shows them
FEATURES = ("image_features", "object_features", "object_depths")


def write_image_shard(plan: Plan, tools: Tools, shard: Shard) -> None:
    """Write boxes, labels and features of a shard of images; a bad image gets the reason why it is left out, or, where
    `on_bad_image` is "error", raises a ValueError that names its file.
    """
    records: list[dict[str, Any]] = []

    def regions() -> Iterator[tuple[Image.Image, list[list[float]]]]:
        for start in range(0, len(shard.rows), IMAGES_A_BATCH):
            batch = [open_image(plan, number) for number in shard.rows[start : start + IMAGES_A_BATCH]]
            _detect(plan, tools, batch)
            for record in batch:
                records.append(record)
                if (image := record.pop("image")) is not None:
                    if tools.depth is not None:
                        record["object_depths"] = tools.depth.object_depths(image, record["boxes"])
                    yield image, record["boxes"]

    if tools.extractor is None:
        features = [(None, []) for _ in regions()]
    else:
        features = list(tools.extractor.extract(regions()))
    good = (record for record in records if record["reason"] is None)
    for record, (of_image, of_objects) in zip(good, features, strict=True):
        record |= {"image_features": of_image, "object_features": list(of_objects)}
    with whole_file(shard.file) as temporary:
        write_parquet(temporary, _record_columns(plan), records)
        write_text(shard.seal, digests(shard, temporary))


def image_record(plan: Plan, number: int) -> dict[str, Any]:
    """Return what the first stage wrote of an image: boxes, object_labels, object_scores and reason, and its features
    as Arrow arrays of one row. A post without image has number -1.
    """
    if number < 0:
        row = pa.Table.from_pylist([_record(number)], schema=_record_columns(plan).arrow_schema)
    else:
        shards = plan.shards["images"]
        shard = shards[number // len(shards[0].rows)]
        row = _table(shard.file).slice(number - shard.rows.start, 1)
    vectors = [name for name in FEATURES if name in row.column_names]
    return row.drop_columns(vectors).to_pylist()[0] | {name: row[name].chunk(0) for name in vectors}


def load_upright(plan: Plan, content: bytes) -> Image.Image:
    """Return the image of an image file as everything here sees it: upright RGB, no side longer than `max_side`."""
    from modeling_vmhan.images import load_image  # here, as it brings in torch

    return load_image(content, max_side=plan.arguments.max_side, max_pixels=plan.arguments.max_pixels)


def is_kept(content: bytes, *, max_side: int) -> bool:
    """Tell whether an image file decodes, as it is, to what `load_image(content, max_side=max_side)` gives.

    One whose EXIF data are damaged does not, good as its picture may be.
    """
    from modeling_vmhan.images import open_image

    with open_image(content) as image:
        try:
            is_upright = image.getexif().get(ExifTags.Base.Orientation) in (None, 1)
        except Exception:  # Pillow raises many kinds, SyntaxError among them
            return False
        is_plain = image.mode == "RGB" and "transparency" not in image.info and getattr(image, "n_frames", 1) == 1
        return image.format in KEPT_FORMATS and is_upright and is_plain and max(image.size) <= max_side


def image_file(plan: Plan, number: int) -> bytes:
    return image_content(_first_use(plan, number)["image"])


def _first_use(plan: Plan, number: int) -> dict[str, Any]:
    split, row = plan.source.uses[number][0]
    return plan.source.posts[split][row]


def _record(number: int, **fields: Any) -> dict[str, Any]:
    empty = {"boxes": [], "object_labels": [], "object_scores": None}
    empty |= {"image_features": None, "object_features": [], "object_depths": []}
    return {"number": number, "image": None, "reason": None, **empty, **fields}


def open_image(plan: Plan, number: int) -> dict[str, Any]:
    """Return the record of an image with the source's boxes and, in `image`, the image itself; or why it is bad."""
    from modeling_vmhan.images import image_size

    post = _first_use(plan, number)
    try:
        content = image_content(post["image"])
        image = load_upright(plan, content)
        size = image_size(content, max_pixels=plan.arguments.max_pixels)
        boxes = _fitted(post["boxes"], size, image.size)
    except (OSError, ValueError) as error:
        if plan.arguments.on_bad_image == "error":
            file = post["image"]["path"] or post["image_id"]
            raise ValueError(
                f"{file} (image of post {post['id']!r}): {error}. Replace the image or mend its boxes, or pass "
                "--on_bad_image skip_image (its posts stay, without image) or skip_post (they are left out)"
            ) from error
        return _record(number, reason=re.sub(r" at 0x[0-9a-f]+", "", str(error)))  # Pillow names objects by address
    given = {"object_labels": post["object_labels"], "object_scores": post.get("object_scores")}
    return _record(number, image=image, boxes=boxes, **given)


def _fitted(boxes: list[list[float]], size: tuple[int, int], new_size: tuple[int, int]) -> list[list[float]]:
    """Clip boxes to an image of `size` (width, height) and scale them to the same image shrunk to `new_size`."""
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


def _detect(plan: Plan, tools: Tools, batch: list[dict[str, Any]]) -> None:
    """Put detected objects into the records of good images of which the source has none."""
    wanted = [record for record in batch if record["image"] is not None and not record["boxes"]]
    if tools.detector is None or not wanted:
        return
    queries = [_queries(plan, record["number"]) for record in wanted]
    for record, found in zip(wanted, tools.detector.detect([r["image"] for r in wanted], queries), strict=True):
        record |= object_columns(found)


def _queries(plan: Plan, number: int) -> list[str]:
    """Return what a text-conditioned detector looks for: the image's phrases, else the mentions of its posts."""
    phrases, mentions = [], []
    for split, row in plan.source.uses[number]:
        post = plan.source.posts[split][row]
        phrases += post["image_phrases"]
        spans = [span for pair in post["pairs"] for span in (pair["head"], pair["tail"]) if span]
        mentions += [" ".join(post["tokens"][slice(*span)]) for span in spans]
    return list(dict.fromkeys(phrases or mentions))


def _record_columns(plan: Plan) -> datasets.Features:
    columns = {name: plan.columns[name] for name in ("boxes", "object_labels", *FEATURES) if name in plan.columns}
    scores = datasets.List(datasets.Value("float32"))  # None where the source has boxes without them
    return datasets.Features({**columns, "object_scores": scores, "reason": datasets.Value("string")})


@functools.lru_cache(maxsize=32)
def _table(path: Path) -> pa.Table:
    return pq.read_table(path)
