"""κ, the classifier whose class vectors all widths share (docs/method.md §1.2)."""

from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.simplex import simplex

__all__ = ["Classifier", "classifier_of", "make_classifier", "single_precision"]


class Classifier(nn.Module):
    """One vector per class, learned or fixed, never cropped. Logits are scale × cosine, or the inner product."""

    def __init__(self, dimension: int, classes: int, section: LossSection) -> None:
        super().__init__()
        match section.class_vectors:
            case "learned":
                self.weight = nn.Parameter(torch.empty(classes, dimension))
                nn.init.normal_(self.weight, std=dimension**-0.5)
            case "simplex":
                self.weight = nn.Parameter(simplex(classes, dimension), requires_grad=False)
            case _:
                assert_never(section.class_vectors)
        self._logits, self._scale = section.logits, section.scale

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, D] → logits [n, K], at least float32."""
        features = single_precision(features)
        match self._logits:
            case "cosine":
                return self._scale * F.linear(F.normalize(features), F.normalize(self.weight))
            case "linear":
                return F.linear(features, self.weight)
            case _:
                assert_never(self._logits)


def make_classifier(dimension: int, classes: int, widths: int, section: LossSection) -> nn.Module:
    """One classifier for all widths, or a `ModuleList` with one for each."""
    match section.classifier:
        case "shared":
            return Classifier(dimension, classes, section)
        case "separate":
            return nn.ModuleList(Classifier(dimension, classes, section) for _ in range(widths))
        case _:
            assert_never(section.classifier)


def classifier_of(classifier: nn.Module, index: int) -> Classifier:
    """The classifier of one width. Raises CheckpointError where it has none."""
    found = classifier[index] if isinstance(classifier, nn.ModuleList) else classifier
    if not isinstance(found, Classifier):
        raise CheckpointError(f"the run has no classifier for width number {index}")
    return found


def single_precision(values: Tensor) -> Tensor:
    """Convert to float32, but keep float64: losses are never computed in half precision."""
    return values if values.dtype == torch.float64 else values.float()
