"""The posts that a run learns from."""

from collections.abc import Callable
from typing import Any

import datasets

from datasets_scripts.builders import BUILDERS
from datasets_scripts.building import build
from datasets_scripts.thinning import ThinningCollator
from modeling_vmhan import VMHANCollator, VMHANProcessor
from training.arguments import DataArguments, RunArguments


__all__ = ["FEATURE_COLUMNS", "load_posts", "make_collator", "with_lengths"]

VISUAL_COLUMNS = (
    "image", "image_features", "boxes", "object_labels", "object_features", "caption", "image_phrases",
)  # fmt: skip
FEATURE_COLUMNS = ("image_features", "object_features")


def load_posts(data_args: DataArguments, run_args: RunArguments) -> datasets.DatasetDict:
    """Splits of posts: built, or loaded by name; the first process builds while the others wait.

    Raises:
        ValueError: no train split to train on.
    """
    with run_args.main_process_first(desc="build the data set"):
        if data_args.dataset in BUILDERS:
            posts = build(
                BUILDERS[data_args.dataset],
                config_name=data_args.dataset,
                data_dir=data_args.data_dir,
                cache_dir=data_args.cache_dir,
                features=None if data_args.no_visual else data_args.features,
                feature_size_px=data_args.feature_size_px,
                **data_args.builder_fields(),
            )
        else:
            posts = datasets.load_dataset(data_args.dataset, data_args.dataset_config, cache_dir=data_args.cache_dir)
    if run_args.do_train and "train" not in posts:
        raise ValueError(
            f"there is no train split in {data_args.dataset!r}, only {list(posts)}: pass --do_train false."
        )
    if data_args.no_visual:
        posts = posts.remove_columns([name for name in VISUAL_COLUMNS if name in next(iter(posts.values())).features])
    if data_args.max_samples is not None:
        for split in posts:
            posts[split] = posts[split].select(range(min(data_args.max_samples, len(posts[split]))))
    return posts


def make_collator(
    processor: VMHANProcessor, label2id: dict[str, int], visual_share: float | None = None, *, seed: int = 0
) -> Callable[[list[dict[str, Any]]], Any]:
    """Posts to a batch; with `visual_share`, posts that keep only that share of their visual nodes, drawn by `seed`.

    Raises:
        ValueError: a share outside [0, 1].
    """
    collator = VMHANCollator(processor, label2id)
    return collator if visual_share is None else ThinningCollator(collator, visual_share, seed=seed)


def with_lengths(
    posts: datasets.DatasetDict, processor: VMHANProcessor, run_args: RunArguments
) -> datasets.DatasetDict:
    """Adds `length`, the encoder tokens of a post, for batches of like lengths; visual features come as numpy."""
    if run_args.train_sampling_strategy in ("group_by_length", "batch_rebalance") and "train" in posts:
        texts = [name for name in ("tokens", "caption") if name in posts["train"].column_names]
        lengths = [
            len(processor.tokenizer(" ".join([*post["tokens"], post.get("caption") or ""]))["input_ids"])
            for post in posts["train"].select_columns(texts)
        ]
        posts["train"] = posts["train"].add_column("length", lengths)
    for split in posts:
        vectors = [name for name in FEATURE_COLUMNS if name in posts[split].column_names]
        if vectors:
            posts[split] = posts[split].with_format("numpy", columns=vectors, output_all_columns=True)
    return posts
