"""What `python -m datasets_scripts.prepare` can be told."""

import json
import shlex
from dataclasses import dataclass, field, fields
from typing import Any

from datasets_scripts.registry import BUILDERS


__all__ = ["PrepareArguments"]

BUILDER_FIELDS = ("captions", "max_phrases", "num_train", "num_validation", "num_test")
ENGINES = ("processes", "ray")
ON_BAD_IMAGE = ("error", "skip_image", "skip_post")
# What does not change a byte of the result, or is known by its content (data_dir).
NOT_OPTIONS = ("output_dir", "data_dir", "num_proc", "engine", "ray_address", "push_to_hub", "private", "allow_leaky")


@dataclass
class PrepareArguments:
    """Where the posts come from, what is added to them, and where they go.

    Raises:
        ValueError: an unknown source or policy, a number out of range, options that are no JSON object.
    """

    source: str = field(metadata={"help": f"One of {', '.join(BUILDERS)}."})
    output_dir: str = field(metadata={"help": "The data set folder to write; made whole or not at all."})
    data_dir: str | None = field(default=None, metadata={"help": "The folder of the downloaded or one's own data."})
    config_name: str | None = field(
        default=None, metadata={"help": "Second argument of load_dataset(OUTPUT_DIR, ...); None: the source's name."}
    )
    captions: str | None = field(default=None, metadata={"help": "mnre: NAME of captions/NAME_train.txt and so on."})
    max_phrases: int | None = field(default=None, metadata={"help": "mnre: noun phrases taken from a caption."})
    num_train: int | None = field(default=None, metadata={"help": "postcards: posts to draw."})
    num_validation: int | None = None
    num_test: int | None = None

    only_with_images: bool = field(default=False, metadata={"help": "Leave out posts whose image is not there."})
    max_posts: int | None = field(default=None, metadata={"help": "Only the first posts of each split."})
    on_bad_image: str = field(
        default="error",
        metadata={
            "help": "Of a missing, corrupt or truncated image, or one with a box outside of it: error (names the "
            "file), skip_image (the post stays, without image) or skip_post; skips are listed in skipped.jsonl."
        },
    )
    max_side: int = field(
        default=2048, metadata={"help": "Larger images are shrunk to this side, in pixels, and their boxes too."}
    )
    embed_images: bool = field(default=True, metadata={"help": "Keep the images in the data set."})

    detector: str = field(
        default="none", metadata={"help": "none, or a detector such as torchvision:fasterrcnn_resnet50_fpn_v2."}
    )
    detector_options: str = field(default="{}", metadata={"help": "JSON object of further options of the detector."})
    redetect: bool = field(default=False, metadata={"help": "Detect where the source has boxes, and replace them."})
    max_objects: int = field(default=10, metadata={"help": "Detected objects kept an image, best scores first."})
    selector: str = field(
        default="heuristic", metadata={"help": "none, heuristic, openai:MODEL@URL or transformers:TEXT,VLM."}
    )
    selector_options: str = field(default="{}", metadata={"help": "JSON object of further options of the selector."})
    features: str | None = field(
        default=None, metadata={"help": "Visual encoder of image and objects, for example vgg16:imagenet; None: none."}
    )
    feature_options: str = field(default="{}", metadata={"help": "JSON object of further options of the encoder."})

    shard_size: int = field(default=1000, metadata={"help": "Posts of the source a Parquet file."})
    num_proc: int = field(default=1, metadata={"help": "Processes; each runs on one thread. Same bytes as 1."})
    engine: str = field(
        default="processes", metadata={"help": "processes, or ray: num_proc workers of a Ray cluster."}
    )
    ray_address: str | None = field(
        default=None, metadata={"help": "Of a running Ray cluster, such as auto; None: one is started here."}
    )
    figures: bool = field(default=True, metadata={"help": "Draw figures into the folder (needs matplotlib)."})
    license: str | None = field(default=None, metadata={"help": "Hub identifier of the licence; None: the source's."})
    push_to_hub: str | None = field(default=None, metadata={"help": "Repository to upload the finished folder to."})
    private: bool = field(default=False, metadata={"help": "Create that repository as a private one."})
    allow_leaky: bool = field(default=False, metadata={"help": "Upload even a set that is marked as leaky."})

    def __post_init__(self):
        if self.source not in BUILDERS:
            raise ValueError(f"source: expected one of {', '.join(BUILDERS)}, received {self.source!r}")
        if self.on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(
                f"on_bad_image: expected one of {', '.join(ON_BAD_IMAGE)}, received {self.on_bad_image!r}"
            )
        if self.engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, received {self.engine!r}")
        for name, least in (
            ("max_posts", 1),
            ("max_side", 32),
            ("max_objects", 1),
            ("shard_size", 1),
            ("num_proc", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected at least {least}, received {value}")
        for name in ("detector_options", "selector_options", "feature_options"):
            self.parsed(name)

    def parsed(self, name: str) -> dict[str, Any]:
        """The JSON object in one of the `*_options`."""
        try:
            value = json.loads(getattr(self, name))
        except json.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise ValueError(f"{name}: expected a JSON object, received {getattr(self, name)!r}")
        return value

    @property
    def config(self) -> str:
        return self.config_name or self.source

    def builder_fields(self) -> dict[str, Any]:
        """What the source's builder is built with; a field it does not have is an error there."""
        values = {name: getattr(self, name) for name in BUILDER_FIELDS if getattr(self, name) is not None}
        if self.source in ("jsonl", "more"):  # those whose builders look for each image themselves
            values["missing_images"] = "error" if self._wants_all_images() else "none"
        return values

    def options(self) -> dict[str, Any]:
        """Everything that the bytes of the result depend on, beside data, code and versions."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_OPTIONS}

    def command(self) -> str:
        """The command that makes this data set, with the user's folders left open."""
        words = ["python -m datasets_scripts.prepare"]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "data_dir" and value is not None:
                words.append("--data_dir DATA_DIR")
            elif f.name not in NOT_OPTIONS and value != f.default:
                words.append(f"--{f.name} {shlex.quote(str(value))}")
        return " ".join([*words, "--output_dir OUTPUT_DIR"])

    def _wants_all_images(self) -> bool:
        return self.on_bad_image == "error" and not self.only_with_images
