"""One update out of m flat gradients, over the whole vector or by parts: shells between crops, or tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sfsc_training.aggregation.projection import conflict_share
from sfsc_training.aggregation.weights import aggregation_weights
from sfsc_training.config import AggregationSection

__all__ = ["Aggregate", "aggregate", "gramian_of", "shells"]

_BLOCK = 8192


class Aggregate(NamedTuple):
    """`update` [P]; `norms` ‖g_i‖ [m]; `conflicts`: share of conflicting pairs over the whole vectors."""

    update: Tensor
    norms: Tensor
    conflicts: float


def aggregate(
    gradients: Tensor,
    section: AggregationSection,
    generator: torch.Generator,
    parts: Sequence[Tensor] | None = None,
) -> Aggregate:
    """Combine gradients [m, P] of the shared parameters into one update [P].

    By parts, MGDA and CAGrad are over the widths that have a gradient there; the others take them all.

    Args:
        generator: draws the projection orders.
        parts: for the scopes overlap and tensor, the positions of each part (see `shells`).
    """
    gramian = gramian_of(gradients)
    norms, conflicts = gramian.diagonal().sqrt(), conflict_share(gramian)
    if section.scope == "flat" or parts is None:
        return Aggregate(aggregation_weights(gramian, section, generator) @ gradients, norms, conflicts)
    update = torch.empty_like(gradients[0])
    for part in parts:
        shell = gradients[:, part]
        if section.kind in ("mgda", "cagrad"):  # a width that ends before this shell would make both nothing
            shell = shell[shell.any(dim=1)]
        update[part] = aggregation_weights(gramian_of(shell), section, generator) @ shell
    return Aggregate(update, norms, conflicts)


def gramian_of(gradients: Tensor) -> Tensor:
    """Inner products [m, m] of the rows of [m, P].

    By blocks, for the processor multiplies few and very long rows at a fraction of its speed.
    """
    blocks = gradients.shape[1] // _BLOCK
    if blocks < 2:
        return gradients @ gradients.T
    cut = gradients[:, : blocks * _BLOCK].view(len(gradients), blocks, _BLOCK).transpose(0, 1)
    rest = gradients[:, blocks * _BLOCK :]
    return torch.bmm(cut, cut.transpose(1, 2)).sum(dim=0) + rest @ rest.T


def shells(reached: Tensor) -> list[Tensor]:
    """Positions of each shell: the parameters that the same widths use.

    Args:
        reached: bool [m, P], which width's crop contains which parameter; crops are nested.

    Returns:
        One int64 tensor per non-empty shell, together every position that any width uses.
    """
    depth = reached.sum(dim=0)
    groups = (torch.nonzero(depth == count).squeeze(1) for count in range(1, len(reached) + 1))
    return [positions for positions in groups if len(positions)]
