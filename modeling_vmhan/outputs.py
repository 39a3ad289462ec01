"""What the models return. Shapes are in modeling_vmhan.py's notation."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


__all__ = ["VMHANModelOutput", "VMHANRelationOutput"]


@dataclass
class VMHANModelOutput(ModelOutput):
    """Gaussians of every pair's nodes and hyperedges; variances are None in models without them.

    With hypergraph_scope="post" they are of every post's, B in the place of P, but for what is read.
    """

    node_mean: Tensor | None = None  # (P, N, D), after the last layer
    node_variance: Tensor | None = None  # (P, N, D)
    edge_mean: Tensor | None = None  # (P, E, D), as the last layer read them (it updates nodes only)
    edge_variance: Tensor | None = None  # (P, E, D)
    read_mean: Tensor | None = None  # (P, n, D), what the classifier reads (see `nodes_read`, `read_ends`)
    read_variance: Tensor | None = None
    initial_node_mean: Tensor | None = None  # (P, N, D), equation 4
    initial_node_variance: Tensor | None = None  # (P, N, D)
    node_mask: Tensor | None = None  # (P, N) bool
    node_is_visual: Tensor | None = None  # (P, N) bool
    incidence: Tensor | None = None  # (P, N, E) bool
    text_states: Tensor | None = None  # (S, T, D_text)
    # with output_attentions, of each layer: node_to_edge (P, heads, E, N), edge_to_node (P, heads, N, E)
    attentions: tuple[tuple[Tensor, Tensor], ...] | None = None


@dataclass
class VMHANRelationOutput(ModelOutput):
    """Output of `VMHANForRelationClassification`; what it shares with `VMHANModelOutput` is given on request."""

    loss: Tensor | None = None  # equation 12; it and its unweighted terms are given when labels are
    logits: Tensor | None = None  # (P, R)
    relation_loss: Tensor | None = None  # equation 9
    reconstruction_loss: Tensor | None = None  # equation 10
    kl_loss: Tensor | None = None  # equation 11
    mention_loss: Tensor | None = None  # of models with mentions=True
    type_loss: Tensor | None = None  # of models with a type_loss_weight
    # with output_gaussians
    node_mean: Tensor | None = None
    node_variance: Tensor | None = None
    edge_mean: Tensor | None = None
    edge_variance: Tensor | None = None
    read_mean: Tensor | None = None
    read_variance: Tensor | None = None
    # with output_attentions
    attentions: tuple[tuple[Tensor, Tensor], ...] | None = None
    incidence: Tensor | None = None
    node_mask: Tensor | None = None
