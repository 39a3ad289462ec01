"""The flags of `vmhan prepare`, in the groups that its --help shows."""

import json
import shlex
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from datasets_scripts.paths import check_name
from datasets_scripts.registry import BUILDERS
from model_cards.secrets import without_secrets
from modeling_vmhan.needs import Need, unmet


__all__ = ["ARGUMENT_GROUPS", "PrepareArguments"]

BUILDER_FIELDS = ("captions", "max_phrases", "num_train", "num_validation", "num_test")
BUILDER_FIELDS += ("order_blind", "symmetric_relations")
LEAST = {"max_posts": 1, "max_side": 32, "max_pixels": 1, "max_objects": 1, "shard_size": 1, "num_proc": 1}
NAMES = ("config_name", "captions")  # that become parts of paths
# These flags do not change the data set, or (data_dir) what they name is known by its content.
NOT_OPTIONS = ("output_dir", "data_dir", "num_proc", "engine", "ray_address", "push_to_hub", "private", "allow_leaky")
NOT_OPTIONS += ("dry_run",)

NEEDS = (  # of flags, which change nothing without
    Need("feature_options", "features", "ENCODER"),
    Need("detector_options", "detector", "ADAPTER:MODEL", lambda name: name != "none"),
    Need("max_objects", "detector", "ADAPTER:MODEL", lambda name: name != "none"),
    Need("selector_options", "selector", "NAME", lambda name: name != "none"),
    Need("ray_address", "engine", "ray", ("ray",).__contains__),
    Need("private", "push_to_hub", "USER/NAME"),
    Need("allow_leaky", "push_to_hub", "USER/NAME"),
)


def _flag(help: str, default: Any = MISSING, choices: list[str] | None = None) -> Any:
    return field(default=default, metadata={"help": help} | ({"choices": choices} if choices else {}))


@dataclass(kw_only=True)
class SourceArguments:
    _argument_group_name = "where the posts come from"
    source: str = _flag("The kind of data that is read.", choices=list(BUILDERS))
    data_dir: str | None = _flag("The folder with the downloaded data, or with your own.", None)
    captions: str | None = _flag("mnre: the captions to read, NAME of captions/NAME_train.txt.", None)
    max_phrases: int | None = _flag("mnre: how many noun phrases are taken from a caption.", None)
    order_blind: bool | None = _flag(
        "jsonl: put each pair in text order, and let its label say which way the relation points.", None
    )
    symmetric_relations: list[str] | None = _flag("jsonl, with --order_blind: relations that point both ways.", None)
    num_train: int | None = _flag("postcards: how many training posts are drawn.", None)
    num_validation: int | None = _flag("postcards: how many validation posts are drawn.", None)
    num_test: int | None = _flag("postcards: how many test posts are drawn.", None)
    max_posts: int | None = _flag("Keep only the first posts of each split, so many.", None)


@dataclass(kw_only=True)
class ImageArguments:
    _argument_group_name = "what becomes of the images"
    on_bad_image: str = _flag(
        "What to do about an image that is missing, corrupt or truncated, or has a box outside of it: stop with an "
        "error that names the file, keep the post without image, or leave the post out. skipped.jsonl lists both.",
        "error",
        ["error", "skip_image", "skip_post"],
    )
    max_side: int = _flag("Larger images are shrunk to this longest side, in pixels, and their boxes with them.", 2048)
    max_pixels: int = _flag(
        "An image of more pixels, width times height, is a bad one. A JPEG may have more, as it is shrunk when read.",
        1 << 26,
    )
    embed_images: bool = _flag("Keep the images in the data set.", True)


@dataclass(kw_only=True)
class ToolArguments:
    _argument_group_name = "objects, nodes and visual features"
    detector: str = _flag("The object detector, for example torchvision:fasterrcnn_resnet50_fpn_v2, or none.", "none")
    detector_options: str = _flag("Further options of the detector, as a JSON object.", "{}")
    max_objects: int = _flag("How many detected objects of an image are kept, those with the best scores.", 10)
    selector: str = _flag(
        "What selects the nodes of each pair: heuristic, spacy:PIPELINE, openai:TEXT_MODEL@URL,VLM@URL, "
        "transformers:TEXT_MODEL,VLM or none.",
        "heuristic",
    )
    selector_options: str = _flag("Further options of the selector, as a JSON object.", "{}")
    features: str | None = _flag(
        "The visual encoder of images and objects, for example vgg16:imagenet. Without it there are no features.", None
    )
    feature_options: str = _flag("Further options of the encoder, as a JSON object.", "{}")
    depth: str | None = _flag(
        "The model for depth estimation, a Hub name or folder, that gives each object a depth map, for moreformer.",
        None,
    )


