"""What one image costs at a width."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["macs", "parameters"]


def macs(module: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one pass."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(example)
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """How many numbers the module is made of."""
    return sum(parameter.numel() for parameter in module.parameters())
