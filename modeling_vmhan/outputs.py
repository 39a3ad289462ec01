"""What the two models return. Shapes in the notation of modeling_vmhan.py."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


__all__ = ["VMHANModelOutput", "VMHANRelationOutput"]


@dataclass
class VMHANModelOutput(ModelOutput):
    """Gaussians of every pair's nodes and hyperedges.

    Attributes:
        node_mean, node_variance: (P, N, D), after the last layer; the variance is None in non-variational models.
        edge_mean, edge_variance: (P, E, D), as the last layer read them (it updates nodes only).
        initial_node_mean, initial_node_variance: (P, N, D), equation 4.
        node_mask: (P, N) bool. node_is_visual: (P, N) bool. incidence: (P, N, E) bool.
        attentions: a layer's (node_to_edge (P, heads, E, N), edge_to_node (P, heads, N, E)); with output_attentions.
    """

    node_mean: Tensor | None = None
    node_variance: Tensor | None = None
    edge_mean: Tensor | None = None
    edge_variance: Tensor | None = None
    initial_node_mean: Tensor | None = None
    initial_node_variance: Tensor | None = None
    node_mask: Tensor | None = None
    node_is_visual: Tensor | None = None
    incidence: Tensor | None = None
    attentions: tuple[tuple[Tensor, Tensor], ...] | None = None


@dataclass
class VMHANRelationOutput(ModelOutput):
    """Output of `VMHANForRelationClassification`.

    Attributes:
        loss: equation 12; it and its three unweighted terms are given when labels are.
        relation_loss, reconstruction_loss, kl_loss: equations 9, 10, 11 (kl_loss is None without variances).
        logits: (P, R).
        node_mean, node_variance, edge_mean, edge_variance: with output_gaussians, as in `VMHANModelOutput`.
        attentions, incidence, node_mask: with output_attentions, as in `VMHANModelOutput`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    relation_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    kl_loss: Tensor | None = None
    node_mean: Tensor | None = None
    node_variance: Tensor | None = None
    edge_mean: Tensor | None = None
    edge_variance: Tensor | None = None
    attentions: tuple[tuple[Tensor, Tensor], ...] | None = None
    incidence: Tensor | None = None
    node_mask: Tensor | None = None
