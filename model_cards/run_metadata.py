"""What a model card may say: read from the files of an output folder, never typed by hand.

`run.json` is written here and holds nothing that must not be published: no token, no folder of the user's machine.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_cards.secrets import is_secret, without_secrets


__all__ = [
    "RUN_FILE", "RunMetadata", "describe_run", "leak_reasons", "numbers", "read_metadata", "read_object",
]  # fmt: skip

RUN_FILE = "run.json"  # a run writes it last of all: where it is, the run is finished
# What run_mmre.py calls the encoder that it takes from a PyPI package, and that encoder's name on the Hub.
ENCODERS = {"offline:all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
LOCAL_FOLDERS = re.compile(r"""(?<![\w./])/(?:[^/\s"']+/)+""")  # as in transformers:/home/ann/encoder
LOCAL_FIELDS = ("data", "images", "data_dir", "cache_dir", "generated_images", "text_encoder")
TRAINING_FIELDS = (
    "learning_rate", "head_learning_rate", "weight_decay", "num_train_epochs", "max_steps", "early_stopping_patience",
    "per_device_train_batch_size", "tokens_per_batch", "gradient_accumulation_steps", "warmup_steps",
    "lr_scheduler_type", "optim", "max_grad_norm", "weight_averaging", "bf16", "fp16", "load_best_model_at_end",
    "metric_for_best_model", "world_size",
)  # fmt: skip
FIGURES = ("figures/*.png", "figures/*.svg")


@dataclass(frozen=True)
class RunMetadata:
    """The content of metrics.json, config.json and run.json, and the folder's pictures as relative paths."""

    metrics: dict[str, Any]
    config: dict[str, Any]
    run: dict[str, Any]
    figures: list[str]


def describe_run(
    argv: Sequence[str],
    *,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    licence: str = "apache-2.0",
) -> dict[str, Any]:
    """The content of run.json: what run_mmre.py was called with, and its three groups of arguments by name.

    Tokens of `command` are masked and absolute paths cut to their last part. `base_model` and `dataset_id` are names
    on the Hub, or None for what came from a folder or was built here. The groups lack empty values and local folders.
    """
    return {
        "command": _public_command(argv),
        "licence": licence,
        "base_model": _hub_name(ENCODERS.get(model["text_encoder"], model["text_encoder"])),
        "dataset_id": _hub_name(data["dataset"]) if "/" in data["dataset"] else None,
        "model": _public_fields(model),
        "data": _public_fields(data),
        "training": _public_fields({field: training.get(field) for field in TRAINING_FIELDS}),
    }


def read_metadata(folder: str | Path, run: Mapping[str, Any] | None = None) -> RunMetadata:
    """Read an --output_dir of run_mmre.py, with `run` in place of a run.json that is not there yet; ValueError for a
    JSON file that is missing or no object.
    """
    folder = Path(folder)
    contents = [read_object(folder / name) for name in ("metrics.json", "config.json")]
    contents.append(read_object(folder / RUN_FILE) if run is None else dict(run))
    figures = sorted(path.relative_to(folder).as_posix() for pattern in FIGURES for path in folder.glob(pattern))
    return RunMetadata(*contents, figures=figures)


def numbers(metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the numbers of metrics.json by name; those of a nested object are named `outer_inner`."""
    found: dict[str, int | float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= {f"{name}_{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return found


def leak_reasons(metrics: Mapping[str, Any]) -> list[str] | None:
    """Return why the results are leaky; [] when they are not, None when metrics.json does not say."""
    reasons = [str(reason) for reason in metrics.get("leak_reasons") or []]
    if metrics.get("leaky") and not reasons:
        return ["metrics.json marks the data as leaky and gives no reason"]
    return reasons if reasons or "leaky" in metrics else None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object out of a run's folder; ValueError for any other content, and for no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a JSON file, received none that can be read ({error}). Pass a finished --output_dir of "
            f"run_mmre.py, which writes metrics.json, config.json and, when all is done, {RUN_FILE}."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, received {type(content).__name__}. Run run_mmre.py again.")
    return content


def _hub_name(name: str) -> str | None:
    return name if HUB_NAME.fullmatch(name) and not os.path.isdir(name) else None


def _public_command(argv: Sequence[str]) -> str:
    words, is_after_secret = ["python", "run_mmre.py"], False
    for word in argv:
        flag, equals, value = word.partition("=")
        is_flag = word.startswith("--")
        if is_flag:
            is_after_secret = is_secret(flag) and not equals
        if is_flag and is_secret(flag) and equals:
            word = f"{flag}=..."
        elif is_after_secret and not is_flag:
            word = "..."
        elif equals and is_flag:
            word = f"{flag}={_public_value(value)}"
        words.append(LOCAL_FOLDERS.sub("", _public_value(word)))
    return shlex.join(words)


def _public_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {name for name in values if name in LOCAL_FIELDS or is_secret(name)}
    kept = {name: value for name, value in values.items() if value is not None and name not in left_out}
    return {name: _public_value(value) for name, value in kept.items()}


def _public_value(value: Any) -> Any:
    """Keep only the last part of an absolute path, which says more about the user's machine than about the model, and
    no name and password of an address.
    """
    if isinstance(value, Mapping):
        return {name: _public_value(inner) for name, inner in value.items() if not is_secret(str(name))}
    value = without_secrets(value)
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value
