"""Every flag of run_mmre.py, in three groups, and how a YAML file and the command line make them."""

import logging
from dataclasses import dataclass, field, fields
from typing import Any

from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from datasets_scripts.commands import parse_dataclasses
from datasets_scripts.registry import BUILDERS
from vmhan.baselines import BASELINES, Baseline, get_baseline
from vmhan.configs import find_config
from vmhan.training.flags import flags_of, read_entries
from vmhan.training.text_encoders import OFFLINE_ENCODER


__all__ = ["DataArguments", "ModelArguments", "RunArguments", "parse_arguments"]

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """The model. Fields left at None keep VMHANConfig's value or the preset's.

    Raises:
        ValueError: an unknown model; a preset of VM-HAN, or word vectors, with a model that has none.
    """

    model: str = field(default="vmhan", metadata={"help": f"vmhan, or a baseline: {', '.join(BASELINES)}."})
    trained_model: str | None = field(
        default=None,
        metadata={
            "help": "Folder of a finished run to evaluate, with --do_train false and another --output_dir; what the "
            "model is comes from there."
        },
    )
    text_encoder: str = field(
        default="bert-base-uncased",
        metadata={
            "help": f"Hub name or folder of the text encoder; {OFFLINE_ENCODER!r}: the PyPI package that has it."
        },
    )
    word_vectors: str | None = field(
        default=None, metadata={"help": "cnn, pcnn: text file of pretrained word vectors, as GloVe's; None: learned."}
    )
    text_encoder_layers: int | None = field(
        default=None, metadata={"help": "Keep only the text encoder's first layers; None: all."}
    )
    preset: str = field(default="full", metadata={"help": "A row of the paper's Table 2."})
    entity_representation: str | None = field(default=None, metadata={"help": "marker, span or packed."})
    num_objects: int | None = None
    num_text_phrases: int | None = None
    num_image_phrases: int | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    num_heads: int | None = None
    variational: bool | None = None
    classifier_dropout: float | None = None
    variance_eps: float | None = None
    relation_loss_weight: float | None = None
    reconstruction_loss_weight: float | None = None
    kl_loss_weight: float | None = None
    max_length: int = field(default=128, metadata={"help": "Tokens of a row."})
    max_image_text_length: int = field(default=64, metadata={"help": "Tokens of it that the image's text may take."})
    vision_in_model: bool = field(
        default=False,
        metadata={"help": "Save the vision encoder that made the features with the model, which then takes images."},
    )

    pyramid: str = field(
        default="resnet50:imagenet",
        metadata={"help": "hvpnet: ResNet and its weights, such as resnet50:imagenet or resnet18:random:0."},
    )
    pyramid_size_px: int = field(default=224, metadata={"help": "hvpnet: side of the crops its ResNet sees."})

    def __post_init__(self):
        """Checks --model; a baseline that is a row of Table 2 sets the preset."""
        if self.word_vectors is not None and (self.baseline is None or not self.baseline.reads_words):
            raise ValueError(
                f"--word_vectors goes with a model that reads words ('cnn', 'pcnn'), received --model {self.model}."
            )
        if self.model == "vmhan":
            return
        baseline = get_baseline(self.model)
        if self.preset not in ("full", baseline.preset):
            raise ValueError(
                f"--preset is a row of VM-HAN's Table 2 and goes with --model vmhan, received --model {self.model} "
                f"--preset {self.preset}. Leave out one of them."
            )
        self.preset = baseline.preset or self.preset

    @property
    def baseline(self) -> Baseline | None:
        """The baseline that is trained; None for VM-HAN, its presets included."""
        baseline = None if self.model == "vmhan" else get_baseline(self.model)
        return None if baseline is None or baseline.preset else baseline

    @property
    def reads_pixels(self) -> bool:
        """Whether the model takes images as such and has no use for the features of the posts."""
        return self.baseline is not None and "pixels" in self.baseline.inputs

    @property
    def reads_features(self) -> bool:
        """Whether the model has a use for visual features."""
        return not self.reads_pixels and (
            self.baseline is None or bool({"image", "objects"} & set(self.baseline.inputs))
        )

    def config_fields(self) -> dict[str, Any]:
        """The fields that are set and that VMHANConfig has."""
        own = {
            "model",
            "trained_model",
            "word_vectors",
            "text_encoder",
            "text_encoder_layers",
            "preset",
            "max_length",
            "max_image_text_length",
            "vision_in_model",
            "pyramid",
            "pyramid_size_px",
        }
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        return {name: value for name, value in values.items() if value is not None}


