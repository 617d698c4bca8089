"""One update out of m gradients: over the whole vector, or separately in each of several regions of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfsc_training.aggregation.projection import conflict_share
from sfsc_training.aggregation.weights import aggregation_weights, needs_nonzero
from sfsc_training.config import AggregationSection

__all__ = ["Update", "aggregate", "gramian_of", "shells"]

_BLOCK = 8192  # columns


class Update(NamedTuple):
    """`vector` [P]; `norms` ‖g_i‖ [m], on the CPU; `conflicts`: share of pairs i < j with g_i·g_j < 0."""

    vector: Tensor
    norms: Tensor
    conflicts: float


def aggregate(
    gradients: Tensor,
    section: AggregationSection,
    generator: torch.Generator,
    regions: Sequence[Tensor] | None = None,
) -> Update:
    """Combine gradients [m, P] of the shared parameters into one update [P] (docs/method.md §3).

    Args:
        generator: draws the projection orders.
        regions: columns of each region that is aggregated on its own, together all of them; None: one region.
    """
    # A GPU would be waited for at each of the small steps that follow.
    gramian = gramian_of(gradients).cpu()
    norms, conflicts = gramian.diagonal().sqrt(), conflict_share(gramian)
    scales = _scales(norms) if section.equal_norms else torch.ones_like(norms)

    def combine(rows: Tensor, products: Tensor, scales: Tensor) -> Tensor:
        scaled = scales.unsqueeze(1) * products * scales
        return (aggregation_weights(scaled, section, generator) * scales).to(rows.device) @ rows

    if regions is None:
        return Update(combine(gradients, gramian, scales), norms, conflicts)
    vector = torch.empty_like(gradients[0])
    for columns in regions:
        inside, own = gradients[:, columns], scales
        if needs_nonzero(section):  # a width whose crop ends before this region has no gradient in it
            reaching = inside.any(dim=1)
            inside, own = inside[reaching], scales[reaching.cpu()]
        vector[columns] = combine(inside, gramian_of(inside).cpu(), own)
    return Update(vector, norms, conflicts)


def _scales(norms: Tensor) -> Tensor:
    """Factors [m] that give gradients of these norms [m] their mean norm; a gradient of zero stays one."""
    return torch.where(norms > 0, norms.mean() / norms, torch.ones_like(norms))


def gramian_of(gradients: Tensor) -> Tensor:
    """Inner products [m, m] of the rows of [m, P].

    In blocks of columns: a CPU multiplies a few very long rows at a fraction of its speed.
    """
    blocks = gradients.shape[1] // _BLOCK
    if blocks < 2:
        return gradients @ gradients.T
    cut = gradients[:, : blocks * _BLOCK].view(len(gradients), blocks, _BLOCK).transpose(0, 1)
    rest = gradients[:, blocks * _BLOCK :]
    return torch.bmm(cut, cut.transpose(1, 2)).sum(dim=0) + rest @ rest.T


def shells(reached: Tensor) -> list[Tensor]:
    """The columns between consecutive crops: each shell holds the weights that the same widths use.

    Args:
        reached: bool [m, P], whether a width's crop contains a weight; crops are nested.

    Returns:
        One int64 tensor of columns per non-empty shell, from the widest width's own inwards.
    """
    depth = reached.sum(dim=0)
    groups = (torch.nonzero(depth == count).squeeze(1) for count in range(1, len(reached) + 1))
    return [positions for positions in groups if len(positions)]
