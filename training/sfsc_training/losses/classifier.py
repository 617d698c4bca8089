"""κ: the classifier through which the widths meet (method §1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_training.config import LossSection
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.simplex import simplex

__all__ = ["Classifier", "classifier_of", "make_classifier", "single_precision"]


class Classifier(nn.Module):
    """One vector a class, learned or fixed, never cropped. Logits are cosine × scale, or the plain product."""

    def __init__(self, dimension: int, classes: int, section: LossSection) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimension))
        if section.class_vectors == "simplex":
            self.weight = nn.Parameter(simplex(classes, dimension), requires_grad=False)
        else:
            nn.init.normal_(self.weight, std=dimension**-0.5)
        self._cosine, self._scale = section.logits == "cosine", section.scale

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, D] → logits [n, K], float32 at least."""
        features = single_precision(features)
        if self._cosine:
            return self._scale * F.linear(F.normalize(features), F.normalize(self.weight))
        return F.linear(features, self.weight)


def make_classifier(dimension: int, classes: int, widths: int, section: LossSection) -> nn.Module:
    """One classifier for all widths, or a `ModuleList` of one for each."""
    if section.classifier == "shared":
        return Classifier(dimension, classes, section)
    return nn.ModuleList(Classifier(dimension, classes, section) for _ in range(widths))


def classifier_of(classifier: nn.Module, index: int) -> Classifier:
    """The classifier that one width uses. Raises CheckpointError where there is none for it."""
    found = classifier[index] if isinstance(classifier, nn.ModuleList) else classifier
    if not isinstance(found, Classifier):
        raise CheckpointError(f"there is no classifier for width number {index}")
    return found


def single_precision(values: Tensor) -> Tensor:
    """float32 unless it is float64: losses are never computed in half precision."""
    return values if values.dtype == torch.float64 else values.float()
