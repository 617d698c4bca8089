"""Every aggregator turns the Gramian of m gradients into m weights: the update is Σ w_i g_i (docs/method.md §3).

MGDA, CAGrad and UPGrad are torchjd's (extra `aggregators`). A new aggregator is a name in `config/sections.py` and
a case in both functions here.
"""

from typing import Literal, assert_never

import torch
from torch import Tensor

from sfsc_bundle.extras import installing
from sfsc_training.aggregation.projection import projection_weights
from sfsc_training.config import AggregationSection
from sfsc_training.errors import RecipeError

__all__ = ["aggregation_weights", "needs_nonzero"]


def aggregation_weights(gramian: Tensor, section: AggregationSection, generator: torch.Generator) -> Tensor:
    """Weights w [m] of the update Σ w_i g_i.

    Args:
        gramian: [m, m], g_i·g_j.
        generator: draws the projection orders; on the CPU.

    Raises:
        RecipeError: the aggregator needs torchjd, which is not installed.
    """
    match section.kind:
        case "projection":
            return projection_weights(gramian, generator)
        case "sum":
            return gramian.new_ones(len(gramian))
        case "mean":
            return gramian.new_full((len(gramian),), 1 / len(gramian))
        case "mgda" | "cagrad" | "upgrad":
            products = gramian.detach().to("cpu", torch.float64)
            size = products.diagonal().mean()
            # torchjd compares norms with constants; the weights do not depend on the scale.
            scaled = products / size if size > 0 else products
            return _torchjd_weights(section.kind, scaled, section.cagrad_c).to(gramian.device, gramian.dtype)
        case _:
            assert_never(section.kind)


def needs_nonzero(section: AggregationSection) -> bool:
    """Whether a single zero gradient makes the whole update zero."""
    match section.kind:
        case "mgda" | "cagrad":
            return True
        case "projection" | "sum" | "mean" | "upgrad":
            return False
        case _:
            assert_never(section.kind)


def _torchjd_weights(kind: Literal["mgda", "cagrad", "upgrad"], gramian: Tensor, cagrad_c: float) -> Tensor:
    try:
        from torchjd.aggregation import CAGradWeighting, MGDAWeighting, UPGradWeighting

        match kind:
            case "mgda":
                return MGDAWeighting()(gramian)
            case "cagrad":
                return CAGradWeighting(cagrad_c)(gramian)
            case "upgrad":
                return UPGradWeighting()(gramian)
            case _:
                assert_never(kind)
    except ImportError as error:
        raise RecipeError(
            f"aggregation.kind {kind} needs the extra `aggregators` ({error}): {installing('aggregators')}"
        ) from error
