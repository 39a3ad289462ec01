"""Configuration of VM-HAN: every number the model is built from, with the presets of the paper's Table 2."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .argument_types import read_constraints, read_relations, read_types, types_in
from .hypergraph import HYPEREDGE_FAMILIES
from .labels import NONE_LABELS, check_choice, check_number, find_none_label
from .precision import read_precision_tables
from .words import close_matches


__all__ = ["PRESETS", "VMHANConfig"]

ENTITY_REPRESENTATIONS = ("marker", "span", "packed")
PLAIN_ENCODERS = ("hgnn", "gcn", "gat")  # without a variance path
NO_PROPAGATION = ("mean", "none")
HYPERGRAPH_ENCODERS = ("vhan", *NO_PROPAGATION, "variational_gcn", *PLAIN_ENCODERS)
SAFE_ENCODERS = ("vhan", *NO_PROPAGATION)  # which can begin as if they were not there
IMAGE_TEXT_VISIBILITIES = ("joint", "isolated")
HYPERGRAPH_SCOPES = ("pair", "post")
HYPEREDGE_STARTS = ("members", "entities")
VISION_ENCODERS = (None, "vgg16", "vgg16_roi_align", "transformers")

# Which fields choose among names, and which rule each number follows (see `check_number`).
CHOICES = {
    "entity_representation": ENTITY_REPRESENTATIONS,
    "image_text_visibility": IMAGE_TEXT_VISIBILITIES,
    "hypergraph_encoder": HYPERGRAPH_ENCODERS,
    "hypergraph_scope": HYPERGRAPH_SCOPES,
    "hyperedge_start": HYPEREDGE_STARTS,
    "vision_encoder": VISION_ENCODERS,
    "variational": (True, False),
    "order_blind": (True, False),
    "mentions": (True, False),
    "safe_start": (True, False),
    "sample_nodes": (True, False),
}
COUNTS = ("visual_feature_size", "num_objects", "num_text_phrases", "num_image_phrases")
LOSS_WEIGHTS = [f"{of}_loss_weight" for of in ("relation", "reconstruction", "kl", "mention", "type")]
NUMBERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(COUNTS, {"whole": True, "low": 0}),
    **dict.fromkeys(("hidden_size", "num_layers", "num_heads"), {"whole": True, "low": 1}),
    **dict.fromkeys(LOSS_WEIGHTS, {"low": 0}),
    **dict.fromkeys(
        ("variance_eps", "calibration_temperature", "initializer_range"), {"low": 0, "low_allowed": False}
    ),
    **dict.fromkeys(("classifier_dropout", "none_smoothing"), {"low": 0, "below": 1}),
    "none_bias": {"low": -math.inf, "low_allowed": False},
}

_MEMBERS = {"hyperedge_start": "members"}  # where no hyperedge has a state
_CLIQUES: dict[str, Any] = {"hyperedges": ["intra", "inter"]}  # without the global one, whose clique joins all
_CLIQUES |= {**_MEMBERS, "safe_start": False}  # layers without a residual connection
_ENTITIES: dict[str, Any] = {"hypergraph_encoder": "none", "variational": False, "visual_feature_size": 0, **_MEMBERS}
_ENTITIES |= {"num_objects": 0, "num_text_phrases": 0, "hypergraph_scope": "pair"}

# The 14 rows of the paper's Table 2, each as the fields it changes, and two baselines that read head and tail alone.
PRESETS: dict[str, dict[str, Any]] = {
    "full": {},
    "no_hypergraph": {"hyperedges": ["pairwise"], "hypergraph_scope": "pair"},
    "no_variational": {"variational": False},
    "no_vhan": {"hypergraph_encoder": "mean", "hypergraph_scope": "pair", **_MEMBERS},
    "no_kl": {"kl_loss_weight": 0.0},
    "no_text_llm": {"num_text_phrases": 0},
    "no_image_llm": {"num_image_phrases": 0},
    "no_global": {"hyperedges": ["intra", "inter"]},
    "no_intra": {"hyperedges": ["global", "inter"]},
    "no_inter": {"hyperedges": ["global", "intra"]},
    "hgnn": {"hypergraph_encoder": "hgnn", "variational": False, **_CLIQUES},
    "variational_gcn": {"hypergraph_encoder": "variational_gcn", **_CLIQUES},
    "gcn": {"hypergraph_encoder": "gcn", "variational": False, **_CLIQUES},
    "gat": {"hypergraph_encoder": "gat", "variational": False, **_CLIQUES},
    "text_only": {**_ENTITIES, "num_image_phrases": 0},
    "caption_appended": _ENTITIES,  # the text encoder reads the image phrases after the sentence
}

# Keys of config.json that transformers owns and that no PreTrainedConfig attribute reveals; Trainer sets use_cache.
_TRANSFORMERS_KEYS = set(
    "attn_implementation auto_map custom_pipelines experts_implementation model_type name_or_path num_labels "
    "output_attentions torch_dtype transformers_version use_cache".split()
)


REFERENCE = {"name", "revision", "sha256"}  # keys of `vision_weights`
OF_LABELS = ("calibration_temperature", "none_bias", "precision_table", "type_constraints", "functional_relations")


class VMHANConfig(PreTrainedConfig):
    """Configuration of `VMHANModel` and `VMHANForRelationClassification`.

    Args:
        text_config: configuration (or its dict) of any AutoModel text encoder. Default: bert-base-uncased's shape.
        entity_representation: what the text encoder hands to the head and tail nodes. "marker": one pass a pair with
            markers in the sentence, the opening one's state. "span": one pass a sentence, the mean state of the
            mention. "packed": one pass a sentence, each pair's markers appended to it (BERT and RoBERTa families).
        image_text_visibility: "joint": the text encoder reads the image phrases as a second segment of the sentence.
            "isolated": in the same row, but the image text sees itself alone and is seen by nothing else, so that a
            phrase meets the pair in the hypergraph only (BERT and RoBERTa families).
        order_blind: head is the mention that stands first, and labels say which way the relation points: the protocol
            of data that are built so (direction.py). The pipeline answers in the direction of the relation.
        visual_feature_size: V of the image and object features (VGG16 fc7: 4096). 0: no image and object nodes.
        vision_encoder: None when features are given. Otherwise a frozen encoder is part of the model, in bfloat16,
            which then also takes `pixel_values`: "vgg16" (the paper's fc7, a pass over each region), "vgg16_roi_align"
            (one over the image, then RoIAlign: other features), or "transformers" (`vision_config`'s pooled output).
        vision_config: configuration (or its dict) of an AutoModel vision backbone, for vision_encoder="transformers".
        vision_weights: {"name", "revision", "sha256"} of a public checkpoint whose weights are not in the folder:
            `from_pretrained` finds or downloads them (`weights.referenced_encoder`); None: they are in it.
        image_transform: dict of `PixelTransform`'s fields; None is ImageNet's normalisation at the encoder's size.
        num_objects: K, objects kept a pair (paper: 3). num_text_phrases: M. num_image_phrases: Q.
        hidden_size: D of nodes and hyperedges; None takes the text encoder's.
        num_layers: of V-HAN. 2 are the least: with 1, no output reads a hyperedge that equations 5 and 6 have updated.
        num_heads: attention heads; must divide hidden_size.
        hyperedges: families of hyperedges, of `hypergraph.HYPEREDGE_FAMILIES`.
        hypergraph_scope: "pair": a hypergraph a pair, the paper's. "post" (ours): one a post, with its pairs and their
            mentions as nodes, so that an answer depends on the post's other pairs (post_graph.py). Its hyperedges of
            pairs and of mentions are always there, and "inter" is those of a mention with all visual nodes.
        hyperedge_start: "members": a hyperedge starts as the average of its members (the paper gives no start).
            "entities": of head and tail (of a post's mentions and pairs), as far as it has them, so that its first
            query is their words alone; "vhan".
        hypergraph_encoder: "vhan", or an ablation: "hgnn", "gcn", "gat", "variational_gcn" (the presets of that name
            leave out the global hyperedge, in whose clique every node is every other's neighbour). Without propagation
            "none" reads head and tail, and "mean" the averages of the text phrases and of the visual nodes as well.
        variational: False: no variance path, no KL, the classifier sees the means only.
        variance_eps: lower bound of every node variance.
        safe_start: with its first weights the model answers as the text-only model does, as
            `VMHANForRelationClassification` says; with "vhan", "mean" and "none".
        sample_nodes: in training the classifier reads draws from the Gaussians of head and tail, not their means.
        classifier_dropout: before the classifier (paper: 0.6).
        mentions: a head on the text encoder finds the mentions, for raw posts in the pipeline; not with "marker".
        mention_loss_weight: of the cross-entropies of that head's tags and types.
        type_loss_weight: of the cross-entropy of the types of head and tail, told from the means of their final nodes
            by another head; pairs whose relation's name tells none take no part. 0: no such head.
        mention_types: names of the types that these heads tell apart; left out: those in the labels' names.
        type_constraints: {relation: [(head type, tail type), ...]}, which the pipeline's facts obey; None: read off
            labels such as "/per/loc/place_of_birth"; {}: none.
        functional_relations: of which a head has one tail, so that of several facts of a post the surest one stays.
        none_smoothing: label smoothing of the pairs with the none label alone, whose labels are the least certain.
        relation_loss_weight, reconstruction_loss_weight, kl_loss_weight: lambdas of equation 12 (not in the paper).
        calibration_temperature: class probabilities are softmax(logits / calibration_temperature); logits and losses
            are without it. (transformers refuses to save the name `temperature`, a parameter of generation.)
        none_bias: added to the none label's logit before the temperature, where a probability is made; fitted on a
            validation split by --fit_none_bias, as F1 does not peak where the likeliest label wins.
        none_label: name of the "no relation" label; None finds it among `NONE_LABELS`.
        precision_table: what the pipeline's option min_precision looks up: {"pairs": rows, "posts": rows} of
            (score, precision, recall) on a validation split, of given pairs and of facts found in raw posts.
        initializer_range: standard deviation of the new layers' initial weights.
        recipe: what chose phrases and objects when the training data were built (recipe.py), which then chooses alike
            for posts that name none; None: nothing.
        **kwargs: what every PreTrainedConfig takes (`id2label`, `label2id`, `num_labels`, ...).

    Example:
        >>> VMHANConfig.from_preset("no_kl", id2label={0: "None", 1: "/per/per/peer"}).kl_loss_weight
        0.0
    """

    model_type = "vmhan"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}
    keys_to_ignore_at_inference = (
        "relation_loss reconstruction_loss kl_loss node_mean node_variance edge_mean edge_variance attentions "
        "incidence node_mask read_mean read_variance mention_loss mention_logits type_loss".split()
    )

    def __init__(
        self,
        text_config: PreTrainedConfig | dict | None = None,
        entity_representation: str = "marker",
        image_text_visibility: str = "joint",
        order_blind: bool = False,
        visual_feature_size: int = 4096,
        vision_encoder: str | None = None,
        vision_config: PreTrainedConfig | dict | None = None,
        vision_weights: dict[str, str | None] | None = None,
        image_transform: dict | None = None,
        num_objects: int = 3,
        num_text_phrases: int = 3,
        num_image_phrases: int = 3,
        hidden_size: int | None = None,
        num_layers: int = 2,
        num_heads: int = 4,
        hyperedges: list[str] | tuple[str, ...] = ("global", "intra", "inter"),
        hypergraph_scope: str = "pair",
        hyperedge_start: str = "members",
        hypergraph_encoder: str = "vhan",
        variational: bool = True,
        variance_eps: float = 1e-6,
        safe_start: bool = False,
        sample_nodes: bool = False,
        classifier_dropout: float = 0.6,
        mentions: bool = False,
        mention_loss_weight: float = 1.0,
        type_loss_weight: float = 0.0,
        mention_types: list[str] | None = None,
        type_constraints: dict[str, list] | None = None,
        functional_relations: list[str] | tuple[str, ...] = (),
        none_smoothing: float = 0.0,
        relation_loss_weight: float = 1.0,
        reconstruction_loss_weight: float = 0.1,
        kl_loss_weight: float = 0.01,
        calibration_temperature: float = 1.0,
        none_bias: float = 0.0,
        none_label: str | None = None,
        precision_table: dict[str, list] | None = None,
        initializer_range: float = 0.02,
        recipe: dict | None = None,
        **kwargs,
    ):
        fields = {name: value for name, value in locals().items() if name in _own_fields(type(self))}
        _reject_unknown(kwargs, type(self))
        for name, value in fields.items():
            setattr(self, name, value)
        self.text_config = _as_config("text_config", {} if text_config is None else text_config)
        self.vision_config = None if vision_config is None else _as_config("vision_config", vision_config)
        self.hidden_size = self.text_config.hidden_size if hidden_size is None else hidden_size
        self.hyperedges = list(hyperedges) if isinstance(hyperedges, (list, tuple)) else hyperedges
        super().__init__(**_complete_labels(kwargs, none_label))
        self.none_label = find_none_label(self.id2label.values(), none_label)
        self.mention_types = types_in(self.labels) if mention_types is None else read_types(mention_types)
        self.type_constraints = read_constraints(type_constraints, self.labels)
        self.functional_relations = read_relations("functional_relations", functional_relations, self.labels)
        self.precision_table = read_precision_tables(precision_table)
        if "custom_pipelines" in kwargs:
            self.custom_pipelines = _CustomPipelines(kwargs["custom_pipelines"])
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name, rule in NUMBERS.items():
            setattr(self, name, check_number(name, getattr(self, name), **rule))
        for name in ("image_transform", "recipe", "vision_weights"):  # the fields of the first `PixelTransform` checks
            if not isinstance(fields[name], (dict, type(None))):
                raise ValueError(f"{name} must be a dict or None, received {fields[name]!r}.")
        self._check_combinations()

    @classmethod
    def from_preset(cls, preset: str, **fields) -> "VMHANConfig":
        """One of `PRESETS`: `fields`, with the preset's changes on top (they win where both name a field)."""
        if not isinstance(preset, str) or preset not in PRESETS:
            near = _suggest(str(preset), PRESETS)
            raise ValueError(f"preset must be one of {list(PRESETS)}, received {preset!r}.{near}")
        return cls(**{**fields, **PRESETS[preset]})

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As in transformers, but keywords that are fields go through the constructor, and so through its checks.

        New labels, or another number of them, replace `id2label`, `label2id` and `none_label` together. With another
        number the classifier is a new one, and what was fitted or said for the old one's labels (`OF_LABELS`) goes.
        """
        if (kind := config_dict.get("model_type") or cls.model_type) != cls.model_type:
            rule = f"the configuration must be of a saved model with model_type {cls.model_type!r}"
            fix = "A new model around a text encoder is VMHANForRelationClassification.from_text_encoder(NAME)"
            raise ValueError(f"{rule}, received model_type {kind!r}. {fix}.")
        saved, labels = dict(config_dict), {"id2label", "label2id", "num_labels"}
        given = {name: kwargs.pop(name) for name in (_own_fields(cls) | labels) & kwargs.keys()}
        given = {name: value for name, value in given.items() if name not in labels or value is not None}
        saved_count = len(saved.get("id2label") or ())
        counts = [len(given[name]) for name in ("id2label", "label2id") if isinstance(given.get(name), Mapping)]
        has_new_classifier = (counts or [given.get("num_labels", saved_count)])[0] != saved_count
        if given.keys() & {"id2label", "label2id"} or has_new_classifier:
            for name in ("none_label", *labels, *(OF_LABELS if has_new_classifier else ())):
                saved.pop(name, None)
        for name in given.keys() & cls.sub_configs.keys():
            if isinstance(given[name], dict) and isinstance(saved.get(name), dict):
                given[name] = {**saved[name], **given[name]}
        return super().from_dict({**saved, **given}, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, but without where it was loaded from, which may be a path of this machine."""
        fields = super().to_dict()
        for config in (fields, *(fields.get(name) for name in self.sub_configs)):
            (config or {}).pop("_name_or_path", None)
        return fields

    def _check_combinations(self) -> None:
        """The families of hyperedges, and rules that need two fields."""
        families, is_backbone = self.hyperedges, self.vision_encoder == "transformers"
        if not isinstance(families, list) or not families or max(map(families.count, families)) > 1:
            raise ValueError(f"hyperedges must be a list of at least one family, each once, received {families!r}.")
        for family in families:
            check_choice("hyperedges", family, HYPEREDGE_FAMILIES)
        has_types = any(of in self.mention_types for of in types_in(self.labels))
        can_find = not self.mentions or self.entity_representation != "marker"
        is_of_pair = self.hypergraph_scope == "pair"
        wanted = dict.fromkeys(PLAIN_ENCODERS, False) | {"variational_gcn": True}
        has_size = self.visual_feature_size == 4096 or self.vision_encoder in (None, "transformers")
        for holds, rule, *names in (
            (self.hidden_size % self.num_heads == 0, "num_heads must divide hidden_size", "num_heads", "hidden_size"),
            (has_size, "VGG16's features have visual_feature_size=4096", "vision_encoder", "visual_feature_size"),
            (can_find, "mentions=True needs the sentence without markers in it, 'packed' or 'span'", "mentions",
             "entity_representation"),
            (is_backbone == (self.vision_config is not None), "vision_config (from AutoConfig.from_pretrained) goes "
             "with vision_encoder='transformers' and only with it", "vision_encoder", "vision_config"),
            (self.vision_weights is None or (self.vision_encoder and self.vision_weights.keys() == REFERENCE),
             f"vision_weights has the keys {sorted(REFERENCE)} and goes with a vision_encoder", "vision_weights",
             "vision_encoder"),
            (wanted.get(self.hypergraph_encoder, self.variational) == self.variational, "hgnn, gcn and gat need "
             "variational=False, and variational_gcn True: use from_preset", "hypergraph_encoder", "variational"),
            (not self.safe_start or self.hypergraph_encoder in SAFE_ENCODERS, f"safe_start=True needs an encoder that "
             f"adds to its nodes, of {SAFE_ENCODERS}", "safe_start", "hypergraph_encoder"),
            (is_of_pair or self.hypergraph_encoder not in NO_PROPAGATION, "hypergraph_scope='post' needs an encoder "
             "that propagates between pairs: use 'pair' with it", "hypergraph_scope", "hypergraph_encoder"),
            (is_of_pair or "pairwise" not in families, "hypergraph_scope='post' has hyperedges of its own for its "
             "pairs: use 'pair' with 'pairwise'", "hypergraph_scope", "hyperedges"),
            (self.hyperedge_start == "members" or self.hypergraph_encoder == "vhan", "hyperedge_start='entities' "
             "needs hyperedges with a state, hypergraph_encoder='vhan'", "hyperedge_start", "hypergraph_encoder"),
            (not self.sample_nodes or self.variational, "sample_nodes=True needs variances to draw with, "
             "variational=True", "sample_nodes", "variational"),
            (not self.none_smoothing or self.relation_loss_weight, "none_smoothing needs a loss of relations",
             "none_smoothing", "relation_loss_weight"),
            (not self.type_loss_weight or has_types, "type_loss_weight needs relations whose names tell types, as "
             "'/per/loc/place_of_birth', of mention_types", "type_loss_weight", "mention_types", "labels"),
        ):  # fmt: skip
            if not holds:
                received = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
                raise ValueError(f"{rule}, received {received}.")

    @property
    def labels(self) -> list[str]:
        """Relation names in the order of their ids."""
        return [self.id2label[i] for i in range(len(self.id2label))]


class _CustomPipelines(dict):
    """Pipelines whose code the folder carries: task -> where the class is. A task that is registered is not `in` it.

    `pipeline()` asks `task in` to choose between the folder's class, which needs trust_remote_code, and an installed
    package's, which wins here as it does for the Auto classes.
    """

    def __contains__(self, task: object) -> bool:
        from transformers.pipelines import PIPELINE_REGISTRY  # late: it loads torch, which a config does without

        return super().__contains__(task) and task not in PIPELINE_REGISTRY.supported_tasks


def _as_config(name: str, config: PreTrainedConfig | dict) -> PreTrainedConfig:
    """A sub-configuration from itself or its dict; a text encoder's dict may lack its model_type, which is BERT's."""
    if isinstance(config, PreTrainedConfig):
        return config
    if not isinstance(config, dict) or (name != "text_config" and "model_type" not in config):
        raise ValueError(f"{name} must be a configuration or its dict with its model_type, received {config!r}.")
    fields = dict(config)
    return AutoConfig.for_model(fields.pop("model_type", "bert"), **fields)


def _own_fields(cls: type) -> set[str]:
    return set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}


def _reject_unknown(kwargs: dict[str, Any], cls: type) -> None:
    known = _own_fields(cls) | set(vars(PreTrainedConfig())) | _TRANSFORMERS_KEYS
    for key in kwargs:
        if key not in known and not key.startswith("_"):
            raise ValueError(f"{cls.__name__} has no field {key!r} (received {kwargs[key]!r}).{_suggest(key, known)}")


def _suggest(name: str, known) -> str:
    names = sorted(key for key in known if not key.startswith("_"))
    near = close_matches(name, names) or [key for key in names if name in key]
    return f" Did you mean {near[0]!r}?" if near else ""


def _complete_labels(kwargs: dict[str, Any], none_label: str | None) -> dict[str, Any]:
    """`kwargs` with `id2label` and `label2id` both set; without labels, none and placeholders up to `num_labels`."""
    kwargs = dict(kwargs)
    count, id2label, label2id = (kwargs.pop(name, None) for name in ("num_labels", "id2label", "label2id"))
    if count is not None:
        count = check_number("num_labels", count, whole=True, low=1)
    for name, given in (("id2label", id2label), ("label2id", label2id)):
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{name} must be a dict like dict(enumerate(names)) or its inverse, received {given!r}.")
    if id2label is None and label2id is None:
        id2label = dict(enumerate([none_label or NONE_LABELS[0], *(f"LABEL_{i}" for i in range(1, count or 2))]))
    elif id2label is None:
        id2label = {str(i): name for name, i in label2id.items()}
    by_id = {str(i): name for i, name in id2label.items()}  # JSON's keys are strings
    names = [by_id.get(str(i)) for i in range(len(id2label))]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(id2label):
        raise ValueError(f"id2label must map 0..{len(names) - 1} to distinct names, received {id2label}.")
    if count not in (None, len(names)):
        raise ValueError(f"num_labels must equal the number of labels ({len(names)}), received {count}.")
    expected = {name: i for i, name in enumerate(names)}
    if label2id is not None and label2id != expected:
        raise ValueError(f"label2id must be the inverse of id2label ({expected}), received {label2id}.")
    return {**kwargs, "id2label": dict(enumerate(names)), "label2id": expected}
