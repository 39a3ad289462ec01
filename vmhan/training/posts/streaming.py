"""Posts that are read while a model trains on them: the train split is never stored whole."""

import datasets

from datasets_scripts.registry import BUILDERS
from vmhan.training.arguments import DataArguments, RunArguments


__all__ = ["load_streamed"]


def load_streamed(data_args: DataArguments, run_args: RunArguments) -> datasets.DatasetDict:
    """The train split of a folder or Hub name as a shuffled stream, the others read whole into the cache.

    Each epoch is shuffled anew by the seed, within --shuffle_buffer posts. Pictures whose features are in the data are
    not decoded. ValueError for data that a builder makes, no --max_steps, or --tokens_per_batch.
    """
    tokens = run_args.tokens_per_batch
    refused = (  # whether it is wrong, what was received, what is expected
        (data_args.dataset in BUILDERS, f"--dataset {data_args.dataset}", "a folder of `vmhan prepare` or a Hub name"),
        (run_args.max_steps <= 0, f"--max_steps {run_args.max_steps}", "the steps to train for: it has no length"),
        (data_args.generated_images is not None, "--generated_images", "to leave out one of both: ids are not known"),
        (tokens is not None, f"--tokens_per_batch {tokens}", "--per_device_train_batch_size: no length is known"),
    )
    for is_wrong, received, expected in refused:
        if is_wrong:
            raise ValueError(f"--streaming: received {received}, expected {expected}.")
    builder = datasets.load_dataset_builder(data_args.dataset, data_args.dataset_config, cache_dir=data_args.cache_dir)
    files = dict(builder.config.data_files or {})
    posts = datasets.DatasetDict()
    if files.pop("train", None) is not None:
        stream = builder.as_streaming_dataset("train")
        if {"image", "image_features"} <= set(stream.column_names):
            stream = stream.cast_column("image", datasets.Image(decode=False))
        if data_args.max_samples is not None:
            stream = stream.take(data_args.max_samples)  # the first ones, whatever the order they are read in
        if data_args.shuffle_buffer > 0:
            seed = run_args.seed if run_args.data_seed is None else run_args.data_seed
            stream = stream.shuffle(seed=seed, buffer_size=data_args.shuffle_buffer)
        posts["train"] = stream
    if files:
        whole = {split: list(paths) for split, paths in files.items()}
        options = {"features": builder.info.features, "cache_dir": data_args.cache_dir}
        posts |= datasets.load_dataset(builder.name, data_files=whole, **options)
    return posts
