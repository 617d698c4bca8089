"""The cost of embedding one image."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["macs", "parameters"]


def macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of a forward pass on `example`, a batch of one image."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(example)
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
