"""Configuration of VM-HAN: every number the model is built from, with the presets of the paper's Table 2."""

import difflib
import inspect
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .labels import NONE_LABELS, find_none_label


__all__ = ["PRESETS", "VMHANConfig"]

# Names under which data sets call "no relation"; the scorer looks for the same ones.

ENTITY_REPRESENTATIONS = ("marker", "span", "packed")
HYPEREDGES = ("global", "intra", "inter", "pairwise")
PLAIN_ENCODERS = ("hgnn", "gcn", "gat")  # without a variance path
HYPERGRAPH_ENCODERS = ("vhan", "none", "variational_gcn", *PLAIN_ENCODERS)
VISION_ENCODERS = (None, "vgg16", "vgg16_roi_align", "transformers")
# PixelTransform's, which checks their values when the processor is made
IMAGE_TRANSFORM_FIELDS = ("size", "crop_mode", "shortest_edge", "resample", "mean", "std")

# The 14 rows of Table 2 (MODEL.md), each as the fields it changes.
PRESETS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_hypergraph": {"hyperedges": ["pairwise"]},
    "no_variational": {"variational": False},
    "no_vhan": {"hypergraph_encoder": "none"},
    "no_kl": {"kl_loss_weight": 0.0},
    "no_text_llm": {"num_text_phrases": 0},
    "no_image_llm": {"num_image_phrases": 0},
    "no_global": {"hyperedges": ["intra", "inter"]},
    "no_intra": {"hyperedges": ["global", "inter"]},
    "no_inter": {"hyperedges": ["global", "intra"]},
    "hgnn": {"hypergraph_encoder": "hgnn", "variational": False},
    "variational_gcn": {"hypergraph_encoder": "variational_gcn"},
    "gcn": {"hypergraph_encoder": "gcn", "variational": False},
    "gat": {"hypergraph_encoder": "gat", "variational": False},
}

# Keys of config.json that transformers owns and that no PreTrainedConfig attribute reveals.
_TRANSFORMERS_KEYS = {
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "torch_dtype",
    "transformers_version",
    "use_cache",  # Trainer sets it
}


