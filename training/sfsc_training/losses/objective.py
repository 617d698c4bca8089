"""The loss of each width (docs/method.md §2): the base loss at the widest, the compatible loss at the others.

A new loss is a name in `config/sections.py` and a case in `base_loss`, or in `_compatible` and `needs_widest`.
"""

from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.losses.base import base_loss
from sfsc_training.losses.classifier import Classifier
from sfsc_training.losses.distillation import distance_to, soft_target_loss
from sfsc_training.losses.evidential import evidential_loss
from sfsc_training.losses.triplet import hard_triplet

__all__ = ["WidthLoss", "needs_widest", "width_loss"]


class WidthLoss(NamedTuple):
    """`loss`: a scalar. `uncertainty`: mean of u over the batch, detached; None where the loss estimates none."""

    loss: Tensor
    uncertainty: Tensor | None


def width_loss(
    features: Tensor,
    target: Tensor,
    classifier: Classifier,
    *,
    full: bool,
    widest: Tensor | None,
    step: int,
    section: LossSection,
) -> WidthLoss:
    """The loss of one width from features [n, D] and classes int64 [n].

    Args:
        full: whether this is the widest, which has the base loss.
        widest: features [n, D] of the same batch at the widest width, detached; required where `needs_widest`.
        step: of the training, for the annealing of λ.
    """
    if full:
        return WidthLoss(_base(features, target, classifier, section), None)
    result = _compatible(features, target, classifier, widest, step, section)
    loss = result.loss
    if section.cross_entropy:
        loss = loss + section.cross_entropy * F.cross_entropy(classifier(features), target)
    if section.distil and widest is not None:
        loss = loss + section.distil * distance_to(features, widest)
    if section.soft_targets and widest is not None:
        loss = loss + section.soft_targets * _soft_targets(features, classifier, widest, section)
    return WidthLoss(loss, result.uncertainty)


def needs_widest(section: LossSection) -> bool:
    """Whether the loss of a narrower width refers to the features of the widest."""
    if section.distil > 0 or section.soft_targets > 0:
        return True
    match section.compatible:
        case "triplet" | "soft-targets":
            return True
        case "evidential" | "cross-entropy" | "base":
            return False
        case _:
            assert_never(section.compatible)


def _base(features: Tensor, target: Tensor, classifier: Classifier, section: LossSection) -> Tensor:
    loss = base_loss(features, target, classifier, section)
    if section.triplet:
        loss = loss + section.triplet * hard_triplet(features, target, section.triplet_margin)
    return loss


def _soft_targets(features: Tensor, classifier: Classifier, widest: Tensor, section: LossSection) -> Tensor:
    with torch.no_grad():
        reference = classifier(widest)
    return soft_target_loss(classifier(features), reference, section.temperature)


def _compatible(
    features: Tensor,
    target: Tensor,
    classifier: Classifier,
    widest: Tensor | None,
    step: int,
    section: LossSection,
) -> WidthLoss:
    match section.compatible:
        case "evidential":
            settings = section.evidential
            ramp = min(1.0, step / settings.anneal_steps) if settings.anneal_steps else 1.0
            result = evidential_loss(
                classifier(features),
                target,
                function=settings.evidence,
                prior_weight=None if settings.prior_weight == "classes" else float(settings.prior_weight),
                kl_weight=settings.kl_weight * ramp,
            )
            return WidthLoss(result.loss, result.uncertainty.mean())
        case "cross-entropy":
            logits = classifier(features)
            return WidthLoss(F.cross_entropy(logits, target, label_smoothing=section.label_smoothing), None)
        case "base":
            return WidthLoss(_base(features, target, classifier, section), None)
        case "triplet":
            return WidthLoss(hard_triplet(features, target, section.triplet_margin, widest), None)
        case "soft-targets":
            assert widest is not None
            return WidthLoss(_soft_targets(features, classifier, widest, section), None)
        case _:
            assert_never(section.compatible)
