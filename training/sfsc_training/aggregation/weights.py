"""From the Gramian of m gradients to m weights: every aggregator is this, so all share the rest of the code.

MGDA, CAGrad and UPGrad are torchjd's (extra `aggregators`).
"""

import torch
from torch import Tensor

from sfsc_training.aggregation.projection import projection_weights
from sfsc_training.config import AggregationSection
from sfsc_training.errors import RecipeError

__all__ = ["aggregation_weights"]


def aggregation_weights(gramian: Tensor, section: AggregationSection, generator: torch.Generator) -> Tensor:
    """Weights w [m] of the update Σ w_i g_i.

    Args:
        gramian: [m, m], g_i·g_j.
        generator: draws the projection orders; on the CPU.

    Raises:
        RecipeError: the aggregator needs torchjd, which is not installed.
    """
    count = len(gramian)
    if section.kind == "projection":
        return projection_weights(gramian, generator)
    if section.kind == "sum":
        return gramian.new_ones(count)
    if section.kind == "mean":
        return gramian.new_full((count,), 1 / count)
    products = gramian.detach().to("cpu", torch.float64)
    size = products.diagonal().mean()
    # torchjd compares norms with constants; the weights do not depend on the scale.
    weights = _torchjd(products / size if size > 0 else products, section)
    return weights.to(gramian.device, gramian.dtype)


def _torchjd(gramian: Tensor, section: AggregationSection) -> Tensor:
    try:
        from torchjd.aggregation import CAGradWeighting, MGDAWeighting, UPGradWeighting

        if section.kind == "mgda":
            return MGDAWeighting()(gramian)
        weighting = CAGradWeighting(section.cagrad_c) if section.kind == "cagrad" else UPGradWeighting()
    except ImportError as error:
        raise RecipeError(
            f"aggregation.kind {section.kind} needs the extra `aggregators`, which is not installed: {error}"
        ) from error
    return weighting(gramian)
