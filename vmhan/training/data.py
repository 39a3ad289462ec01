"""The posts that a run learns from."""

import logging
from collections.abc import Callable
from typing import Any

import datasets

from datasets_scripts.builders.building import build
from datasets_scripts.registry import BUILDERS
from modeling_vmhan import VMHANCollator, VMHANProcessor
from vmhan.training.arguments import DataArguments, RunArguments
from vmhan.training.mapped_features import FEATURE_COLUMNS, with_mapped_features
from vmhan.training.streaming import load_streamed
from vmhan.training.visual_dropout import ThinningCollator


__all__ = ["FEATURE_COLUMNS", "load_posts", "make_collator", "row_lengths", "with_lengths", "without_images"]

logger = logging.getLogger(__name__)

VISUAL_COLUMNS = (
    "image", "image_features", "boxes", "object_labels", "object_features", "caption", "image_phrases",
)  # fmt: skip
NEEDED_COLUMNS = ("id", "tokens", "pairs")
TEXT_COLUMNS = ("id", "text", "tokens", "pairs", "caption", "image_phrases")


def load_posts(
    data_args: DataArguments, run_args: RunArguments, *, with_features: bool = True, needs_features: bool = True
) -> datasets.DatasetDict:
    """Splits of posts: built, or loaded by name; the first process builds while the others wait.

    With --streaming the train split is a `datasets.IterableDataset`.

    Args:
        with_features: False for a model that reads pixels: features are neither made nor kept.
        needs_features: False for one that reads text alone: data without those that --features asks for will do.

    Raises:
        ValueError: no train split to train on; a split without the columns that are needed, or without the features
            that --features asks for; as `load_streamed`.
    """
    with run_args.main_process_first(desc="build the data set"):
        if data_args.streaming:
            posts = load_streamed(data_args, run_args)
        elif data_args.dataset in BUILDERS:
            posts = build(
                BUILDERS[data_args.dataset].builder_class(),
                config_name=data_args.dataset,
                data_dir=data_args.data_dir,
                cache_dir=data_args.cache_dir,
                features=data_args.features if with_features and not data_args.no_visual else None,
                feature_size_px=data_args.feature_size_px,
                **data_args.builder_fields(),
            )
        else:
            posts = datasets.load_dataset(data_args.dataset, data_args.dataset_config, cache_dir=data_args.cache_dir)
    if run_args.do_train and "train" not in posts:
        raise ValueError(
            f"there is no train split in {data_args.dataset!r}, only {list(posts)}: pass --do_train false."
        )
    if data_args.dataset not in BUILDERS:
        check_loaded(data_args, posts, needs_features=with_features and needs_features and not data_args.no_visual)
    unread = VISUAL_COLUMNS if data_args.no_visual else () if with_features else FEATURE_COLUMNS
    for split, rows in posts.items():
        rows = rows.remove_columns([name for name in unread if name in rows.features])
        is_stream = isinstance(rows, datasets.IterableDataset)  # cut before it was shuffled
        posts[split] = rows if data_args.max_samples is None or is_stream else rows.take(data_args.max_samples)
    return posts


def without_images(posts: datasets.DatasetDict, data_args: DataArguments) -> datasets.DatasetDict:
    """For a model that takes no pixels: pictures without features are not read, so they need not be decoded."""
    featureless = [split for split, rows in posts.items() if "image_features" not in rows.features]
    if data_args.images and not data_args.no_visual and featureless:
        logger.warning("the images are not read: --features ENCODER:WEIGHTS makes features of them, as vgg16:imagenet")
    for split in featureless:
        posts[split] = posts[split].remove_columns([name for name in posts[split].features if name == "image"])
    return posts


def check_loaded(data_args: DataArguments, posts: datasets.DatasetDict, *, needs_features: bool) -> None:
    """ValueError where posts that no builder made lack what is needed; a warning of flags that only builders read."""
    for split, rows in posts.items():
        missing = [name for name in NEEDED_COLUMNS if name not in rows.features]
        if missing:
            raise ValueError(
                f"{data_args.dataset!r}, split {split}: expected the columns {list(NEEDED_COLUMNS)}, received none "
                f"called {missing} among {sorted(rows.features)}. datasets_scripts.prepare.command makes them of raw posts."
            )
        if data_args.features and needs_features and "image_features" not in rows.features:
            raise ValueError(
                f"--features {data_args.features} is for data that is built here, and {data_args.dataset!r} has no "
                f"image_features: prepare it with datasets_scripts.prepare.command --features {data_args.features}, or leave "
                "--features out to train without pictures."
            )
    unused = {*data_args.builder_fields(), *(["data_dir"] if data_args.data_dir else [])} - {"images"}
    if unused:
        logger.warning("not used with a data set that is ready: %s", ", ".join(f"--{name}" for name in sorted(unused)))


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
    """Adds `length`, where batches are made by length; visual features come as views of the mapped file.

    With --tokens_per_batch it is a list, the tokens of each of a post's encoder rows, in every split; otherwise the
    tokens of the longest one, for training by Trainer's group_by_length.
    """
    by_length = run_args.train_sampling_strategy in ("group_by_length", "batch_rebalance")
    for split in posts:
        if isinstance(posts[split], datasets.IterableDataset):
            continue
        if run_args.tokens_per_batch is not None:
            posts[split] = posts[split].add_column("length", row_lengths(posts[split], processor))
        elif by_length and split == "train":
            longest = [max(lengths) for lengths in row_lengths(posts[split], processor)]
            posts[split] = posts[split].add_column("length", longest)
        posts[split] = with_mapped_features(posts[split])
    return posts


def row_lengths(posts: datasets.Dataset, processor: VMHANProcessor) -> list[list[int]]:
    """Of each post the tokens of each of its encoder rows, exactly as the processor will make them."""
    texts = [name for name in TEXT_COLUMNS if name in posts.column_names]
    return [processor.row_lengths(post) for post in posts.select_columns(texts)]