class VMHANConfig(PreTrainedConfig):
    """Configuration of `VMHANModel` and `VMHANForRelationClassification`.

    Args:
        text_config: configuration (or its dict) of any AutoModel text encoder. Default: bert-base-uncased's shape.
        entity_representation: what the text encoder hands to the head and tail nodes. "marker": markers in the
            sentence, one pass a pair, the opening marker's state. "span": no markers, one pass a sentence, the mean
            state of the mention. "packed": one pass a sentence, each pair's markers appended behind it (BERT and
            RoBERTa families only).
        visual_feature_size: V, size of the image and object features (VGG16 fc7: 4096). 0 builds a model without
            image and object nodes; image phrases, which are text, are not affected.
        vision_encoder: None when features are given. Otherwise a frozen encoder is part of the model, which then also
            takes `pixel_values`: "vgg16" (the paper's fc7, a pass over each region), "vgg16_roi_align" (a pass over
            the image, then RoIAlign; other features), or "transformers" (the pooled output of `vision_config`'s
            backbone).
        vision_config: configuration (or its dict) of an AutoModel vision backbone, for vision_encoder="transformers".
        image_transform: how the processor makes the encoder's pixels, a dict of `PixelTransform`'s fields; None is
            ImageNet's normalisation at the encoder's size. `from_text_encoder` takes it from the encoder's own
            image processor.
        num_objects: K, objects kept a pair (paper: 3). num_text_phrases: M. num_image_phrases: Q (neither printed in
            the paper).
        hidden_size: D of nodes and hyperedges; None takes the text encoder's.
        num_layers: V-HAN layers. A hyperedge read by the last layer has been updated num_layers - 1 times, so what
            one node says reaches another selectively only with 2 or more.
        num_heads: attention heads; must divide hidden_size.
        hyperedges: families of hyperedges, of "global", "intra", "inter" (the paper's three) and "pairwise".
        hypergraph_encoder: "vhan", or an ablation: "none", "hgnn", "gcn", "gat", "variational_gcn".
        variational: False: no variance path, no KL, the classifier sees the means only.
        variance_eps: lower bound of every node variance.
        classifier_dropout: dropout before the classifier (paper: 0.6).
        relation_loss_weight, reconstruction_loss_weight, kl_loss_weight: lambdas of equation 12. The paper prints
            none of them and finds them on the validation split.
        calibration_temperature: class probabilities are softmax(logits / calibration_temperature). Fitted on the
            validation split after training (`uncertainty.fit_temperature`); logits and losses are without it, and 1
            changes nothing. (Not `temperature`: transformers refuses to save that name, a parameter of generation.)
        none_label: name of the "no relation" label; None finds it among `NONE_LABELS`.
        initializer_range: standard deviation of the new layers' initial weights.
        **kwargs: what every PreTrainedConfig takes (`id2label`, `label2id`, `num_labels`, ...).

    Raises:
        ValueError: a field breaks its rule (the message names field, rule and value), or a keyword is unknown (the
            message suggests the nearest name).

    Example:
        >>> config = VMHANConfig.from_preset("no_kl", id2label={0: "None", 1: "/per/per/peer"})
        >>> config.kl_loss_weight, config.none_label
        (0.0, 'None')
    """

    model_type = "vmhan"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}
    keys_to_ignore_at_inference = [
        "relation_loss",
        "reconstruction_loss",
        "kl_loss",
        "node_mean",
        "node_variance",
        "edge_mean",
        "edge_variance",
        "attentions",
        "incidence",
        "node_mask",
    ]

    def __init__(
        self,
        # text
        text_config: PreTrainedConfig | dict | None = None,
        entity_representation: str = "marker",
        # vision
        visual_feature_size: int = 4096,
        vision_encoder: str | None = None,
        vision_config: PreTrainedConfig | dict | None = None,
        image_transform: dict | None = None,
        # nodes
        num_objects: int = 3,
        num_text_phrases: int = 3,
        num_image_phrases: int = 3,
        # hypergraph
        hidden_size: int | None = None,
        num_layers: int = 2,
        num_heads: int = 4,
        hyperedges: list[str] | tuple[str, ...] = ("global", "intra", "inter"),
        hypergraph_encoder: str = "vhan",
        variational: bool = True,
        variance_eps: float = 1e-6,
        # classifier and losses
        classifier_dropout: float = 0.6,
        relation_loss_weight: float = 1.0,
        reconstruction_loss_weight: float = 0.1,
        kl_loss_weight: float = 0.01,
        # calibration
        calibration_temperature: float = 1.0,
        # labels
        none_label: str | None = None,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        _reject_unknown(kwargs, type(self))
        self.text_config = text_config = _as_config("text_config", {} if text_config is None else text_config)
        self.entity_representation = entity_representation
        self.visual_feature_size = visual_feature_size
        self.vision_encoder = vision_encoder
        self.vision_config = None if vision_config is None else _as_config("vision_config", vision_config)
        self.image_transform = image_transform
        self.num_objects = num_objects
        self.num_text_phrases = num_text_phrases
        self.num_image_phrases = num_image_phrases
        self.hidden_size = text_config.hidden_size if hidden_size is None else hidden_size
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hyperedges = list(hyperedges) if isinstance(hyperedges, (list, tuple)) else hyperedges
        self.hypergraph_encoder = hypergraph_encoder
        self.variational = variational
        self.variance_eps = variance_eps
        self.classifier_dropout = classifier_dropout
        self.relation_loss_weight = relation_loss_weight
        self.reconstruction_loss_weight = reconstruction_loss_weight
        self.kl_loss_weight = kl_loss_weight
        self.calibration_temperature = calibration_temperature
        self.initializer_range = initializer_range
        super().__init__(**_complete_labels(kwargs, none_label))
        self.none_label = find_none_label(self.id2label.values(), none_label)
        if "custom_pipelines" in kwargs:
            self.custom_pipelines = _CustomPipelines(kwargs["custom_pipelines"])
        self._check()

    @classmethod
    def from_preset(cls, preset: str, **fields) -> "VMHANConfig":
        """A row of Table 2: `fields`, with the preset's changes on top (they win where both name a field).

        Raises:
            ValueError: `preset` is not one of `PRESETS`.
        """
        if not isinstance(preset, str) or preset not in PRESETS:
            near = _suggest(str(preset), PRESETS)
            raise ValueError(f"preset must be one of {list(PRESETS)}, received {preset!r}.{near}")
        return cls(**{**fields, **PRESETS[preset]})

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As in transformers, but keywords that are fields go through the constructor, and so through its checks.

        A dict for a sub-configuration changes the saved one, as in transformers. New labels replace `id2label`,
        `label2id` and `none_label` together.

        Raises:
            ValueError: as the constructor.
        """
        saved, own = dict(config_dict), _own_fields(cls) | {"id2label", "label2id"}
        given = {name: kwargs.pop(name) for name in own & kwargs.keys()}
        if given.get("id2label") is not None or given.get("label2id") is not None:
            for name in ("id2label", "label2id", "num_labels", "none_label"):
                saved.pop(name, None)
        for name in given.keys() & cls.sub_configs.keys():
            if isinstance(given[name], dict) and isinstance(saved.get(name), dict):
                given[name] = {**saved[name], **given[name]}
        return super().from_dict({**saved, **given}, **kwargs)

    def _check(self) -> None:
        """Every field against its rule."""
        _check_choice("entity_representation", self.entity_representation, ENTITY_REPRESENTATIONS)
        _check_choice("hypergraph_encoder", self.hypergraph_encoder, HYPERGRAPH_ENCODERS)
        _check_choice("vision_encoder", self.vision_encoder, VISION_ENCODERS)
        _check_image_transform(self.image_transform)
        for name in ("visual_feature_size", "num_objects", "num_text_phrases", "num_image_phrases"):
            setattr(self, name, _check_number(name, getattr(self, name), whole=True, low=0))
        for name in ("hidden_size", "num_layers", "num_heads"):
            setattr(self, name, _check_number(name, getattr(self, name), whole=True, low=1))
        for name in ("relation_loss_weight", "reconstruction_loss_weight", "kl_loss_weight"):
            setattr(self, name, _check_number(name, getattr(self, name), low=0))
        for name in ("variance_eps", "calibration_temperature", "initializer_range"):
            setattr(self, name, _check_number(name, getattr(self, name), low=0, low_allowed=False))
        self.classifier_dropout = _check_number("classifier_dropout", self.classifier_dropout, low=0, below=1)
        if not isinstance(self.variational, bool):
            raise ValueError(f"variational must be True or False, received {self.variational!r}.")
        families = self.hyperedges
        if not isinstance(families, list) or not families or max(map(families.count, families)) > 1:
            raise ValueError(f"hyperedges must be a list of at least one family, each once, received {families!r}.")
        for family in families:
            _check_choice("hyperedges", family, HYPEREDGES)
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Rules that need two fields."""
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads must divide hidden_size, received num_heads={self.num_heads} and "
                f"hidden_size={self.hidden_size}."
            )
        if self.vision_encoder in ("vgg16", "vgg16_roi_align") and self.visual_feature_size != 4096:
            raise ValueError(
                f"vision_encoder={self.vision_encoder!r} gives features of size 4096, received "
                f"visual_feature_size={self.visual_feature_size}. Set it to 4096."
            )
        if (self.vision_encoder == "transformers") != (self.vision_config is not None):
            received = None if self.vision_config is None else type(self.vision_config).__name__
            raise ValueError(
                "vision_config goes with vision_encoder='transformers', and only with it, received "
                f"vision_encoder={self.vision_encoder!r} and vision_config={received}. Get one by "
                "AutoConfig.from_pretrained(...), or build the model with from_text_encoder(vision_weights=...)."
            )
        if self.hypergraph_encoder in PLAIN_ENCODERS and self.variational:
            raise ValueError(
                f"hypergraph_encoder={self.hypergraph_encoder!r} has no variance path: set variational=False, or use "
                f"VMHANConfig.from_preset({self.hypergraph_encoder!r})."
            )
        if self.hypergraph_encoder == "variational_gcn" and not self.variational:
            raise ValueError("hypergraph_encoder='variational_gcn' needs variational=True, received False.")

    @property
    def labels(self) -> list[str]:
        """Relation names in the order of their ids."""
        return [self.id2label[i] for i in range(len(self.id2label))]


