"""The base loss of the widest network (docs/method.md §2.1): cross-entropy, ArcFace, CosFace or Circle.

The margin losses are pytorch-metric-learning's, computed with the class vectors of the shared classifier instead
of their own. Circle is the classification form of Sun et al. 2020, eq. 4: class vectors are reference embeddings.
"""

import math
from typing import assert_never

import torch
from pytorch_metric_learning.losses import ArcFaceLoss, CircleLoss, CosFaceLoss
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.losses.classifier import Classifier, single_precision

__all__ = ["base_loss"]


def base_loss(features: Tensor, target: Tensor, classifier: Classifier, section: LossSection) -> Tensor:
    """Mean loss of features [n, D] of the classes int64 [n]: a scalar, without the triplet term."""
    features, weight = single_precision(features), classifier.weight
    match section.base:
        case "cross-entropy":
            return F.cross_entropy(classifier(features), target, label_smoothing=section.label_smoothing)
        case "arcface":
            margin = 0.5 if section.margin is None else section.margin
            return _with_margin(ArcFaceLoss, math.degrees(margin), features, target, weight, section.scale)
        case "cosface":
            margin = 0.35 if section.margin is None else section.margin
            return _with_margin(CosFaceLoss, margin, features, target, weight, section.scale)
        case "circle":
            margin = 0.25 if section.margin is None else section.margin
            return _circle(features, target, weight, margin, section.scale)
        case _:
            assert_never(section.base)


def _with_margin(
    kind: type[nn.Module], margin: float, features: Tensor, target: Tensor, weight: Tensor, scale: float
) -> Tensor:
    classes, dimension = weight.shape
    with torch.device("meta"):  # the loss's own weights are never used
        loss = kind(num_classes=classes, embedding_size=dimension, margin=margin, scale=scale)
    result: Tensor = functional_call(loss, {"W": weight.t()}, (features, target))
    return result


def _circle(features: Tensor, target: Tensor, weight: Tensor, margin: float, scale: float) -> Tensor:
    every = torch.arange(len(weight), device=target.device)
    loss: Tensor = CircleLoss(m=margin, gamma=scale)(features, target, ref_emb=weight, ref_labels=every)
    return loss
