"""VM-HAN: a text encoder, visual features and variational hypergraph attention for multi-modal relation extraction.

Paper: Li et al., "Variational Multi-Modal Hypergraph Attention Network for Multi-Modal Relation Extraction", IJCAI
2025.

Notation, used by every file of this folder:
    B examples (sentence-image pairs), P entity pairs, S encoder rows (P for `marker`, one or more an example for
    `span` and `packed`), T tokens, M text phrases, Q image phrases, K objects a pair, O objects an example, V visual
    feature size, N = 2 + M + 1 + K + Q nodes, E hyperedges, D hidden size, R relations.
Node order: head, tail, text phrases, image, objects, image phrases.
A hypergraph is of one pair. With hypergraph_scope="post" it is of one post (post_graph.py): where layers and outputs
have P hypergraphs, there are then B.
"""

import copy
import os

import torch
from torch import Tensor, nn
from transformers import AutoModel, DynamicCache
from transformers import initialization as init
from transformers.utils import can_return_tuple

from .batching import EncodedPost
from .configuration_vmhan import VMHANConfig
from .frozen import STORED_DTYPE
from .graph_layers import propagation_layers
from .hypergraph import TAIL, build_incidence, first_members
from .layers import HypergraphState
from .losses import relation_loss, type_loss, type_table
from .mention_head import MentionHead, find_mentions, mention_loss
from .mentions import Mention
from .nodes import Nodes, VisualProjection, join_nodes, project_regions, region_nodes, text_nodes, with_region_tails
from .outputs import VMHANModelOutput, VMHANRelationOutput
from .post_graph import post_entities, post_hypergraphs, read_ends, with_pair_nodes
from .pretrained import VMHANPreTrainedModel, without_pooler
from .text_encoding import PACKED_ENCODERS, SentenceMemory, additive_mask, packed_mask, position_offset, remembering
from .variational import (
    GaussianNodes,
    entity_features,
    initial_hyperedges,
    kl_to_standard_normal,
    nodes_read,
    reconstruction_error,
    sampled,
)
from .vision import build_region_encoder, chosen_objects, encode_regions
from .weights import vision_weights


__all__ = ["VMHANForRelationClassification", "VMHANModel"]


