"""The loss of every width: the base loss on the full one, the compatible loss on the others."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.losses.evidential import evidential_loss

__all__ = ["Classifier", "WidthLoss", "width_loss"]


class Classifier(nn.Module):
    """κ: one classifier for all widths, never cropped; what pulls them into one space (method §1).

    Logits are cosine × scale, or the plain product.
    """

    def __init__(self, dimension: int, classes: int, section: LossSection) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimension))
        nn.init.normal_(self.weight, std=dimension**-0.5)
        self._cosine, self._scale = section.logits == "cosine", section.scale

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, D] → logits float32 [n, K]."""
        features = features.float()
        if self._cosine:
            return self._scale * F.linear(F.normalize(features), F.normalize(self.weight))
        return F.linear(features, self.weight)


class WidthLoss(NamedTuple):
    """`loss`: scalar. `uncertainty`: its mean over the batch, detached; None where the loss has none."""

    loss: Tensor
    uncertainty: Tensor | None


def width_loss(logits: Tensor, target: Tensor, *, full: bool, step: int, section: LossSection) -> WidthLoss:
    """The loss of one width from logits float32 [n, K] and classes int64 [n].

    Args:
        full: whether this is width 1, which has the base loss.
        step: for the annealing of λ.
    """
    if full or section.compatible == "cross-entropy":
        return WidthLoss(F.cross_entropy(logits, target, label_smoothing=section.label_smoothing), None)
    settings = section.evidential
    ramp = min(1.0, step / settings.anneal_steps) if settings.anneal_steps else 1.0
    prior = None if settings.prior_weight == "classes" else float(settings.prior_weight)
    result = evidential_loss(
        logits,
        target,
        function=settings.evidence,
        prior_weight=prior,
        kl_weight=settings.kl_weight * ramp,
    )
    return WidthLoss(result.loss, result.uncertainty.mean())
