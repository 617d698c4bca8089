"""The loss of every width: the base loss on the widest, the compatible loss on the others."""

from typing import NamedTuple

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
    """`loss`: scalar. `uncertainty`: its mean over the batch, detached; None where the loss has none."""

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
        widest: the widest network's features [n, D] of the same batch, detached, where `needs_widest`.
        step: for the annealing of λ.
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
    """Whether a loss below the widest network refers to its features."""
    return section.compatible in ("triplet", "soft-targets") or section.distil > 0 or section.soft_targets > 0


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
    if section.compatible == "base":
        return WidthLoss(_base(features, target, classifier, section), None)
    if section.compatible == "cross-entropy":
        logits = classifier(features)
        return WidthLoss(F.cross_entropy(logits, target, label_smoothing=section.label_smoothing), None)
    if section.compatible == "triplet":
        return WidthLoss(hard_triplet(features, target, section.triplet_margin, widest), None)
    if section.compatible == "soft-targets":
        assert widest is not None
        return WidthLoss(_soft_targets(features, classifier, widest, section), None)
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
