"""`vmhan.train`: posts of one's own in, the pipeline of a trained model out. It is `vmhan train --data`, called."""

import hashlib
import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import transformers
from PIL import Image

from datasets_scripts.builders.jsonl import COLUMNS, Posts
from datasets_scripts.configs import flags_of
from modeling_vmhan.images import load_image, stored_image
from modeling_vmhan.values import shown
from vmhan.training import command


__all__ = ["train"]

Splits = datasets.DatasetDict | datasets.IterableDatasetDict


def train(
    posts: str | Path | Iterable[Mapping[str, Any]] | datasets.Dataset | datasets.DatasetDict,
    images: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    config: str | Path | None = None,
    **flags: Any,
) -> transformers.Pipeline:
    """Train on labelled posts, and return the pipeline of the saved model.

    Args:
        posts: what --data takes (a path), rows of docs/your-own-posts.md as dicts, or a `datasets.Dataset` of such
            rows (streaming too), whose other columns are left out; a `DatasetDict` has its own splits (`train` alone
            is split). The image of a dict may also be bytes or a Pillow image.
        images: folder of the images that posts name; left out: where the file is, and for dicts the working folder.
        output_dir: where the model is saved; left out: a new temporary folder, `pipe.model.name_or_path`.
        config: a configuration in place of the one that fits. flags: of `vmhan train`, such as `num_train_epochs=5`.

    ValueError as from the command, such as for an output_dir that holds a run, without `overwrite=True`.

    Example:
        >>> pairs = [{"head": "Ann", "tail": "Bob", "relation": "peer"}]
        >>> pipe = vmhan.train([{"text": "Ann met Bob", "pairs": pairs}, ...])
        >>> pipe({"text": "Cem met Dora", "head": "Cem", "tail": "Dora"})["relation"]
        'peer'
    """
    output_dir = Path(tempfile.mkdtemp(prefix="vmhan-") if output_dir is None else output_dir)
    with tempfile.TemporaryDirectory() as place:
        if not isinstance(posts, (str, Path)):
            posts, images = _written(posts, Path(images or "."), Path(place, "posts")), None
            flags = {"cache_dir": str(Path(place, "cache")), **flags}
        given = {"data": posts, "images": images, "output_dir": output_dir, **flags}
        command.main([*([] if config is None else [str(config)]), *flags_of(given)])
    return transformers.pipeline(model=str(output_dir))


def _written(posts: Iterable[Mapping[str, Any]] | Splits, images: Path, folder: Path) -> Path:
    """The posts as a file of `folder`, or the folder with a file a split, beside copies of their images."""
    folder.mkdir()
    splits = posts if isinstance(posts, Splits) else {"posts": posts}
    if isinstance(posts, Splits) and not {"train"} <= posts.keys() <= Posts.SPLITS.keys():
        raise ValueError(f"posts: expected the split train, and of {list(Posts.SPLITS)}, received {list(posts)}.")
    for split, rows in splits.items():
        rows = _rows_of(rows) if isinstance(rows, (datasets.Dataset, datasets.IterableDataset)) else rows
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
            for number, row in enumerate(rows):
                if not isinstance(row, Mapping):
                    fix = "Give df.to_dict('records') of a DataFrame, and splits as a datasets.DatasetDict"
                    raise ValueError(f"posts, row {number}: expected a dict, received {shown(row)}. {fix}.")
                if row.get("image") is not None:
                    row = {**row, "image": _stored(row["image"], images, folder)}
                lines.write(json.dumps(row, default=_listed) + "\n")
    return folder if isinstance(posts, Splits) else folder / "posts.jsonl"


def _listed(value: Any) -> Any:
    """What JSON can hold of NumPy's and torch's numbers and arrays, which formats of `datasets` give."""
    if not hasattr(value, "tolist"):
        raise ValueError(f"posts: expected values that JSON can hold, received {shown(value)}.")
    return value.tolist()


def _rows_of(posts: datasets.Dataset | datasets.IterableDataset) -> Iterator[dict[str, Any]]:
    """The rows as people write them: of known columns, where they are known, and relations by name. A label that is
    missing is None: `read_rows` names its row.
    """
    if posts.features is None:
        yield from posts
        return
    posts = posts.select_columns([name for name in posts.column_names if name in ("pairs", *COLUMNS)])
    if isinstance(posts.features.get("image"), datasets.Image):
        posts = posts.cast_column("image", datasets.Image(decode=False))
    declared = posts.features.get("pairs")
    if isinstance(declared, dict):
        raise ValueError(
            f"posts: expected pairs of the type datasets.List({{...}}), received {shown(declared)}, which "
            "datasets.Sequence({...}) makes: a list of each field."
        )
    of_pair = posts.features if declared is None else getattr(declared, "feature", None)
    relation = of_pair.get("relation") if isinstance(of_pair, dict) else None
    for row in posts:
        pairs = row.get("pairs", [row]) if isinstance(relation, datasets.ClassLabel) else None
        for pair in [] if pairs is None else filter(None, pairs):
            label = pair["relation"]
            is_known = label is not None and label == label  # NumPy's and torch's formats have NaN for None
            pair["relation"] = relation.int2str(int(label)) if is_known else None
        yield row


def _stored(image: Any, images: Path, folder: Path) -> str:
    """The name of a copy in `folder`, which the content gives: one picture in two posts is one file."""
    image, suffix = stored_image(image), ".png"
    if isinstance(image, (str, Path)):
        suffix = Path(image).suffix
        content = (images / image).expanduser().read_bytes()
    elif isinstance(image, bytes):
        content = image
    else:
        upright = load_image(image if isinstance(image, Image.Image) else Image.fromarray(image))
        buffer = io.BytesIO()
        upright.save(buffer, format="png")
        content = buffer.getvalue()
    name = hashlib.sha256(content).hexdigest()[:32] + suffix
    (folder / name).write_bytes(content)
    return name