@dataclass(kw_only=True)
class RunArguments:
    _argument_group_name = "how the work is shared out"
    num_proc: int = _flag("How many processes share the work.", 1)
    engine: str = _flag(
        "Where the processes run: on this machine, or as workers of a Ray cluster.", "processes", ["processes", "ray"]
    )
    dry_run: bool = _flag("Only tell what there is to compute and to ask, with minutes; write and ask nothing.", False)
    ray_address: str | None = _flag("The running Ray cluster, such as auto. Without it one is started here.", None)


@dataclass(kw_only=True)
class OutputArguments:
    _argument_group_name = "where the data set goes"
    output_dir: str = _flag("The folder of the data set, which appears when everything in it is there.")
    config_name: str | None = _flag(
        "The configuration NAME in load_dataset(OUTPUT_DIR, NAME). Without it: the source's name.", None
    )
    shard_size: int = _flag("How many posts of the source go into one Parquet file.", 1000)
    figures: bool = _flag("Draw figures into the folder, which needs matplotlib.", True)
    license: str | None = _flag("The licence, as the Hub names it. Without it: the source's.", None)
    push_to_hub: str | None = _flag("The repository on the Hub to which the finished folder is uploaded.", None)
    private: bool = _flag("Make that repository a private one.", False)
    allow_leaky: bool = _flag("Upload even a data set that is marked as giving its labels away.", False)


ARGUMENT_GROUPS = (SourceArguments, ImageArguments, ToolArguments, RunArguments, OutputArguments)


@dataclass(kw_only=True)
class PrepareArguments(OutputArguments, RunArguments, ToolArguments, ImageArguments, SourceArguments):
    """All flags of `vmhan prepare`. A ValueError names an unknown choice, a number out of range or bad JSON."""

    def __post_init__(self):
        for f in fields(self):
            choices, value, least = f.metadata.get("choices"), getattr(self, f.name), LEAST.get(f.name)
            if choices and value not in choices:
                raise ValueError(f"{f.name}: expected one of {', '.join(choices)}, received {value!r}")
            if least is not None and value is not None and value < least:
                raise ValueError(f"{f.name}: expected at least {least}, received {value}")
            if f.name in NAMES and value is not None:
                check_name(f.name, value)
            if f.name.endswith("_options"):
                self.parsed(f.name)
        given = {f.name for f in fields(self) if getattr(self, f.name) != f.default}
        for message in unmet(NEEDS, vars(self), given):
            raise ValueError(message)

    def parsed(self, name: str) -> dict[str, Any]:
        """Return the JSON object in one of the `*_options`."""
        try:
            value = json.loads(getattr(self, name))
        except json.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise ValueError(f"{name}: expected a JSON object, received {without_secrets(getattr(self, name))!r}")
        return value

    def detector_settings(self) -> dict[str, Any]:
        """Return the options of the detector, beside those in its name."""
        options = self.parsed("detector_options")
        is_named = "max_objects=" in self.detector.partition("?")[2]
        return options if is_named else {"max_objects": self.max_objects, **options}

    @property
    def config(self) -> str:
        return self.config_name or self.source

    def builder_fields(self) -> dict[str, Any]:
        """Return what the source's builder is built with; it refuses a field that it does not have."""
        values = {name: getattr(self, name) for name in BUILDER_FIELDS if getattr(self, name) is not None}
        if self.source in ("jsonl", "more"):  # their builders look for each image themselves
            values["missing_images"] = "error" if self.on_bad_image == "error" else "none"
        return values

    def options(self) -> dict[str, Any]:
        """Return everything that the data set depends on, beside data, code and versions."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_OPTIONS}

    def command(self) -> str:
        """Return the command that makes this data set, with the user's folders left open."""
        words = ["vmhan prepare"]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "data_dir" and value is not None:
                words.append("--data_dir DATA_DIR")
            elif f.name not in NOT_OPTIONS and value != f.default:
                values = value if isinstance(value, list) else [str(value)]
                words.append(f"--{f.name} {shlex.join(values)}")
        return " ".join([*words, "--output_dir OUTPUT_DIR"])