@dataclass
class DataArguments:
    """The posts to learn from."""

    dataset: str = field(
        default="mnre",
        metadata={"help": f"{', '.join(BUILDERS)}, or a folder or Hub name of posts for load_dataset."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Second argument of load_dataset."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the train split of a folder or Hub name while training, for --max_steps, instead of storing "
            "it first. Several processes evaluate and save by --eval_strategy steps: they may end an epoch apart."
        },
    )
    shuffle_buffer: int = field(
        default=1000, metadata={"help": "--streaming: posts of which the next one is drawn at random; 0: in order."}
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder of the downloaded data (mnre, more) or of one's own (jsonl)."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where built data sets are kept."})
    captions: str | None = field(default=None, metadata={"help": "mnre: NAME of captions/NAME_train.txt and so on."})
    max_phrases: int | None = field(default=None, metadata={"help": "mnre: noun phrases taken from a caption."})
    images: bool | None = field(default=None, metadata={"help": "mnre: need (true) or leave out (false) the images."})
    phrase_text: bool | None = field(
        default=None, metadata={"help": "mnre_published_objects: read phrase_text_*.json, which leaks, as well."}
    )
    features: str | None = field(
        default=None,
        metadata={
            "help": "What makes visual features: ENCODER:WEIGHTS, such as vgg16:imagenet (or just imagenet), "
            "vgg16:random:SEED (or random:SEED), vgg16_roi_align:imagenet, transformers:NAME_OR_FOLDER."
        },
    )
    feature_size_px: int | None = field(
        default=None, metadata={"help": "Side of the crops the encoder sees; its own (VGG16: 224) when left out."}
    )
    num_train: int | None = field(default=None, metadata={"help": "postcards: posts to draw."})
    num_validation: int | None = None
    num_test: int | None = None
    no_visual: bool = field(
        default=False, metadata={"help": "Drop everything about the image: the text-only baseline."}
    )
    visual_share: float | None = field(
        default=None,
        metadata={"help": "Keep only this share, 0 to 1, of each post's visual nodes, in every split (Figure 5)."},
    )
    max_samples: int | None = field(default=None, metadata={"help": "Use only the first posts of each split."})

    def __post_init__(self):
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"--max_samples must be at least 1, received {self.max_samples}; left out: every post.")

    def builder_fields(self) -> dict[str, Any]:
        """What the chosen builder is built with; a field it does not have is an error there."""
        names = ("captions", "max_phrases", "images", "phrase_text", "num_train", "num_validation", "num_test")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class RunArguments(TrainingArguments):
    """transformers.TrainingArguments and what this script adds."""

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of everything but the text encoder; None: the same."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better validation F1."}
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Instead of --per_device_train_batch_size posts, as many of like lengths as have so many encoder "
            "tokens, padding included. The loss is a mean over a batch's pairs, so that a pair among few weighs more. "
            "One process evaluates so, too, in the data's order; several by --per_device_eval_batch_size."
        },
    )
    hyperparameter_search: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of fields and the values to try: search on the validation split instead of one run; "
            "best.yaml is then a config with the best ones."
        },
    )
    n_trials: int = field(default=5, metadata={"help": "Trials of --hyperparameter_search; the paper has five."})
    show_example: bool = field(default=False, metadata={"help": "Predict one test post with the saved folder."})
    hub_license: str = field(default="apache-2.0", metadata={"help": "Licence of the weights, for the card."})
    hub_predictions: bool = field(
        default=False, metadata={"help": "Publish predictions.jsonl, too: it quotes the entities of the data."}
    )

    def __post_init__(self):
        """Takes --push_to_hub away from Trainer, which would create the repository first and push checkpoints.

        Raises:
            ValueError: --hub_strategy or --hub_revision asks for what is not done here; no token a batch; no
                patience; label smoothing.
        """
        super().__post_init__()
        if self.label_smoothing_factor:
            raise ValueError(
                f"--label_smoothing_factor must be 0, received {self.label_smoothing_factor}: Trainer's smoothed loss "
                "would take the place of equation 12, without its reconstruction and KL terms."
            )
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ValueError(
                f"--early_stopping_patience must be at least 1 evaluation, received {self.early_stopping_patience}; "
                "left out: no early stopping."
            )
        if not self.do_train:
            self.evaluate_at_the_end_only()
        if self.n_gpu > 1:
            logger.warning("one of %d GPUs is used: start with `accelerate launch` to use all", self.n_gpu)
            self._n_gpu = 1  # DataParallel would cut a batch, whose pairs point into the whole of it
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise ValueError(
                f"--tokens_per_batch must be a positive number of tokens, received {self.tokens_per_batch}: 2048 are "
                "about 16 rows of 128."
            )
        if self.accelerator_config.dispatch_batches is None:
            self.accelerator_config.dispatch_batches = False  # a batch has rows of posts and of pairs: no slicing it
        self.publish, self.push_to_hub = self.push_to_hub, False
        if self.publish and (self.hub_revision or "checkpoint" in self.hub_strategy.value):
            raise ValueError(
                "--push_to_hub publishes once, at the end, to the main branch: expected no --hub_revision and the "
                f"--hub_strategy every_save or end, received {self.hub_revision!r} and {self.hub_strategy.value!r}."
            )

    def evaluate_at_the_end_only(self) -> None:
        """No epoch is selected, the last one counts, and there need be no validation split."""
        self.eval_strategy, self.eval_on_start = IntervalStrategy.NO, False
        self.load_best_model_at_end, self.early_stopping_patience = False, None


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, RunArguments]:
    """The YAML file's entries become flags in front of the given ones, so that the last one wins.

    Raises:
        ValueError: the file is not a mapping, a key or flag is unknown, --push_to_hub is asked for a baseline, or
            --trained_model with what does not go with it.
    """
    flags: list[str] = []
    if argv and not argv[0].startswith("-"):
        flags, argv = flags_of(read_entries(find_config(argv[0]))), argv[1:]
    parser = HfArgumentParser((ModelArguments, DataArguments, RunArguments), allow_abbrev=False)
    groups = parse_dataclasses(parser, [*flags, *argv])
    model_args, _, run_args = groups
    if model_args.baseline is not None and run_args.publish:
        raise ValueError(
            f"--push_to_hub publishes VM-HAN, whose folder carries its code, received --model {model_args.model}: "
            "leave --push_to_hub out for a baseline."
        )
    if model_args.trained_model is not None and (run_args.do_train or run_args.publish):
        raise ValueError(
            f"--trained_model {model_args.trained_model} is evaluated: expected --do_train false and no --push_to_hub "
            "(vmhan publish publishes a finished folder)."
        )
    return groups
