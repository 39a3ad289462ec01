"""Second stage: nodes are selected for each pair, and post, image and the image's features become one row of Parquet.

What the source itself chose for a pair (its text phrases, its objects) is kept; the selector fills in the rest.
"""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from datasets.arrow_writer import ParquetWriter
from PIL import Image

from datasets_scripts.prepare.files import write_lines, writing
from datasets_scripts.prepare.image_files import as_png, is_kept
from datasets_scripts.prepare.images import ImageRecords, image_file, load_upright
from datasets_scripts.prepare.plan import Plan
from datasets_scripts.prepare.source import NO_FILE
from datasets_scripts.prepare.tools import Tools


__all__ = ["write_post_shard"]

ROWS_A_GROUP = 100  # of Parquet: what a reader fetches at a time
NODE_FIELDS = ("text_phrases", "image_phrases", "objects")
FEATURES = ("image_features", "object_features")


def write_post_shard(plan: Plan, tools: Tools, split: str, shard: int, *, progress: Callable[[int], None]) -> None:
    """Write a shard of posts, and beside it what was left out of them and which nodes stayed empty, and why.

    Args:
        progress: called with the number of posts done since the last call.

    Raises:
        ValueError: a pair's tail is an object in a bad image, and the post is to stay.
    """
    rows = plan.post_shards(split)[shard]
    skipped: list[dict[str, Any]] = []
    empty: list[dict[str, Any]] = []
    done = rows.start
    with writing(plan.post_file(split, shard)) as file:
        writer = ParquetWriter(stream=file, features=plan.columns, writer_batch_size=ROWS_A_GROUP)
        for row, post, record in _with_nodes(plan, tools, _posts(plan, split, rows, skipped), empty):
            writer.write(_as_row(plan, post, record))
            progress(row + 1 - done)
            done = row + 1
        writer.finalize(close_stream=False)
        progress(rows.stop - done)
        write_lines(plan.skipped_file(split, shard), skipped)  # before the shard takes its name
        write_lines(plan.empty_file(split, shard), empty)


def _posts(
    plan: Plan, split: str, rows: range, skipped: list[dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """(row, post, record of its image) of the posts that stay; `skipped` gets what is left out and why.

    The record has split and number beside what `ImageRecords` gives; its number is -1 where the post has no image.
    """
    posts, records = plan.source.texts[split], ImageRecords(plan)
    for row in rows:
        post, number = posts[row], plan.images.numbers[split][row]
        record = records[number] if number >= 0 else _no_image(plan)
        reason = record["reason"]
        if number < 0 and "image" in plan.source.info.features and post["image_id"]:
            reason = NO_FILE
        if reason is not None:
            _check_may_stay(plan, split, post, reason)
            is_left_out = plan.arguments.on_bad_image == "skip_post"
            place = {"split": split, "id": post["id"], "image_id": post["image_id"]}
            skipped.append({**place, "skipped": "post" if is_left_out else "image", "reason": reason})
            if is_left_out:
                continue
        if reason is not None or plan.arguments.redetect:
            post["pairs"] = [pair | {"objects": []} for pair in post["pairs"]]  # they counted other boxes
        boxes = {"boxes": record["boxes"], "object_labels": record["object_labels"]}
        yield row, post | boxes, record | {"split": split, "number": -1 if reason is not None else number}


def _check_may_stay(plan: Plan, split: str, post: dict[str, Any], reason: str) -> None:
    if plan.arguments.on_bad_image != "skip_post" and any(pair["tail_object"] >= 0 for pair in post["pairs"]):
        raise ValueError(
            f"on_bad_image: post {post['id']!r} of {split} cannot stay without its image {post['image_id']!r} "
            f"({reason}): a pair's tail is an object in it. Pass --on_bad_image skip_post"
        )


def _no_image(plan: Plan) -> dict[str, Any]:
    record = {"boxes": [], "object_labels": [], "object_scores": None, "reason": None}
    if plan.has_features:
        types = plan.columns.arrow_schema
        empty: dict[str, Any] = {"image_features": [None], "object_features": [[]]}
        record |= {name: pa.array(empty[name], type=types.field(name).type) for name in FEATURES}
    return record


def _with_nodes(
    plan: Plan,
    tools: Tools,
    posts: Iterator[tuple[int, dict[str, Any], dict[str, Any]]],
    empty: list[dict[str, Any]],
) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The same with nodes chosen for each pair; `empty` gets what stayed empty and why."""
    if tools.selector is None:
        yield from posts
        return
    from datasets_scripts.nodes.selection import apply_selections, moved_indices, select_posts

    waiting: deque[tuple[int, dict[str, Any], dict[str, Any]]] = deque()

    def questions() -> Iterator[tuple[dict[str, Any], Image.Image | None]]:
        for row, post, record in posts:
            waiting.append((row, post, record))
            yield _question(post, record), _image(plan, record)

    for selections in select_posts(tools.selector, questions()):
        row, post, record = waiting.popleft()
        chosen, reasons = apply_selections(post, selections)
        pairs = [
            pair | {name: given[name] for name in NODE_FIELDS if given.get(name)}
            for pair, given in zip(chosen["pairs"], post["pairs"], strict=True)
        ]
        for pair, given in zip(pairs, post["pairs"], strict=True):
            if given.get("image_phrases"):  # they counted the source's own list
                own = given["image_phrases"], post["image_phrases"], chosen["image_phrases"]
                pair["image_phrases"] = moved_indices(*own)
        place = {"split": record["split"], "id": post["id"]}
        empty += [place | reason for reason in reasons if not pairs[reason["pair"]][reason["field"]]]
        yield row, chosen | {"pairs": pairs}, record


def _question(post: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What a selector gets to see: never a relation."""
    pairs = [{name: value for name, value in pair.items() if name != "relation"} for pair in post["pairs"]]
    scores = {} if record["object_scores"] is None else {"object_scores": record["object_scores"]}
    return post | {"pairs": pairs} | scores


def _image(plan: Plan, record: dict[str, Any]) -> Image.Image | None:
    return None if record["number"] < 0 else load_upright(plan, image_file(plan, record["number"]))


def _as_row(plan: Plan, post: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The cells of the data set's columns."""
    names = plan.columns["pairs"].feature
    cells = {name: post[name] for name in plan.columns if name in post}
    cells["pairs"] = [{name: pair.get(name, []) for name in names} for pair in post["pairs"]]
    cells |= {name: record[name] for name in FEATURES if name in plan.columns}
    if "image" in plan.columns:
        cells["image"] = None if record["number"] < 0 else _stored_image(plan, record["number"], post["image_id"])
    return cells


def _stored_image(plan: Plan, number: int, name: str) -> dict[str, Any]:
    """The file as it is where it can be, else as PNG; only its name is kept of the path."""
    content = image_file(plan, number)
    if is_kept(content, max_side=plan.arguments.max_side):
        return {"bytes": content, "path": PurePosixPath(name).name}
    image = load_upright(plan, content)
    return {"bytes": as_png(image), "path": PurePosixPath(name).with_suffix(".png").name}
