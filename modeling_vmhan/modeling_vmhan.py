"""VM-HAN: a text encoder, visual features and variational hypergraph attention for multi-modal relation extraction.

Paper: Li et al., "Variational Multi-Modal Hypergraph Attention Network for Multi-Modal Relation Extraction", IJCAI
2025.

Notation, used by every file of this folder:
    B examples (sentence-image pairs), P entity pairs, S encoder rows (P for `marker`, one or more an example for
    `span` and `packed`), T tokens, M text phrases, Q image phrases, K objects a pair, O objects an example, V visual
    feature size, N = 2 + M + 1 + K + Q nodes, E hyperedges, D hidden size, R relations.
Node order: head, tail, text phrases, image, objects, image phrases.
"""

import copy
import os

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import can_return_tuple

from .baselines import GaussianGraphConvolution, GraphAttention, GraphConvolution, HypergraphConvolution
from .configuration_vmhan import VMHANConfig
from .hypergraph import HEAD, TAIL, build_incidence
from .layers import HypergraphState, VariationalHypergraphAttention
from .outputs import VMHANModelOutput, VMHANRelationOutput
from .text_encoding import PACKED_ENCODERS, packed_attention_mask, pool_tokens, position_offset
from .variational import (
    GaussianNodes,
    entity_features,
    initial_hyperedges,
    kl_to_standard_normal,
    reconstruction_error,
)
from .vision import build_region_encoder, encode_regions, vision_from_weights
from .visual_projection import REGION_INPUTS, VisualProjection, pair_regions


__all__ = [
    "VMHANForRelationClassification",
    "VMHANModel",
    "VMHANPreTrainedModel",
]


_AUTO_MODEL = "modeling_vmhan.VMHANForRelationClassification"  # what AutoModel gives, as the cards say


