"""First weights of every layer that is not pretrained."""

import torch
from torch import nn
from transformers import initialization as init


__all__ = ["initialise"]


@torch.no_grad()
def initialise(module: nn.Module, *, std: float) -> None:
    """Set one module's own parameters and buffers; those that were loaded are left alone (HF's `init` sees to it).

    Args:
        module: linear layers get normal weights of deviation `std` and no bias, norms start as the identity, and
            convolutions are He's (https://arxiv.org/abs/1502.01852); any other module is left as it is.
    """
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, mean=0.0, std=std)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d):
        init.zeros_(module.running_mean)
        init.ones_(module.running_var)
        init.zeros_(module.num_batches_tracked)
    elif isinstance(module, nn.LayerNorm) and module.weight is not None:
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):  # a frozen VGG16 or ResNet, until weights are loaded into it
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            init.zeros_(module.bias)
