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
from typing import Any

from datasets_scripts.prepare.card import write_card
from datasets_scripts.prepare.files import sha256_of, sync_folder, write_text
from datasets_scripts.prepare.plan import Plan, work_folder
from datasets_scripts.prepare.statistics import count_split, size_of


__all__ = ["assemble", "check_output", "is_finished"]

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.json"


def check_output(output_dir: Path) -> None:
    """ValueError if the folder has anything in it that no preparation made, or cannot be replaced as a whole."""
    if os.path.ismount(output_dir):
        raise ValueError(
            f"output_dir: expected a folder that can be put in place at the end, received {output_dir}, where another "
            "disk begins. Name a folder inside it"
        )
    if (
        output_dir.exists()
        and not (output_dir / PROVENANCE).is_file()
        and (not output_dir.is_dir() or any(output_dir.iterdir()))
    ):
        raise ValueError(
            f"output_dir: expected a new folder, an empty one or one that prepare made, received {output_dir}, which "
            f"has other files and no {PROVENANCE}. Name another"
        )


def is_finished(plan: Plan, output_dir: Path) -> bool:
    """Whether the folder holds just what this plan makes: the same fingerprint, and its data files unharmed.

    README.md and the figures may have been edited since.
    """
    try:
        provenance = json.loads((output_dir / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    if provenance.get("fingerprint") != plan.fingerprint:
        return False
    files = {output_dir / name: sha256 for name, sha256 in provenance["files"].items()}
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in files.items())


def assemble(plan: Plan, output_dir: Path) -> None:
    """Put the finished folder into the place of `output_dir`, then remove the work folder.

    Raises:
        ValueError: no post is left.
    """
    staged = plan.folder / "finished"
    shutil.rmtree(staged, ignore_errors=True)
    files = _gather_shards(plan, staged)
    skipped = _gather_lines(plan, staged, plan.skipped_file, "skipped.jsonl")
    empty = _gather_lines(plan, staged, plan.empty_file, "empty_nodes.jsonl")
    statistics = _statistics(plan, files, skipped, empty)
    write_text(staged / "statistics.json", json.dumps(statistics, indent=2, ensure_ascii=False) + "\n")
    figures: dict[str, str] = {}
    if plan.arguments.figures:
        from datasets_scripts.prepare.figures import draw_figures  # here, as it brings in matplotlib

        figures = draw_figures(plan, files, statistics, staged / "figures")
    sizes = {split: size_of(paths) for split, paths in files.items()}
    write_card(plan, staged / "README.md", statistics, sizes, figures)
    data = {path.relative_to(staged).as_posix(): sha256_of(path) for paths in files.values() for path in paths}
    text = json.dumps(plan.provenance | {"files": data}, indent=2, ensure_ascii=False)
    write_text(staged / PROVENANCE, text + "\n")
    _put_in_place(staged, output_dir, plan)


def _gather_shards(plan: Plan, staged: Path) -> dict[str, list[Path]]:
    """Link the shards that have posts to their public names; returns {split: files}."""
    folder = staged / plan.arguments.config
    folder.mkdir(parents=True)
    files: dict[str, list[Path]] = {}
    for split in plan.source.posts:
        shards = [plan.post_file(split, shard) for shard in range(len(plan.post_shards(split)))]
        shards = [path for path in shards if size_of([path])[0] > 0]
        if not shards:
            logger.warning("no post of the %s split stayed: it is left out", split)
            continue
        files[split] = [folder / f"{split}-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]
        for path, public in zip(shards, files[split], strict=True):
            _link(path, public)
    sync_folder(folder)
    if not files:
        raise ValueError(
            "on_bad_image: expected some post to stay, all were left out. Look at the images, or pass --on_bad_image "
            "skip_image to keep posts without image"
        )
    return files


def _link(path: Path, public: Path) -> None:
    try:
        os.link(path, public)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, public)


def _gather_lines(plan: Plan, staged: Path, file_of: Any, name: str) -> list[dict[str, Any]]:
    """The lines of all post shards, written into one file if there are any."""
    shards = [(split, i) for split in plan.source.posts for i in range(len(plan.post_shards(split)))]
    text = "".join(file_of(split, shard).read_text(encoding="utf-8") for split, shard in shards)
    if text:
        write_text(staged / name, text)
    return [json.loads(line) for line in text.split("\n") if line]


def _statistics(
    plan: Plan, files: dict[str, list[Path]], skipped: list[dict[str, Any]], empty: list[dict[str, Any]]
) -> dict[str, Any]:
    """Of each split: `count_split`, and what was left out on the way."""
    splits = {}
    for split, paths in files.items():
        without = {line["id"] for line in skipped if line["split"] == split}
        numbers = zip(plan.source.texts[split]["id"], plan.images.numbers[split], strict=True)
        without |= {identifier for identifier, number in numbers if number < 0}  # named, and never there
        splits[split] = {
            **count_split(paths, plan.source.labels, without_image=without),
            "posts_without_file_left_out": plan.source.left_out[split],
            "posts_skipped": sum(line["split"] == split and line["skipped"] == "post" for line in skipped),
            "images_skipped": sum(line["split"] == split and line["skipped"] == "image" for line in skipped),
            "node_kinds_left_empty": sum(line["split"] == split for line in empty),
        }
    return {"config": plan.arguments.config, "splits": splits}


def _put_in_place(staged: Path, output_dir: Path, plan: Plan) -> None:
    """Killed between the two renames, the next run finds all shards and does this again."""
    if output_dir.is_dir() and any(output_dir.iterdir()):
        replaced = plan.folder / "replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(output_dir, replaced)
    os.rename(staged, output_dir)
    sync_folder(output_dir.parent)
    shutil.rmtree(work_folder(output_dir), ignore_errors=True)