class VMHANModel(VMHANPreTrainedModel):
    """Text encoder, node construction and V-HAN: posts in, Gaussians of nodes and hyperedges out."""

    _auto_class = "AutoModel"  # here, so that it is saved with its code also where a folder's code made it

    def __init__(self, config: VMHANConfig):
        super().__init__(config)
        text_config = config.text_config
        if config.entity_representation == "packed" and text_config.model_type not in PACKED_ENCODERS:
            rule = f"entity_representation='packed' needs a text encoder of {PACKED_ENCODERS}"
            raise ValueError(f"{rule}, received {text_config.model_type!r}. Use 'marker' or 'span' with it.")
        if config.image_text_visibility == "isolated" and text_config.model_type not in PACKED_ENCODERS:
            rule = f"image_text_visibility='isolated' needs a text encoder of {PACKED_ENCODERS}"
            raise ValueError(f"{rule}, received {text_config.model_type!r}. Use 'joint' with it.")
        # the type of the layers around it, not the one its own checkpoint was saved in
        self.text_encoder = without_pooler(AutoModel.from_config(text_config, dtype=torch.get_default_dtype()))
        given, wanted = text_config.hidden_size, config.hidden_size
        self.text_projection = nn.Identity() if given == wanted else nn.Linear(given, wanted, bias=False)
        self.visual_projection = self.vision_encoder = None
        if config.visual_feature_size:
            sizes = {"feature_size": config.visual_feature_size, "hidden_size": config.hidden_size}
            self.visual_projection = VisualProjection(**sizes)
        if config.vision_encoder is not None and config.vision_weights is None:  # else `from_pretrained` attaches it
            self.vision_encoder = build_region_encoder(config.vision_encoder, config.vision_config)
            size, received = self.vision_encoder.feature_size, config.visual_feature_size
            if size != received:
                raise ValueError(f"visual_feature_size must be {size}, the vision encoder's, received {received}.")
        sizes = {"input_size": config.hidden_size, "hidden_size": config.hidden_size}
        options = {"variance_eps": config.variance_eps, "variational": config.variational}
        self.gaussian_nodes = GaussianNodes(**sizes, **options)
        sizes = {"hidden_size": config.hidden_size, "num_heads": config.num_heads}
        self.pair_projection = None
        if config.hypergraph_scope == "post":
            self.pair_projection = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
            options["num_roles"] = 2  # of a pair in a mention's hyperedge: as its head, and as its tail
        layers = propagation_layers(config.hypergraph_encoder, config.num_layers, **sizes, **options)
        self.layers = nn.ModuleList(layers)
        self.post_init()

    def train(self, mode: bool = True) -> "VMHANModel":
        """As in torch, but the vision encoder stays frozen and in evaluation mode; `from_pretrained` ends in this."""
        super().train(mode)
        if self.vision_encoder is not None:
            self.vision_encoder.eval().requires_grad_(False)
        return self

    def encode_text(
        self,
        input_ids,
        attention_mask,
        token_type_ids=None,
        position_ids=None,
        marker_pair=None,
        memory: SentenceMemory | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """States (S, T, D_text) of the encoder rows; `position_ids` and `marker_pair` belong to packed rows and to
        those with isolated image text.

        `memory` is of the same packed rows without markers; `cache` is filled for it.
        """
        encoder, text_config = self.text_encoder, self.config.text_config
        inputs = {"input_ids": input_ids}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if marker_pair is not None:
            inputs["position_ids"] = position_ids + position_offset(text_config.model_type, text_config.pad_token_id)
        if memory is not None:
            return memory.encode_markers(encoder, marker_pair, inputs)
        inputs["attention_mask"] = attention_mask
        if marker_pair is not None:
            inputs["attention_mask"] = additive_mask(packed_mask(attention_mask, marker_pair), encoder.dtype)
        elif text_config.model_type in PACKED_ENCODERS and encoder.config._attn_implementation in ("eager", "sdpa"):
            # transformers makes this mask too, but first asks whether any token is padding: the host then waits
            inputs["attention_mask"] = additive_mask(attention_mask[:, None, None].bool(), encoder.dtype)
        inputs |= {} if cache is None else remembering(encoder, cache)
        return encoder(**inputs, return_dict=True).last_hidden_state

    def encode_regions(
        self, pixel_values: Tensor, image_mask: Tensor, object_mask: Tensor, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pixels (and for "vgg16_roi_align" boxes) -> image features (B, V), object features (B, O, V)."""
        if self.vision_encoder is None:
            received = f"vision_encoder={self.config.vision_encoder!r}"
            raise ValueError(f"a model without vision encoder takes image_features, no pixel_values ({received}).")
        features = encode_regions(self.vision_encoder, pixel_values, image_mask, object_mask, boxes)  # (B, 1 + O, V)
        return features[:, 0], features[:, 1:]

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
        incidence: Tensor | None = None,
        memory: SentenceMemory | None = None,
        output_attentions: bool | None = None,
        **others: Tensor | None,
    ) -> VMHANModelOutput:
        """Everything comes from `VMHANProcessor`.

        Args:
            input_ids, attention_mask, token_type_ids, position_ids: (S, T). marker_pair: (S, T), see `packed_mask`.
            pair_to_sequence: (P,) encoder row of each pair. pair_to_example: (P,) example (image) of each pair.
            entity_tokens: (P, 2, L). text_phrase_tokens: (P, M, L). image_phrase_tokens: (P, Q, L): token positions
                in the pair's row, -1 fills up.
            incidence: (P, N, 5) bool, hyperedges of the data (see `build_incidence`); None: those of equations 1 to 3.
            memory: of the rows' sentences, of `find_mentions`, in packed rows.
            output_attentions: also return every layer's attention; None takes `config.output_attentions`.
            **others: of models with visual_feature_size,
                image_features: (B, V). image_mask: (B,) bool. object_features: (B, O, V). object_mask: (B, O) bool.
                pair_objects: (P, K), index into O, -1 fills up. tail_object: (P,), -1 for a text tail.
                pixel_values: instead of the two features, with config.vision_encoder: (B, 1 + O, 3, S, S), the image
                    first; for "vgg16_roi_align" (B, 1, 3, S, S), and boxes: (B, O, 4), divided by width and height.
                Of models with hypergraph_scope="post", what `post_slots.graph_arrays` makes.

        A batch without pairs or without what the model was built to see is a ValueError.
        """
        if entity_tokens.shape[0] == 0:
            raise ValueError("the batch holds no entity pair (P = 0): give at least one post with one pair.")
        states = self.encode_text(input_ids, attention_mask, token_type_ids, position_ids, marker_pair, memory)

        def read(tokens: Tensor | None, *, is_visual: bool = False) -> Nodes | None:
            if tokens is None:
                return None
            return text_nodes(states, pair_to_sequence, tokens, self.text_projection, is_visual=is_visual)

        entities, regions = self._region_nodes(read(entity_tokens), pair_to_example, others)
        kinds = read(text_phrase_tokens), regions, read(image_phrase_tokens, is_visual=True)
        families, roles, is_entity = self.config.hyperedges, (), None
        if self.pair_projection is None:
            nodes = join_nodes(entities, *kinds)  # (P, N, ...)
            incidence = build_incidence(nodes.present, nodes.is_visual, families=families, given=incidence)
        else:
            entities = with_pair_nodes(entities, self.pair_projection)  # (P, 3, ...)
            slots = join_nodes(entities, *kinds)  # (P, n, ...), of which nodes (B, N, ...) are averages
            nodes, incidence, roles = post_hypergraphs(slots, pair_to_example, others, families=families)
            is_entity = post_entities(others["entity_nodes"], pair_to_example, nodes.present.shape)
        initial = self.gaussian_nodes(nodes.features)
        starting = first_members(incidence, is_entity) if self.config.hyperedge_start == "entities" else incidence
        state = HypergraphState(*initial, *initial_hyperedges(*initial, starting), None, None)
        attentions, has_roles = [], self.config.hypergraph_encoder == "vhan"
        for layer in self.layers:
            state = layer(*state[:4], incidence, *(roles if has_roles else ()))
            attentions.append((state.node_to_edge, state.edge_to_node))
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        read_mean, read_variance = self._read(state, initial, nodes, entities, pair_to_example, others)
        return VMHANModelOutput(
            node_mean=state.node_mean,
            node_variance=state.node_variance,
            edge_mean=state.edge_mean,
            edge_variance=state.edge_variance,
            read_mean=read_mean,
            read_variance=read_variance,
            initial_node_mean=initial[0],
            initial_node_variance=initial[1],
            node_mask=nodes.present,
            node_is_visual=nodes.is_visual,
            incidence=incidence,
            text_states=states,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _read(self, state: HypergraphState, initial: tuple, nodes: Nodes, entities: Nodes, pair_to_example, others):
        """Mean and variance of what the classifier reads, (P, n, D), of which `initial` are of all nodes."""
        encoder, final = self.config.hypergraph_encoder, (state.node_mean, state.node_variance)
        if self.pair_projection is None:
            return nodes_read(*final, nodes.present, nodes.is_visual, with_averages=encoder == "mean")
        own = self.gaussian_nodes(entities.features) if encoder == "vhan" else (None, None)
        place = pair_to_example.unsqueeze(1), others["entity_nodes"]  # (P, 1), (P, 3)
        return tuple(None if each[0] is None else read_ends(*each, place) for each in zip(final, own, initial))

    def _region_nodes(self, entities: Nodes, pair_to_example: Tensor, visual: dict) -> tuple[Nodes, Nodes | None]:
        """Head and tail, of which the tail may be a region, and the image with its objects (None in text models)."""
        image_features, image_mask, object_features, object_mask = (
            visual.get(name) for name in ("image_features", "image_mask", "object_features", "object_mask")
        )
        if visual.get("pixel_values") is not None:
            if image_features is not None:
                raise ValueError("give either pixel_values or image_features, received both.")
            pixels, boxes = visual["pixel_values"], visual.get("boxes")
            if not self.training:  # in which the batch norms take the statistics of all regions
                objects = visual["pair_objects"], visual["tail_object"]
                object_mask = chosen_objects(object_mask, pair_to_example, *objects)
            image_features, object_features = self.encode_regions(pixels, image_mask, object_mask, boxes)
        if self.visual_projection is None:
            return entities, None
        if image_features is None:
            built = f"this model was built with visual_feature_size={self.config.visual_feature_size}"
            raise ValueError(f"{built} and got no image_features: encode posts with its own processor.")
        projected = project_regions(self.visual_projection, image_features, image_mask, object_features, object_mask)
        entities = with_region_tails(entities, projected, pair_to_example, visual["tail_object"])
        return entities, region_nodes(projected, image_mask, pair_to_example, visual["pair_objects"])


class VMHANForRelationClassification(VMHANPreTrainedModel):
    """VM-HAN with the relation classifier (equation 9) and the joint loss (equation 12).

    With `safe_start` (ours: the paper prints no initialisation) the first logits are W_h h + W_t t + b, whatever the
    picture, where h and t are the projected states that the text encoder hands over, and W_h and W_t the columns of
    the classifier that read the means of head and tail. They are the logits of the preset text_only with safe_start,
    the same text encoder and the classifier [W_h, W_t], b. For the nodes' means start as h and t (`GaussianNodes`), no
    layer changes them yet, and the columns that read variances, averages of other nodes, or the pair's own node in a
    post's hypergraph, start at 0. Columns W_var
    that are not 0 would add W_var v of the final variances v: a constant only if the layers added nothing to the first
    ones, log 2 + eps. The layers' values of variances cannot start at 0, as `VariationalHypergraphAttention` says, and
    need not. Where the sentence sees image phrases ("joint"), caption_appended stands for text_only; a tail that is a
    region has no text-only model to equal.

    Example:
        inputs = processor([post])
        logits = model(**inputs).logits  # (P, R)
    """

    def __init__(self, config: VMHANConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vmhan = VMHANModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        num_read = 3 if config.hypergraph_scope == "post" else 4 if config.hypergraph_encoder == "mean" else 2
        num_read *= 2 if config.variational else 1
        self.classifier = nn.Linear(num_read * config.hidden_size, config.num_labels)
        self.mention_head = None
        if config.mentions:
            sizes = {"input_size": config.text_config.hidden_size, "num_types": len(config.mention_types)}
            self.mention_head = MentionHead(**sizes)
        self.type_head = None
        if config.type_loss_weight:
            self.type_head = nn.Linear(config.hidden_size, len(config.mention_types))
            self.label_types = type_table(config.labels, config.mention_types)
        self.post_init()

    def start_safely(self) -> None:
        """First weights of a safe start: the classifier reads the means of head and tail only."""
        weight = self.classifier.weight
        kinds = 2 if self.config.variational else 1
        start = weight.detach().clone()
        columns = start.unflatten(1, (-1, kinds, self.config.hidden_size))  # (R, n, mean and variance, D)
        columns[:, :, 1:] = 0
        columns[:, 2:] = 0
        init.copy_(weight, start)

    def save_pretrained(self, save_directory: str | os.PathLike, vision: str | None = None, **kwargs) -> None:
        """As in transformers, and the folder answers to AutoModel and `pipeline()`, and has what endpoints start.

        vision: "weights" saves those of the vision encoder, too, "reference" (`config.vision_weights`) where they are
        to be had; None: as `config.vision_weights` says, so that a model is saved again as it was loaded.
        """
        self.config.vision_weights = vision_weights(vision, self.config.vision_weights, self.vmhan.vision_encoder)
        from .handler import REQUIREMENTS  # late, because both sit on top; these lines ship their files
        from .pipeline_vmhan import CUSTOM_PIPELINES

        auto_map = {"AutoModel": "modeling_vmhan.VMHANForRelationClassification"}  # as the cards say
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **auto_map}
        self.config.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)
        if self.config.vision_weights is not None:
            state = kwargs.get("state_dict") or self.state_dict()
            kwargs["state_dict"] = {name: state[name] for name in state if ".vision_encoder." not in name}
        elif self.vmhan.vision_encoder is not None:
            self.vmhan.vision_encoder.to(STORED_DTYPE)  # exact: what computes in float32 has these weights, too
        os.makedirs(save_directory, exist_ok=True)
        with open(os.path.join(save_directory, "requirements.txt"), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in REQUIREMENTS)
        super().save_pretrained(save_directory, **kwargs)

    def _get_files_timestamps(self, working_dir: str | os.PathLike) -> dict[str, float]:
        """Without requirements.txt: push_to_hub uploads what has changed since, and this file is written before."""
        times = super()._get_files_timestamps(working_dir)
        return {name: time for name, time in times.items() if name != "requirements.txt"}

    def _losses(self, logits: Tensor, labels: Tensor, output: VMHANModelOutput) -> dict[str, Tensor]:
        """The terms of equations 9 to 12, in float32, and of the types."""
        config, mean, variance, mask = self.config, output.node_mean, output.node_variance, output.node_mask
        initial = output.initial_node_mean, output.initial_node_variance
        of_none = {"none_id": config.label2id[config.none_label], "none_smoothing": config.none_smoothing}
        losses = {"relation_loss": relation_loss(logits, labels, **of_none)}
        losses["reconstruction_loss"] = reconstruction_error(mean, variance, *initial, mask)
        if variance is not None:
            losses["kl_loss"] = kl_to_standard_normal(mean, variance, mask)
        if self.type_head is not None:
            losses["type_loss"] = type_loss(self.type_head(output.read_mean[:, : TAIL + 1]), labels, self.label_types)
        return losses

    @can_return_tuple
    def forward(
        self,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_gaussians: bool = False,
        mention_tags: Tensor | None = None,
        mention_type_ids: Tensor | None = None,
        **inputs,
    ) -> VMHANRelationOutput:
        """labels: (P,) relation ids. mention_tags, mention_type_ids: (S, T), see `mentions.mention_loss`. The other
        inputs are those of `VMHANModel.forward`.
        """
        output = self.vmhan(output_attentions=output_attentions, return_dict=True, **inputs)
        drawn = output.read_mean, output.read_variance
        if self.training and self.config.sample_nodes:
            drawn = sampled(*drawn, torch.randn_like(drawn[0])), drawn[1]
        logits = self.classifier(self.dropout(entity_features(*drawn)))  # (P, R)
        losses = {} if labels is None else self._losses(logits, labels, output)
        if losses and mention_tags is not None:
            tagged = self.mention_head(output.text_states)
            losses["mention_loss"] = mention_loss(tagged, mention_tags, mention_type_ids)
        if losses:
            loss = sum(getattr(self.config, f"{name}_weight") * term for name, term in losses.items())
            losses = {"loss": loss, **losses}
        asked = ()
        if output_gaussians:
            asked = ("node_mean", "node_variance", "edge_mean", "edge_variance", "read_mean", "read_variance")
        if output.attentions is not None:
            asked += ("attentions", "incidence", "node_mask")
        given = {name: getattr(output, name) for name in asked}
        return VMHANRelationOutput(logits=logits, **losses, **given)

    def find_mentions(self, posts: list[EncodedPost], **text) -> tuple[list[list[Mention]], SentenceMemory | None]:
        """The mentions of posts as `VMHANProcessor.encode_sentence` makes them, and for packed rows what `forward`
        takes as `memory`. `text` is `VMHANProcessor.collate_rows` of the posts.

        ValueError for a model without a mention head.
        """
        if self.mention_head is None:
            raise ValueError("this model finds no mentions (mentions=False): train one with --mentions true.")
        cache = DynamicCache() if self.config.entity_representation == "packed" else None
        states = self.vmhan.encode_text(**text, cache=cache)
        found = find_mentions(self.mention_head(states), posts, self.config.mention_types)
        if cache is None:
            return found, None
        return found, SentenceMemory(cache, states, text["attention_mask"], text["marker_pair"])