class VMHANPreTrainedModel(PreTrainedModel):
    """What both models share: weight initialisation, the embedding accessors, and the factory."""

    config_class = VMHANConfig
    base_model_prefix = "vmhan"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over pairs: Trainer must not divide it again
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, nn.LayerNorm) and module.weight is not None:
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):  # the frozen VGG16, until weights are loaded into it
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            init.zeros_(module.bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kwargs):
        """As in transformers.

        Raises:
            OSError: also for a file of weights that is cut off or otherwise damaged.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise OSError(
                f"the weights of {str(pretrained_model_name_or_path)!r} are damaged ({error}): copy model.safetensors "
                "again, or download it again with force_download=True."
            ) from error

    @classmethod
    def from_text_encoder(
        cls,
        text_encoder: str | PreTrainedModel,
        config: VMHANConfig | None = None,
        *,
        vocab_size: int | None = None,
        vision_weights: str | None = None,
        **fields,
    ):
        """A new model around a pretrained text encoder; everything else has fresh weights.

        It comes in evaluation mode, as from `from_pretrained`, and in one type (float32 by default) throughout.

        Args:
            text_encoder: name or folder for `AutoModel.from_pretrained`, or a loaded model.
            config: whose `text_config` (and `vision_config`, when the vision weights bring one) is replaced by the
                encoder's own; or give `fields` of `VMHANConfig` instead, of which `visual_feature_size` may then be
                left to the vision encoder.
            vocab_size: resize the token embeddings to it; `len(processor.tokenizer)`, whose markers are new tokens.
            vision_weights: of the vision encoder, if there is one: "imagenet", "random:SEED", or for
                vision_encoder="transformers" a model's name or folder; see `load_region_encoder`.

        Raises:
            ValueError: both `config` and `fields` are given, or one of vision weights and vision encoder without the
                other.
            OSError: weights that cannot be had.

        Example:
            model = VMHANForRelationClassification.from_text_encoder(
                "bert-base-uncased", id2label={0: "None", 1: "/per/per/peer"}, vocab_size=len(processor.tokenizer)
            )
        """
        if config is not None and fields:
            raise ValueError(f"give config or fields of VMHANConfig, not both; received fields {sorted(fields)}.")
        if isinstance(text_encoder, str):
            text_encoder = AutoModel.from_pretrained(text_encoder)
        given = fields if config is None else config.to_dict()
        vision_encoder, vision_fields = vision_from_weights(given, vision_weights)
        model = cls(VMHANConfig(**{**given, **vision_fields, "text_config": text_encoder.config}))
        base = model.base_model
        base.text_encoder = _without_pooler(text_encoder).to(model.dtype)
        if vision_encoder is not None:
            base.vision_encoder = vision_encoder.to(model.dtype)
        if vocab_size is not None and vocab_size != text_encoder.config.vocab_size:
            model.resize_token_embeddings(vocab_size)
        return model.eval()

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.text_encoder.set_input_embeddings(value)


def _without_pooler(text_encoder: PreTrainedModel) -> PreTrainedModel:
    """No node reads the pooled state; kept, it would be parameters without a gradient."""
    if getattr(text_encoder, "pooler", None) is not None:
        text_encoder.pooler = None
    return text_encoder


def _propagation_layer(config: VMHANConfig, *, is_last: bool) -> nn.Module:
    """One layer of what `hypergraph_encoder` names, from plain numbers."""
    if config.hypergraph_encoder == "vhan":
        return VariationalHypergraphAttention(
            hidden_size=config.hidden_size,
            num_heads=config.num_heads,
            variational=config.variational,
            update_hyperedges=not is_last,
        )
    if config.hypergraph_encoder == "hgnn":
        return HypergraphConvolution(hidden_size=config.hidden_size)
    if config.hypergraph_encoder == "gcn":
        return GraphConvolution(hidden_size=config.hidden_size)
    if config.hypergraph_encoder == "gat":
        return GraphAttention(hidden_size=config.hidden_size, num_heads=config.num_heads)
    return GaussianGraphConvolution(hidden_size=config.hidden_size, variance_eps=config.variance_eps)


class VMHANModel(VMHANPreTrainedModel):
    """Text encoder, node construction and V-HAN: posts in, Gaussians of nodes and hyperedges out.

    Raises:
        ValueError: entity_representation="packed" with an encoder that cannot take it; a vision encoder whose features
            are not of `visual_feature_size`.
    """

    def __init__(self, config: VMHANConfig):
        super().__init__(config)
        text_config = config.text_config
        if config.entity_representation == "packed" and text_config.model_type not in PACKED_ENCODERS:
            raise ValueError(
                f"entity_representation='packed' needs a text encoder of {list(PACKED_ENCODERS)} (absolute positions, "
                f"4-D attention mask), received {text_config.model_type!r}. Use 'marker' or 'span' with it."
            )
        # the type of the layers around it, not the one its own checkpoint was saved in
        self.text_encoder = _without_pooler(AutoModel.from_config(text_config, dtype=torch.get_default_dtype()))
        same_size = text_config.hidden_size == config.hidden_size
        self.text_projection = (
            nn.Identity() if same_size else nn.Linear(text_config.hidden_size, config.hidden_size, bias=False)
        )
        self.visual_projection = (
            VisualProjection(feature_size=config.visual_feature_size, hidden_size=config.hidden_size)
            if config.visual_feature_size
            else None
        )
        self.vision_encoder = None
        if config.vision_encoder is not None:
            self.vision_encoder = build_region_encoder(config.vision_encoder, config.vision_config)
            if self.vision_encoder.feature_size != config.visual_feature_size:
                raise ValueError(
                    f"visual_feature_size must be {self.vision_encoder.feature_size}, the size of this vision "
                    f"encoder's features, received {config.visual_feature_size}."
                )
        self.gaussian_nodes = GaussianNodes(
            input_size=config.hidden_size,
            hidden_size=config.hidden_size,
            variance_eps=config.variance_eps,
            variational=config.variational,
        )
        num_layers = 0 if config.hypergraph_encoder == "none" else config.num_layers
        self.layers = nn.ModuleList(
            _propagation_layer(config, is_last=index == num_layers - 1) for index in range(num_layers)
        )
        self.post_init()

    def train(self, mode: bool = True) -> "VMHANModel":
        """As `nn.Module.train`, but the vision encoder stays frozen and in evaluation mode: its features are inputs.

        Frozen here too, since `from_pretrained`, which ends in this method, makes every parameter it loads trainable.
        """
        super().train(mode)
        if self.vision_encoder is not None:
            self.vision_encoder.eval().requires_grad_(False)
        return self

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        marker_pair: Tensor | None = None,
    ) -> Tensor:
        """States (S, T, D_text) of the encoder rows; `position_ids` and `marker_pair` belong to packed rows."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if marker_pair is not None:
            text_config = self.config.text_config
            inputs["attention_mask"] = packed_attention_mask(attention_mask, marker_pair, self.text_encoder.dtype)
            inputs["position_ids"] = position_ids + position_offset(text_config.model_type, text_config.pad_token_id)
        return self.text_encoder(**inputs, return_dict=True).last_hidden_state

    def encode_regions(
        self, pixel_values: Tensor, image_mask: Tensor, object_mask: Tensor, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pixels (and for "vgg16_roi_align" boxes) -> image features (B, V), object features (B, O, V).

        Raises:
            ValueError: the model has no vision encoder; shapes that do not belong together.
        """
        if self.vision_encoder is None:
            raise ValueError(
                "this model has no vision encoder (config.vision_encoder is None) and cannot take pixel_values. Give "
                "image_features and object_features, or build it with vision_encoder='vgg16'."
            )
        features = encode_regions(self.vision_encoder, pixel_values, image_mask, object_mask, boxes)  # (B, 1 + O, V)
        return features[:, 0], features[:, 1:]

    def build_nodes(self, states: Tensor, inputs: dict[str, Tensor | None]) -> tuple[Tensor, Tensor, Tensor]:
        """Initial node features of section 4.1, their presence and their modality: (P, N, D), (P, N), (P, N)."""
        rows = inputs["pair_to_sequence"]
        text = [inputs[name] for name in ("entity_tokens", "text_phrase_tokens", "image_phrase_tokens")]
        pooled = [pool_tokens(states, rows, tokens) for tokens in text if tokens is not None]
        (entities, entity_mask), *phrases = [(self.text_projection(nodes), mask) for nodes, mask in pooled]
        text_phrases = phrases.pop(0) if text[1] is not None else None
        image_phrases = phrases.pop(0) if text[2] is not None else None

        tail_is_visual = torch.zeros_like(entity_mask[:, TAIL])
        visual = None
        if self.visual_projection is not None:
            regions, region_mask, tail_region = pair_regions(
                self.visual_projection, **{name: inputs[name] for name in REGION_INPUTS}
            )
            tail_is_visual = inputs["tail_object"] >= 0  # (P,)
            tail = torch.where(tail_is_visual.unsqueeze(-1), tail_region, entities[:, TAIL])
            entities = torch.stack([entities[:, HEAD], tail], dim=1)  # (P, 2, D)
            entity_mask = torch.stack([entity_mask[:, HEAD], entity_mask[:, TAIL] | tail_is_visual], dim=1)
            visual = (regions, region_mask)

        groups = [((entities, entity_mask), False), (text_phrases, False), (visual, True), (image_phrases, True)]
        groups = [(group, is_visual) for group, is_visual in groups if group is not None]
        nodes = torch.cat([nodes for (nodes, _), _ in groups], dim=1)  # (P, N, D)
        node_mask = torch.cat([mask for (_, mask), _ in groups], dim=1)  # (P, N)
        is_visual = torch.cat([torch.full_like(mask, value) for (_, mask), value in groups], dim=1)
        is_visual[:, TAIL] = tail_is_visual
        return nodes, node_mask, is_visual

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pair_to_sequence: Tensor,
        pair_to_example: Tensor,
        entity_tokens: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        marker_pair: Tensor | None = None,
        text_phrase_tokens: Tensor | None = None,
        image_phrase_tokens: Tensor | None = None,
        image_features: Tensor | None = None,
        image_mask: Tensor | None = None,
        object_features: Tensor | None = None,
        object_mask: Tensor | None = None,
        pair_objects: Tensor | None = None,
        tail_object: Tensor | None = None,
        pixel_values: Tensor | None = None,
        boxes: Tensor | None = None,
        output_attentions: bool | None = None,
        **kwargs,
    ) -> VMHANModelOutput:
        """Everything comes from `VMHANProcessor`.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: (S, T). marker_pair: (S, T), packed rows only.
            pair_to_sequence: (P,) encoder row of each pair. pair_to_example: (P,) example (image) of each pair.
            entity_tokens: (P, 2, L). text_phrase_tokens: (P, M, L). image_phrase_tokens: (P, Q, L): token positions
                in the pair's row, -1 fills up.
            image_features: (B, V). image_mask: (B,) bool. object_features: (B, O, V). object_mask: (B, O) bool.
            pair_objects: (P, K), index into O, -1 fills up. tail_object: (P,), index into O of a tail that is an
                object, -1 for a text tail.
            pixel_values: instead of the two features, with config.vision_encoder: (B, 1 + O, 3, S, S), the image
                first; for "vgg16_roi_align" (B, 1, 3, S, S), and boxes: (B, O, 4), divided by width and height.
            output_attentions: also return every layer's attention; None takes `config.output_attentions`.

        Raises:
            ValueError: the batch holds no pair, a visual model gets no visual features, or both features and pixels,
                or their shape is wrong.
        """
        if entity_tokens.shape[0] == 0:
            raise ValueError("the batch holds no entity pair (P = 0): give at least one post with one pair.")
        states = self.encode_text(input_ids, attention_mask, token_type_ids, position_ids, marker_pair)
        if pixel_values is not None:
            if image_features is not None:
                raise ValueError("give either pixel_values or image_features, received both.")
            image_features, object_features = self.encode_regions(pixel_values, image_mask, object_mask, boxes)
        if self.visual_projection is not None and image_features is None:
            raise ValueError(
                f"this model was built with visual_feature_size={self.config.visual_feature_size} and got no "
                "image_features: encode posts with its own processor, which fills them in for posts without an image."
            )
        inputs = {
            "pair_to_sequence": pair_to_sequence,
            "pair_to_example": pair_to_example,
            "entity_tokens": entity_tokens,
            "text_phrase_tokens": text_phrase_tokens,
            "image_phrase_tokens": image_phrase_tokens,
            "image_features": image_features,
            "image_mask": image_mask,
            "object_features": object_features,
            "object_mask": object_mask,
            "pair_objects": pair_objects,
            "tail_object": tail_object,
        }
        nodes, node_mask, node_is_visual = self.build_nodes(states, inputs)
        incidence = build_incidence(node_mask, node_is_visual, families=self.config.hyperedges)
        initial_mean, initial_variance = self.gaussian_nodes(nodes)
        edge_mean, edge_variance = initial_hyperedges(initial_mean, initial_variance, incidence)
        state = HypergraphState(initial_mean, initial_variance, edge_mean, edge_variance, None, None)
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        attentions = []
        for layer in self.layers:
            state = layer(state.node_mean, state.node_variance, state.edge_mean, state.edge_variance, incidence)
            attentions.append((state.node_to_edge, state.edge_to_node))
        return VMHANModelOutput(
            node_mean=state.node_mean,
            node_variance=state.node_variance,
            edge_mean=state.edge_mean,
            edge_variance=state.edge_variance,
            initial_node_mean=initial_mean,
            initial_node_variance=initial_variance,
            node_mask=node_mask,
            node_is_visual=node_is_visual,
            incidence=incidence,
            attentions=tuple(attentions) if output_attentions else None,
        )


class VMHANForRelationClassification(VMHANPreTrainedModel):
    """VM-HAN with the relation classifier (equation 9) and the joint loss (equation 12).

    Example:
        inputs = processor([post])
        logits = model(**inputs).logits  # (P, R)
    """

    def __init__(self, config: VMHANConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vmhan = VMHANModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear((4 if config.variational else 2) * config.hidden_size, config.num_labels)
        self.post_init()

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """As in transformers, and the folder also answers to AutoModel and to `pipeline()`, whose code it carries."""
        from .pipeline_vmhan import CUSTOM_PIPELINES  # late, because it sits on top; this line ships its files

        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), "AutoModel": _AUTO_MODEL}
        self.config.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)
        super().save_pretrained(save_directory, **kwargs)

    def _losses(self, logits: Tensor, labels: Tensor, output: VMHANModelOutput) -> dict[str, Tensor]:
        """Equations 9 to 12, in float32."""
        config = self.config
        relation_loss = nn.functional.cross_entropy(logits.float(), labels)
        loss = config.relation_loss_weight * relation_loss
        reconstruction_loss = reconstruction_error(
            output.node_mean,
            output.node_variance,
            output.initial_node_mean,
            output.initial_node_variance,
            output.node_mask,
        )
        loss = loss + config.reconstruction_loss_weight * reconstruction_loss
        kl_loss = None
        if output.node_variance is not None:
            kl_loss = kl_to_standard_normal(output.node_mean, output.node_variance, output.node_mask)
            loss = loss + config.kl_loss_weight * kl_loss
        return {
            "loss": loss,
            "relation_loss": relation_loss.detach(),
            "reconstruction_loss": reconstruction_loss.detach(),
            "kl_loss": None if kl_loss is None else kl_loss.detach(),
        }

    @can_return_tuple
    def forward(
        self,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_gaussians: bool = False,
        **inputs,
    ) -> VMHANRelationOutput:
        """labels: (P,) relation ids. The other inputs are those of `VMHANModel.forward`."""
        output = self.vmhan(output_attentions=output_attentions, return_dict=True, **inputs)
        entities = slice(HEAD, TAIL + 1)
        variance = None if output.node_variance is None else output.node_variance[:, entities]
        logits = self.classifier(self.dropout(entity_features(output.node_mean[:, entities], variance)))  # (P, R)
        losses = {} if labels is None else self._losses(logits, labels, output)
        asked = ("node_mean", "node_variance", "edge_mean", "edge_variance") if output_gaussians else ()
        if output.attentions is not None:
            asked += ("attentions", "incidence", "node_mask")
        return VMHANRelationOutput(logits=logits, **losses, **{name: getattr(output, name) for name in asked})
