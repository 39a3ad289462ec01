"""What a preparation still has to compute and to ask, counted before anything is spent (`vmhan prepare --dry_run`)."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from datasets_scripts.commands import aligned
from datasets_scripts.nodes.pairs import FIELDS, PostAndImage
from datasets_scripts.nodes.selection_llm import LLMSelector
from datasets_scripts.prepare.images import image_record, open_image, write_image_shard
from datasets_scripts.prepare.plan import Plan, Shard, Tools, is_whole
from datasets_scripts.prepare.posts import why_bad


__all__ = ["estimate"]

SAMPLE = 8  # images that are timed
SUPPOSED = {"boxes": [[0.0, 0.0, 1.0, 1.0]] * 2, "object_labels": ["", ""]}  # the least that there is a choice from
HEAD = ("", "to do", "minutes", "")
AFTER = "Nothing was asked, and nothing written. An answer that cannot be read is one more request."


def estimate(plan: Plan, tools: Tools) -> str:
    """A table of images, regions and chat requests that no finished shard and no kept answer has, with minutes: of the
    images as timed on a few of them, in one process; of requests at a second each, one after the other.
    """
    left = {kind: [shard for shard in shards if not is_whole(shard)] for kind, shards in plan.shards.items()}
    count = sum(len(shard.rows) for shard in left["images"])
    rows = [("posts", f"{sum(len(shard.rows) for shard in left['posts']):,}", "", "to go through")]
    if count:
        seconds, boxes, sample = _timed(plan, tools, left["images"])
        work = ["read", *["searched for objects"] * bool(tools.detector), *["encoded"] * bool(tools.extractor)]
        how = f"{', '.join(work)}: {seconds:.2f} s each, timed on {sample}"
        rows.append(("images", f"{count:,}", _minutes(count * seconds), how))
        if tools.extractor is not None:
            how = f"encoded: each image and its {boxes:.1f} boxes, as in the {sample}"
            rows.append(("regions", f"about {round(count * (1 + boxes)):,}", "", how))
    if isinstance(tools.selector, LLMSelector):
        total = sum(len(shard.rows) for shard in left["posts"])
        posts = tqdm(_posts(plan, tools, left["posts"]), desc="posts", total=total, leave=False)
        asked = {request for post in posts for request in tools.selector.unanswered(*post)}
        is_bound = tools.detector is not None and count > 0
        for field in FIELDS:
            number = sum(name == field for name, _ in asked)
            most = "at most " if is_bound and field == "objects" else ""
            rows.append((f"requests: {field.replace('_', ' ')}", f"{most}{number:,}", _minutes(number), "at 1 s each"))
    return "\n".join([*aligned([HEAD, *rows]), AFTER])


def _timed(plan: Plan, tools: Tools, shards: list[Shard]) -> tuple[float, float, int]:
    """Seconds an image, boxes an image, and of how many images that is."""
    numbers = range(shards[0].rows.start, shards[-1].rows.stop)
    sample = numbers[:: max(len(numbers) // SAMPLE, 1)][:SAMPLE]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sample.parquet"
        write_image_shard(plan, tools, Shard(file, sample[:1]))  # the first image takes longer
        begin = time.perf_counter()
        write_image_shard(plan, tools, Shard(file, sample))
        seconds = time.perf_counter() - begin
        boxes = pc.sum(pc.list_value_length(pq.read_table(file, columns=["boxes"])["boxes"])).as_py()
    return seconds / len(sample), boxes / len(sample), len(sample)


def _posts(plan: Plan, tools: Tools, shards: list[Shard]) -> Iterator[PostAndImage]:
    """The posts of shards and their images, as the selector will get them. Where nobody has looked for objects yet, it
    is supposed that there is a choice of them.
    """
    found = {number for shard in plan.shards["images"] if is_whole(shard) for number in shard.rows}
    for shard in shards:
        for row in shard.rows:
            post, number = plan.source.posts[shard.split][row], plan.source.numbers[shard.split][row]
            record = post | {"image": None, "reason": None} if number < 0 else open_image(plan, number)
            is_bad = why_bad(plan, post, number, record["reason"]) is not None
            if is_bad and plan.arguments.on_bad_image == "skip_post":
                continue
            objects = image_record(plan, number) if number in found else record
            if record["image"] is not None and number not in found and tools.detector and not record["boxes"]:
                objects = SUPPOSED
            yield post | {name: objects[name] for name in SUPPOSED}, record["image"]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"
