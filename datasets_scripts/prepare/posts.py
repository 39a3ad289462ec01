"""Second stage: nodes are selected for each pair, and post, image and the image's features become one row of Parquet.

What the source itself chose for a pair (text phrases, objects, or none of them) is kept; the selector fills in the
rest.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from datasets_scripts.nodes.selection import apply_selections, select_posts
from datasets_scripts.prepare.images import FEATURES, image_file, image_record, is_kept, load_upright
from datasets_scripts.prepare.plan import Plan, Shard, Tools, digests, json_lines, write_parquet
from datasets_scripts.prepare.source import NO_FILE
from datasets_scripts.schema import with_hypergraph
from model_cards.files import whole_file, write_text


__all__ = ["why_bad", "write_post_shard"]

# A post, and the record of its image: what `image_record` gives, and the image's number, -1 where the post has none.
PostAndImage = tuple[dict[str, Any], dict[str, Any]]


def write_post_shard(plan: Plan, tools: Tools, shard: Shard) -> None:
    """Write a shard of posts, and in its log what was left out of them and which nodes stayed empty, and why.

    A ValueError says that the tail of a pair is an object in a bad image, and the post is to stay.
    """
    log: list[dict[str, Any]] = []
    posts = _with_nodes(plan, tools, _posts(plan, shard, log), shard, log)
    with whole_file(shard.file) as temporary:
        write_parquet(temporary, plan.columns, (_as_row(plan, *post) for post in posts))
        write_text(shard.log, json_lines(log))  # before the shard takes its name
        write_text(shard.seal, digests(shard, temporary))


def _posts(plan: Plan, shard: Shard, log: list[dict[str, Any]]) -> Iterator[PostAndImage]:
    """Yield the posts that stay."""
    nothing = image_record(plan, -1)  # made once, as that takes longer than the rest
    for row in shard.rows:
        post, number = plan.source.posts[shard.split][row], plan.source.numbers[shard.split][row]
        record = nothing if number < 0 else image_record(plan, number)
        reason = why_bad(plan, post, number, record["reason"])
        if reason is not None:
            is_left_out = plan.arguments.on_bad_image == "skip_post"
            if not is_left_out and any(pair["tail_object"] >= 0 for pair in post["pairs"]):
                raise ValueError(
                    f"on_bad_image: post {post['id']!r} of {shard.split} cannot stay without its image "
                    f"{post['image_id']!r} ({reason}): a pair's tail is an object in it. Pass --on_bad_image skip_post"
                )
            place = {"split": shard.split, "id": post["id"], "image_id": post["image_id"]}
            log.append({**place, "skipped": "post" if is_left_out else "image", "reason": reason})
            if is_left_out:
                continue
            post["pairs"] = [pair | {"objects": []} for pair in post["pairs"]]  # boxes are gone
            number = -1
        objects = {name: record[name] for name in ("boxes", "object_labels", "object_scores")}
        yield post | objects, record | {"number": number}


def why_bad(plan: Plan, post: dict[str, Any], number: int, reason: str | None) -> str | None:
    """Why a post cannot have its image, whose record says `reason`; None if it can, or names none."""
    is_missing = number < 0 and "image" in plan.source.info.features and post["image_id"]
    return NO_FILE if is_missing else reason


def _with_nodes(
    plan: Plan, tools: Tools, posts: Iterator[PostAndImage], shard: Shard, log: list[dict[str, Any]]
) -> Iterator[PostAndImage]:
    """Yield the same posts with nodes chosen for each pair."""
    if tools.selector is None:
        yield from posts
        return
    posts, asked = itertools.tee(posts)
    questions = (_question(plan, *post) for post in asked)
    for selections, (post, record) in zip(select_posts(tools.selector, questions), posts, strict=True):
        chosen, reasons = apply_selections(post, selections)
        place = {"split": shard.split, "id": post["id"]}
        log += [place | reason for reason in reasons if not chosen["pairs"][reason["pair"]][reason["field"]]]
        yield chosen, record


def _question(plan: Plan, post: dict[str, Any], record: dict[str, Any]) -> tuple[dict[str, Any], Image.Image | None]:
    """Return what a selector gets to see, which is never a relation."""
    pairs = [{name: value for name, value in pair.items() if name != "relation"} for pair in post["pairs"]]
    image = None if record["number"] < 0 else load_upright(plan, image_file(plan, record["number"]))
    return post | {"pairs": pairs}, image


def _as_row(plan: Plan, post: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of the data set's columns."""
    names = plan.columns["pairs"].feature
    pairs = [{name: pair[name] for name in names} for pair in post["pairs"]]
    has_image = record["number"] >= 0
    row = with_hypergraph(post | {"pairs": pairs, "image": has_image or None})
    row |= {name: record[name] for name in FEATURES if name in plan.columns}
    if "image" in plan.columns:
        row["image"] = _stored_image(plan, record["number"], post["image_id"]) if has_image else None
    return row


def _stored_image(plan: Plan, number: int, name: str) -> dict[str, Any]:
    """Keep the file as it is where it can be, else as PNG, which loses nothing; of the path only its name is kept."""
    content = image_file(plan, number)
    if is_kept(content, max_side=plan.arguments.max_side):
        return {"bytes": content, "path": PurePosixPath(name).name}
    buffer = io.BytesIO()
    load_upright(plan, content).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": PurePosixPath(name).with_suffix(".png").name}
