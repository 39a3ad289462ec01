"""`vmhan train --data`: the configuration for as many posts, their pictures, and what comes after the training."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig

from datasets_scripts.builders.jsonl import Posts, read_rows
from datasets_scripts.configs import CONFIGS, find_config, flags_of, read_entries, with_config
from vmhan.training.arguments import DataArguments, ModelArguments
from vmhan.training.flags import to_entries


__all__ = ["OwnData", "next_commands", "own_data", "settle_pictures"]

logger = logging.getLogger(__name__)

FEW_PAIRS = 1000  # below which `own_data_small` is taken
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm")
TRANSFORMERS = "transformers:"


class OwnData(NamedTuple):
    """What --data holds, counted before anything is built."""

    configuration: str | None  # the name of the one that fits; None: the command line begins with one
    flags: list[str]  # of this configuration
    names_features: bool  # whether --features is the user's, and not of a configuration that comes with the package
    pairs: int
    images: list[str | None]  # of each row what it names
    image_dir: Path
    found: list[Path]  # image files there


def own_data(argv: Sequence[str]) -> OwnData | None:
    """What --data of a command line holds; None without --data. ValueError for files that are not there, or rows that
    are wrong.
    """
    if {"-h", "--help"} & set(argv):
        return None
    entries = to_entries(with_config(argv))
    if not isinstance(entries.get("data"), str):
        return None
    data_args = DataArguments(data=entries["data"], images=entries.get("images"))
    folder = Path(data_args.data_dir)
    files = Posts.text_files(folder).values() if data_args.own_file is None else [folder / data_args.own_file]
    rows = [row for path in files for _, row in read_rows(path)]
    pairs, configuration = sum(len(row.pairs) for row in rows), None
    if argv[0].startswith("-"):
        configuration = "own_data_small" if pairs < FEW_PAIRS else "own_data"
    elif find_config(argv[0]).resolve().parent == CONFIGS:
        entries = to_entries(argv[1:])
    return OwnData(
        configuration=configuration,
        flags=[] if configuration is None else flags_of(read_entries(find_config(configuration))),
        names_features="features" in entries,
        pairs=pairs,
        images=[row.image for row in rows],
        image_dir=Path(data_args.images or folder).expanduser(),
        found=_image_files(data_args),
    )


def settle_pictures(own: OwnData, model_args: ModelArguments, data_args: DataArguments) -> None:
    """Says which images are used, or why none is, and sets --features and --visual accordingly."""
    if own.configuration is not None:
        logger.info(
            "%d pairs: the configuration is %s (give one first to choose another)", own.pairs, own.configuration
        )
    reason = _why_unused(own, model_args, data_args)
    named = {path for name in own.images if name for path in (own.image_dir / name, own.image_dir / "images" / name)}
    used = [path for path in own.found if path in named]
    count = f"{len(own.found)} images found in {own.image_dir}"
    if reason is None:
        others = [path.name for path in own.found if path not in named]
        rest = f"; {len(others)} that no post names, the first is {others[0]}" if others else ""
        users = sum(name is not None for name in own.images)
        logger.info("%s, %d used, by %d of %d rows%s", count, len(used), users, len(own.images), rest)
        if model_args.baseline is None:
            data_args.visual = data_args.visual or "pixels"
        return
    if own.found:
        logger.warning("%s, none used, because %s", count, reason)
    if not own.names_features:
        data_args.features = None


def next_commands(folder: str | Path) -> str:
    """The end of a training on one's own posts: what to do with the model."""
    place = shlex.quote(str(folder))
    return "\n".join(
        [
            "Next, ask it about a file of posts, and share it:",
            f"  vmhan predict {place} posts.jsonl --output facts.csv --format triples",
            f"  vmhan publish {place} USER/NAME --dry_run",
        ]
    )


def _why_unused(own: OwnData, model_args: ModelArguments, data_args: DataArguments) -> str | None:
    """Why no image reaches the model; None: they do."""
    if model_args.preset == "text_only":
        return "--preset text_only reads the text alone"
    if data_args.visual == "none":
        return "--visual none asks for the text alone"
    if model_args.reads == "text":
        return f"--model {model_args.model} reads the text alone"
    if not any(own.images):
        return 'no post names one. Give posts the name of their file, such as "image": "a.jpg"'
    if model_args.reads == "pixels":
        return None
    if data_args.features is None:
        return "nothing makes features of them. Pass --features, such as vgg16:imagenet"
    return None if own.names_features else _why_not_had(data_args.features)


def _why_not_had(features: str) -> str | None:
    """Why the vision encoder of a configuration, which nobody named, cannot be had."""
    if not features.startswith(TRANSFORMERS):
        return None
    name = features.removeprefix(TRANSFORMERS)
    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        return (
            f"the vision encoder {name} cannot be had ({first}). Pass --features transformers:FOLDER, or "
            "--features vgg16:random:0, which sees colours and shapes alone"
        )
    return None


def _image_files(data_args: DataArguments) -> list[Path]:
    """The files of --images and its folders; without it those beside the posts and in their images/ alone."""
    if data_args.images is not None:
        paths = Path(data_args.images).expanduser().rglob("*")
    else:
        folder = Path(data_args.data_dir)
        paths = [path for place in (folder, folder / "images") if place.is_dir() for path in place.iterdir()]
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
