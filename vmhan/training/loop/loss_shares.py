"""Which share of the gradient each term of the loss has, so that its weight can be set to reach one."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


__all__ = ["loss_shares"]


def loss_shares(terms: Mapping[str, Tensor], parameters: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """{NAME_share: norm of this weighted term's gradient / sum of the norms of all}, of the learned parameters.

    The graph stays for the backward pass, and no gradient is accumulated.
    """
    learned, norms = [parameter for parameter in parameters if parameter.requires_grad], {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, learned, retain_graph=True, allow_unused=True)
        norms[name] = nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
    total = sum(norms.values())
    return {f"{name}_share": norm / total for name, norm in norms.items()}
