"""Base losses of the widest network: cross-entropy, ArcFace, CosFace, Circle.

The margin losses are pytorch-metric-learning's; they read the shared classifier's weights instead of their own.
Circle is the classification form of Sun et al. 2020, eq. 4: each class vector is one reference embedding.
"""

import math

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CircleLoss, CosFaceLoss
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.losses.classifier import Classifier, single_precision

__all__ = ["base_loss"]

_USUAL_MARGIN = {"arcface": 0.5, "cosface": 0.35, "circle": 0.25}


def base_loss(features: Tensor, target: Tensor, classifier: Classifier, section: LossSection) -> Tensor:
    """Mean loss of features [n, D] of classes int64 [n]: scalar, without the triplet term."""
    if section.base == "cross-entropy":
        return F.cross_entropy(classifier(features), target, label_smoothing=section.label_smoothing)
    features, weight = single_precision(features), classifier.weight
    margin = _USUAL_MARGIN[section.base] if section.margin is None else section.margin
    if section.base == "circle":
        return _circle(features, target, weight, margin, section.scale)
    classes, dimension = weight.shape
    kind, degrees = (ArcFaceLoss, math.degrees(margin)) if section.base == "arcface" else (CosFaceLoss, margin)
    with torch.device("meta"):  # its own weights are never used
        loss = kind(num_classes=classes, embedding_size=dimension, margin=degrees, scale=section.scale)
    result: Tensor = functional_call(loss, {"W": weight.t()}, (features, target))
    return result


def _circle(features: Tensor, target: Tensor, weight: Tensor, margin: float, scale: float) -> Tensor:
    every = torch.arange(len(weight), device=target.device)
    loss: Tensor = CircleLoss(m=margin, gamma=scale)(features, target, ref_emb=weight, ref_labels=every)
    return loss