class _CustomPipelines(dict):
    """Pipelines whose code the folder carries: task -> where the class is. A task that is registered is not `in` it.

    `pipeline()` reads the task off the keys, then asks `task in` to choose between the folder's class, which needs
    trust_remote_code, and the registry's. So an installed package wins here as it does for the Auto classes.
    """

    def __contains__(self, task: object) -> bool:
        from transformers.pipelines import PIPELINE_REGISTRY  # late: it loads torch, which a config does without

        return super().__contains__(task) and task not in PIPELINE_REGISTRY.supported_tasks


def _as_config(name: str, config: PreTrainedConfig | dict) -> PreTrainedConfig:
    """A sub-configuration from itself or its dict; a text encoder's dict may lack its model_type, which is BERT's."""
    if isinstance(config, PreTrainedConfig):
        return config
    if not isinstance(config, dict) or (name != "text_config" and "model_type" not in config):
        raise ValueError(
            f"{name} must be a configuration or its dict (with its model_type), received {config!r}. For a pretrained "
            "encoder use AutoConfig.from_pretrained(...), or the model's from_text_encoder(...)."
        )
    fields = dict(config)
    return AutoConfig.for_model(fields.pop("model_type", "bert"), **fields)


def _own_fields(cls: type) -> set[str]:
    return set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}


