"""Which posts a checkpoint has learned from: a training goes on with the same ones, or scores what it has seen."""

import hashlib
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow.compute as pc

from vmhan.training.checkpoints import TRAIN_DATA


__all__ = ["check_train_data", "record_of"]


def record_of(posts: Any) -> dict[str, Any] | None:
    """How many posts a train split has, and a digest of their ids, words and relations in order; None of a stream."""
    if not isinstance(posts, datasets.Dataset):
        return None
    digest = hashlib.sha256()
    words = [name for name in ("id", "text", "tokens") if name in posts.column_names]
    for rows in posts.select_columns([*words, "pairs"]).with_format("arrow").iter(1000):
        relations = pc.struct_field(pc.list_flatten(rows["pairs"]), "relation")
        parts = [*(rows[name] for name in words), pc.list_value_length(rows["pairs"]), relations]
        digest.update(json.dumps([part.to_pylist() for part in parts]).encode())
    return {"posts": len(posts), "sha256": digest.hexdigest()}


def check_train_data(checkpoint: Path, record: dict[str, Any] | None) -> None:
    """ValueError for a checkpoint that has learned from other posts than those of `record` (None: not known)."""
    file = checkpoint / TRAIN_DATA
    saved = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None  # of a stream, or an older version
    if record is not None and saved is not None and saved != record:
        raise ValueError(
            f"--resume_from_checkpoint: expected the {saved.get('posts')} training posts that {checkpoint} has "
            f"learned from, received {record['posts']} that are not the same: validation and test may now have some "
            "that it has learned. Pass the data and flags (--split_seed, --max_samples) that it was begun with, or "
            "train anew, in another --output_dir or with --overwrite true in place of --resume_from_checkpoint."
        )
