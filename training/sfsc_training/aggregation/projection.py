"""Gradient projection (docs/method.md §3.1): PCGrad, Yu et al. 2020, "Gradient Surgery for Multi-Task Learning".

Computed on the Gramian: every projected gradient is a linear combination of the original ones, so their inner
products decide everything and the long vectors are read twice only: for the Gramian, and for the weighted sum.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["conflict_share", "projection_weights"]


def projection_weights(gramian: Tensor, generator: torch.Generator) -> Tensor:
    """Weights w [m] so that Σ w_i g_i is the sum of the projected gradients.

    Algorithm 1: start from g = g_i; for all j ≠ i in random order, if g·g_j < 0: g ← g − (g·g_j / ‖g_j‖²) g_j,
    with the original g_j.

    Args:
        gramian: [m, m], g_i·g_j.
        generator: draws the orders; on the CPU.
    """
    # In numpy: to call torch takes longer than to compute m numbers.
    products = gramian.detach().to("cpu", torch.float64).numpy()
    size = len(products)
    combination = np.eye(size)  # row i: the projected g_i in terms of the originals
    for i in range(size):
        for j in torch.randperm(size, generator=generator).tolist():
            overlap = combination[i] @ products[:, j]
            if j != i and overlap < 0:
                combination[i, j] -= overlap / products[j, j]
    return torch.from_numpy(combination.sum(axis=0)).to(gramian.device, gramian.dtype)


def conflict_share(gramian: Tensor) -> float:
    """Share of the pairs i < j with g_i·g_j < 0."""
    size = len(gramian)
    upper = torch.triu_indices(size, size, offset=1)
    return float((gramian[upper[0], upper[1]] < 0).float().mean()) if size > 1 else 0.0
