"""Last stage: the shards become a data set folder, which takes its name only when everything in it is there.

OUTPUT_DIR/
  README.md  provenance.json  statistics.json  skipped.jsonl, empty_nodes.jsonl (where there is any)
  CONFIG/SPLIT-00000-of-0000N.parquet
  figures/*.png
"""

import json
import logging
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_scripts.prepare.card import count_split, size_of, write_card
from datasets_scripts.prepare.figures import draw_figures
from datasets_scripts.prepare.plan import Plan, is_whole, json_lines
from datasets_scripts.splits import NODES, differing_splits
from model_cards.files import sha256_of, write_json, write_text


__all__ = ["assemble", "check_output", "is_finished"]

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.json"


def check_output(output_dir: Path) -> None:
    """Raise a ValueError if the folder has anything that no preparation made, or cannot be replaced as a whole."""
    if os.path.ismount(output_dir):
        raise ValueError(
            f"output_dir: expected a folder that can be put in place at the end, received {output_dir}, where another "
            "disk begins. Name a folder inside it"
        )
    is_free = not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir()))
    if not is_free and not (output_dir / PROVENANCE).is_file():
        raise ValueError(
            f"output_dir: expected a new folder, an empty one or one that prepare made, received {output_dir}, which "
            f"has other files and no {PROVENANCE}. Name another"
        )


def is_finished(plan: Plan, output_dir: Path) -> bool:
    """Tell whether the folder has what this plan makes: the same fingerprint, and its data files unharmed. README.md
    and the figures may have been edited since.
    """
    try:
        provenance = json.loads((output_dir / PROVENANCE).read_text(encoding="utf-8"))
        files = {name: sha256_of(output_dir / name) for name in provenance["files"]}
    except (OSError, ValueError, LookupError):
        return False
    return provenance["files"] == files and provenance.get("fingerprint") == plan.provenance["fingerprint"]


def assemble(plan: Plan, output_dir: Path) -> None:
    """Write what stands beside the shards, and put the finished folder into the place of `output_dir`. A ValueError
    says that something else has changed a shard meanwhile.
    """
    for shard in plan.shards["posts"]:
        if not is_whole(shard):
            raise _changed(shard.file)
    files = _files_with_posts(plan)
    _warn_of_differing_nodes(plan, files)
    log = [json.loads(line) for shard in plan.shards["posts"] for line in shard.log.open(encoding="utf-8")]
    skipped, empty = [line for line in log if "skipped" in line], [line for line in log if "field" in line]
    for name, lines in (("skipped.jsonl", skipped), ("empty_nodes.jsonl", empty)):
        if lines:
            write_text(plan.finished / name, json_lines(lines))
    splits = {}
    for split, paths in files.items():
        skips = [line for line in skipped if line["split"] == split]
        numbers = zip(plan.source.posts[split]["id"], plan.source.numbers[split], strict=True)
        without_image = {line["id"] for line in skips} | {name for name, number in numbers if number < 0}
        splits[split] = {
            **count_split(paths, plan.source.labels, without_image=without_image),
            "posts_skipped": sum(line["skipped"] == "post" for line in skips),
            "images_skipped": sum(line["skipped"] == "image" for line in skips),
            "node_kinds_left_empty": sum(line["split"] == split for line in empty),
        }
        if splits[split]["posts"] + splits[split]["posts_skipped"] != len(plan.source.posts[split]):
            raise _changed(plan.finished / plan.arguments.config / f"{split}-*.parquet")
    write_json(plan.finished / "statistics.json", {"config": plan.arguments.config, "splits": splits})
    figures = draw_figures(plan.finished / "figures", files, splits) if plan.arguments.figures else {}
    write_card(plan, plan.finished / "README.md", splits, files, figures)
    digests = {
        path.relative_to(plan.finished).as_posix(): sha256_of(path) for paths in files.values() for path in paths
    }
    write_json(plan.finished / PROVENANCE, plan.provenance | {"files": digests})
    for leftover in plan.finished.rglob(".*"):  # what a killed process was writing
        leftover.unlink()
    if output_dir.exists():  # killed from here on, the next run finds all shards and does this again
        shutil.rmtree(plan.folder / "replaced", ignore_errors=True)
        os.rename(output_dir, plan.folder / "replaced")
    os.rename(plan.finished, output_dir)


def _warn_of_differing_nodes(plan: Plan, files: dict[str, list[Path]]) -> None:
    """Say which nodes detector and selector gave to one split alone; of the source's own it was said before."""
    tables = {
        split: pa.concat_tables(pq.read_table(path, columns=["boxes", "image_phrases", "pairs"]) for path in paths)
        for split, paths in files.items()
    }
    said = differing_splits(plan.source.posts, NODES)
    for difference in differing_splits(tables, NODES):
        if difference not in said:
            logger.warning("%s: %s", plan.arguments.config, difference)


def _changed(path: Path) -> ValueError:
    return ValueError(
        f"{path}: expected all the posts that were written there, but something else has deleted or changed it. "
        "Nothing is finished. Run the command again: it makes this shard anew"
    )


def _files_with_posts(plan: Plan) -> dict[str, list[Path]]:
    """Return {split: its shards}, without the splits that lost all their posts."""
    files = {split: [s.file for s in plan.shards["posts"] if s.split == split] for split in plan.source.posts}
    for split in [split for split, paths in files.items() if not size_of(paths)[0]]:
        logger.warning("no post of the %s split stayed: it is left out", split)
        for path in files.pop(split):
            path.unlink()
    if not files:
        raise ValueError(
            "on_bad_image: expected some post to stay, all were left out. Look at the images, or pass --on_bad_image "
            "skip_image to keep posts without image"
        )
    return files
