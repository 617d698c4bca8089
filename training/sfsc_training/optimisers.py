"""The optimiser of a recipe, and the learning rate of each step."""

import math
from collections.abc import Iterable
from typing import assert_never

import torch
from torch import nn

from sfsc_training.config import OptimiserSection

__all__ = ["learning_rate", "make_optimiser"]


def make_optimiser(parameters: Iterable[nn.Parameter], section: OptimiserSection) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters that train; biases and normalisation have no weight decay."""
    everything = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in everything if p.ndim > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in everything if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match section.kind:
        case "adamw":
            return torch.optim.AdamW(groups, lr=section.lr)
        case "adam":
            return torch.optim.Adam(groups, lr=section.lr)
        case "sgd":
            momentum = section.momentum
            return torch.optim.SGD(groups, lr=section.lr, momentum=momentum, nesterov=momentum > 0)
        case _:
            assert_never(section.kind)


def learning_rate(step: int, section: OptimiserSection) -> float:
    """Linear warm-up to `lr`, then a cosine to zero after the last step, or a factor at each milestone."""
    if step < section.warmup_steps:
        return section.lr * (step + 1) / section.warmup_steps
    match section.schedule:
        case "step":
            return section.lr * section.decay ** sum(step >= milestone for milestone in section.milestones)
        case "cosine":
            done = (step - section.warmup_steps) / max(1, section.steps - section.warmup_steps)
            return section.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        case _:
            assert_never(section.schedule)