def _reject_unknown(kwargs: dict[str, Any], cls: type) -> None:
    own = _own_fields(cls)
    known = own | set(vars(PreTrainedConfig())) | _TRANSFORMERS_KEYS
    for key in kwargs:
        if key not in known and not key.startswith("_"):
            raise ValueError(
                f"{cls.__name__} has no field {key!r} (received {kwargs[key]!r}).{_suggest(key, known)} "
                f"Its own fields are {sorted(own)}."
            )


def _suggest(name: str, known) -> str:
    names = sorted(key for key in known if not key.startswith("_"))
    near = difflib.get_close_matches(name, names, n=1) or [key for key in names if name in key]
    return f" Did you mean {near[0]!r}?" if near else ""


def _complete_labels(kwargs: dict[str, Any], none_label: str | None) -> dict[str, Any]:
    """`kwargs` with `id2label` and `label2id` both set; without labels, none and placeholders up to `num_labels`."""
    kwargs = dict(kwargs)
    count = kwargs.pop("num_labels", None)
    if count is not None:
        count = _check_number("num_labels", count, whole=True, low=1)
    id2label, label2id = kwargs.get("id2label"), kwargs.get("label2id")
    for name, given in (("id2label", id2label), ("label2id", label2id)):
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{name} must be a dict like dict(enumerate(names)) or its inverse, received {given!r}.")
    if id2label is None and label2id is None:
        names = [none_label or NONE_LABELS[0], *(f"LABEL_{i}" for i in range(1, count or 2))]
        id2label = dict(enumerate(names))
    elif id2label is None:
        id2label = {str(i): name for name, i in label2id.items()}
    id2label = _labels_by_id(id2label)
    if count is not None and count != len(id2label):
        raise ValueError(f"num_labels must equal the number of labels ({len(id2label)}), received {count}.")
    expected = {name: i for i, name in id2label.items()}
    if label2id is not None and label2id != expected:
        raise ValueError(f"label2id must be the inverse of id2label ({expected}), received {label2id}.")
    return {**kwargs, "id2label": id2label, "label2id": expected}


def _labels_by_id(id2label: Mapping[Any, Any]) -> dict[int, str]:
    """With numbers as keys; JSON's are strings."""
    ids, names = [str(i) for i in id2label], list(id2label.values())
    valid = sorted(ids) == sorted(map(str, range(len(ids)))) and all(isinstance(name, str) for name in names)
    if not valid or len(set(names)) != len(names):
        raise ValueError(f"id2label must map 0..{len(ids) - 1} to distinct names, received {id2label}.")
    return {int(i): name for i, name in zip(ids, names, strict=True)}


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, received {value!r}.")


def _check_image_transform(value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"image_transform must be a dict of PixelTransform's fields or None, received {value!r}.")
    unknown = sorted(map(str, set(value or ()) - set(IMAGE_TRANSFORM_FIELDS)))
    if unknown:
        known = list(IMAGE_TRANSFORM_FIELDS)
        raise ValueError(f"image_transform has unknown fields {unknown}: it may have {known}, received {value!r}.")


def _check_number(
    name: str, value: Any, *, low: float, whole: bool = False, below: float = math.inf, low_allowed: bool = True
) -> int | float:
    """`value` as a number of Python, which JSON can hold: numpy's are accepted too."""
    valid = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    valid = valid and (value >= low if low_allowed else value > low) and value < below
    if not valid:
        rule = f"{'a whole number' if whole else 'a number'} {'>=' if low_allowed else '>'} {low}"
        rule += f" and < {below}" if below < math.inf else "" if whole else " and finite"
        raise ValueError(f"{name} must be {rule}, received {value!r}.")
    return int(value) if isinstance(value, Integral) else float(value)
