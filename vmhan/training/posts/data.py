"""The posts that a run learns from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import datasets

from datasets_scripts.builders.building import build
from datasets_scripts.builders.ready import ready_posts
from datasets_scripts.commands import check_folder_or_hub_name
from datasets_scripts.leaks import leak_record
from datasets_scripts.registry import BUILDERS
from datasets_scripts.splits import differing_splits
from datasets_scripts.splitting import split_posts
from modeling_vmhan import VMHANCollator, VMHANProcessor
from vmhan.training.arguments import DataArguments, RunArguments
from vmhan.training.posts.generated import with_generated_images
from vmhan.training.posts.mapped_features import FEATURE_COLUMNS
from vmhan.training.posts.shuffled_images import VISUAL_COLUMNS, with_shuffled_images
from vmhan.training.posts.streaming import load_streamed
from vmhan.training.posts.unlisted import with_unlisted_pairs
from vmhan.training.posts.visual_dropout import VisualDropoutCollator


__all__ = ["FEATURE_COLUMNS", "data_record", "load_posts", "make_collator", "with_lengths"]

PIXELS = ", and the encoder that made them is saved with the model"
logger = logging.getLogger(__name__)

TEXT_COLUMNS = ("id", "text", "tokens", "pairs", "caption", "image_phrases", "object_labels")


def load_posts(
    data_args: DataArguments,
    run_args: RunArguments,
    reads: str = "features",
    *,
    labels: Sequence[str] | None = None,
) -> datasets.DatasetDict:
    """Splits of posts: built, or loaded by name; with --streaming the train split is a `datasets.IterableDataset`.

    Logs what the model will see of the pictures, and sets --visual to it where it was left out. `reads` is what it can
    read: "features"; "pixels", so that features are neither made nor kept; "either"; or nothing, "text". Of
    data that are ready and name their relations, `labels` are a model's (`ready_posts`). ValueError without a train
    split to train on or columns that are needed, such as the features of --visual or --features; as `ready_posts` and
    `load_streamed`.
    """
    if data_args.dataset not in BUILDERS:
        check_folder_or_hub_name("--dataset", data_args.dataset)
    with run_args.main_process_first(desc="build the data set"):
        if data_args.streaming:
            posts = load_streamed(data_args, run_args)
        elif data_args.dataset in BUILDERS:
            posts = _build(data_args, reads)  # by the first process, while the others wait
        else:
            posts = datasets.load_dataset(data_args.dataset, data_args.dataset_config, cache_dir=data_args.cache_dir)
    if run_args.do_train and "train" not in posts:
        raise ValueError(
            f"there is no train split in --dataset {data_args.dataset!r}, only {list(posts)}: pass --do_train false."
        )
    unused = sorted({*data_args.builder_fields(), *(["data_dir"] if data_args.data_dir else [])})
    if unused and data_args.dataset not in BUILDERS:
        logger.warning("not used with a data set that is ready: %s", ", ".join(f"--{name}" for name in unused))
    unread = _settle_visual(data_args, posts, reads)
    for split, rows in posts.items():
        posts[split] = rows.remove_columns([name for name in unread if name in rows.features])
    if data_args.dataset not in BUILDERS:
        with run_args.main_process_first(desc="read the relations"):
            posts = ready_posts(posts, f"--dataset {data_args.dataset!r}", labels=labels)
    for split, rows in posts.items():
        if isinstance(rows.features.get("image"), datasets.Image):  # opened by `load_image`, which takes fewer formats
            rows = rows.cast_column("image", datasets.Image(decode=False))
        is_stream = isinstance(rows, datasets.IterableDataset)  # cut before it was shuffled
        posts[split] = rows if data_args.max_samples is None or is_stream else rows.take(data_args.max_samples)
    if data_args.shuffled_images is not None:
        with run_args.main_process_first(desc="exchange the images"):
            posts = with_shuffled_images(posts, data_args.shuffled_images)
        logger.warning("each post has the picture of another one (--shuffled_images): a control, not a result")
    if data_args.generated_images is not None:
        posts = with_generated_images(posts, data_args.generated_images)
    if data_args.unlisted_are_none:
        with run_args.main_process_first(desc="list all pairs"):
            posts = with_unlisted_pairs(posts)
    for difference in differing_splits(posts):
        logger.warning("--dataset %s: %s", data_args.dataset, difference)
    return posts


def data_record(data_args: DataArguments, posts: datasets.DatasetDict) -> dict[str, Any]:
    """What metrics.json says of the data: `leak_record`, and shuffled_images where they are."""
    seed = data_args.shuffled_images
    return leak_record(posts) | ({} if seed is None else {"shuffled_images": seed})


def _build(data_args: DataArguments, reads: str) -> datasets.DatasetDict:
    builder, options = BUILDERS[data_args.dataset].builder_class(), data_args.builder_fields()
    features = data_args.features if reads in ("features", "either") and data_args.visual != "none" else None
    needs_images = features is not None or reads == "pixels"
    if "images" in {f.name for f in fields(builder.BUILDER_CONFIG_CLASS)}:
        options |= {"images": False} if data_args.visual == "none" else {"images": True} if needs_images else {}
    posts = build(
        builder,
        config_name=data_args.dataset,
        data_dir=data_args.data_dir,
        cache_dir=data_args.cache_dir,
        features=features,
        feature_size_px=data_args.feature_size_px,
        **options,
    )
    if data_args.data is not None and list(posts) == ["train"]:
        return split_posts(posts["train"], seed=data_args.split_seed)
    return posts


def _settle_visual(data_args: DataArguments, posts: datasets.DatasetDict, reads: str) -> tuple[str, ...]:
    """Decide what is seen of the pictures, say so, and return the columns that are not."""
    has_features = all("image_features" in rows.features for rows in posts.values())
    asked = {"--visual": data_args.visual, "--features": data_args.features}
    if data_args.visual == "none":
        seen, unread = "nothing, as --visual none asks for: text only", VISUAL_COLUMNS
    elif reads == "text":
        seen, unread = "nothing: this model reads text alone", ("image",)
    elif reads == "pixels":
        data_args.visual, seen, unread = "pixels", "the pictures themselves", FEATURE_COLUMNS
    elif has_features:
        data_args.visual = data_args.visual or "features"
        made_by = f"that {data_args.features} makes" if data_args.dataset in BUILDERS else "that the data have"
        seen, unread = f"visual features {made_by}" + (PIXELS if data_args.visual == "pixels" else ""), ()
    elif reads == "either":
        seen, unread = "the pictures, through the encoder that is saved with the model", ()
    elif any(asked.values()):
        flags = " ".join(f"{name} {value}" for name, value in asked.items() if value)
        raise ValueError(
            f"{flags} needs visual features, and --dataset {data_args.dataset} has no image_features: --features "
            "makes them for data that are built here, `vmhan prepare --features` for a folder. Or: --visual none."
        )
    else:
        seen = "no pictures, only what the data say of them in words: there are no features, and no --features"
        unread = ("image",)
    logger.info("the model sees of the pictures: %s", seen)
    return unread


def make_collator(
    processor: VMHANProcessor, label2id: dict[str, int], visual_share: float | None = None, *, seed: int = 0
) -> Callable[[list[dict[str, Any]]], Any]:
    """Posts to a batch; with `visual_share` posts that keep only that share of their visual nodes, drawn by `seed`."""
    collator = VMHANCollator(processor, label2id)
    return collator if visual_share is None else VisualDropoutCollator(collator, visual_share, seed=seed)


def with_lengths(
    posts: datasets.DatasetDict, processor: VMHANProcessor, run_args: RunArguments
) -> datasets.DatasetDict:
    """Adds the column `length`: tokens, exactly as the processor will make them. With --tokens_per_batch it is a list,
    of each of a post's encoder rows, in every split; with group_by_length the longest row's, for training.
    """
    by_rows = run_args.tokens_per_batch is not None
    by_longest = run_args.train_sampling_strategy in ("group_by_length", "batch_rebalance")
    for split, rows in posts.items():
        if isinstance(rows, datasets.Dataset) and (by_rows or (by_longest and split == "train")):
            texts = rows.select_columns([name for name in TEXT_COLUMNS if name in rows.column_names])
            lengths = [processor.row_lengths(post) for post in texts]
            posts[split] = rows.add_column("length", lengths if by_rows else [max(row) for row in lengths])
    return posts
