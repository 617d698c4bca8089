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

__all__ = ["SoftTargets", "WidthLoss", "needs_soft_targets", "needs_widest", "soft_targets_of", "width_loss"]


class WidthLoss(NamedTuple):
    """`loss`: a scalar. `uncertainty`: mean of u over the batch, detached; None where the loss estimates none."""

    loss: Tensor
    uncertainty: Tensor | None


class SoftTargets(NamedTuple):
    """What soft targets are made of, none of it with a gradient.

    `logits` [n, K] of the reference; `classifier`: it makes the logits of a width that are compared with them.
    """

    logits: Tensor
    classifier: Classifier


def width_loss(
    features: Tensor,
    target: Tensor,
    classifier: Classifier,
    *,
    full: bool,
    widest: Tensor | None,
    step: int,
    section: LossSection,
    soft: SoftTargets | None = None,
) -> WidthLoss:
    """The loss of one width from features [n, D] and classes int64 [n].

    Args:
        full: whether this is the widest, which has the base loss.
        widest: features [n, D] of the same batch at the widest width, detached; required where `needs_widest`.
        step: of the training, for the annealing of λ.
        soft: of another reference than the widest, whose soft targets are made here.
    """
    if full:
        return WidthLoss(_base(features, target, classifier, section), None)
    if soft is None and widest is not None and needs_soft_targets(section):
        soft = soft_targets_of(widest, classifier)
    result = _compatible(features, target, classifier, widest, step, section, soft)
    loss = result.loss
    if section.cross_entropy:
        loss = loss + section.cross_entropy * F.cross_entropy(classifier(features), target)
    if section.distil and widest is not None:
        loss = loss + section.distil * distance_to(features, widest)
    if section.soft_targets and soft is not None:
        loss = loss + section.soft_targets * _soft_targets(features, soft, section)
    return WidthLoss(loss, result.uncertainty)


def needs_soft_targets(section: LossSection) -> bool:
    """Whether narrower widths learn class probabilities."""
    return section.compatible == "soft-targets" or section.soft_targets > 0


def needs_widest(section: LossSection) -> bool:
    """Whether the loss of a narrower width refers to the features of the widest."""
    if section.distil > 0 or (needs_soft_targets(section) and section.reference == "widest"):
        return True
    match section.compatible:
        case "triplet":
            return True
        case "evidential" | "cross-entropy" | "base" | "soft-targets":
            return False
        case _:
            assert_never(section.compatible)


def _base(features: Tensor, target: Tensor, classifier: Classifier, section: LossSection) -> Tensor:
    loss = base_loss(features, target, classifier, section)
    if section.triplet:
        loss = loss + section.triplet * hard_triplet(features, target, section.triplet_margin)
    return loss


def soft_targets_of(features: Tensor, classifier: Classifier) -> SoftTargets:
    """The soft targets that features [n, D] of a reference give through a classifier."""
    with torch.no_grad():
        return SoftTargets(classifier(features), classifier)


def _soft_targets(features: Tensor, soft: SoftTargets, section: LossSection) -> Tensor:
    return soft_target_loss(soft.classifier(features), soft.logits, section.temperature, section.divergence)


def _compatible(
    features: Tensor,
    target: Tensor,
    classifier: Classifier,
    widest: Tensor | None,
    step: int,
    section: LossSection,
    soft: SoftTargets | None,
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
            assert soft is not None
            return WidthLoss(_soft_targets(features, soft, section), None)
        case _:
            assert_never(section.compatible)
