"""Fold a linear map of the embedding into the layers that make it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sfsc_training.errors import ExportError

__all__ = ["fold_map"]


def fold_map(plain: nn.Sequential, values: npt.NDArray[np.float32]) -> nn.Sequential:
    """Change a sliced network, in place, so that it embeds as f A where it embedded as f; its layers stay.

    The last two layers are f = s ⊙ (W x − μ) + β with s = γ / √(σ² + ε), so

        f A = 1 ⊙ (W′ x − μ′) + β′        W′ = Aᵀ diag(s) W        μ′ = Aᵀ (s ⊙ μ)        β′ = Aᵀ β

    Args:
        values: the map A float32 [D, D].

    Raises:
        ExportError: the network does not end in a linear layer without bias and a batch normalisation.
    """
    linear, norm = plain[-2], plain[-1]
    has_bias = "bias" in dict(linear.named_parameters())
    if has_bias or not (isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d)):
        raise ExportError("an alignment is folded into a linear layer without bias and a batch normalisation")
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    transposed = torch.from_numpy(values).double().T
    with torch.no_grad():
        scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
        linear.weight.copy_(transposed @ (scale[:, None] * linear.weight.double()))
        mean.copy_(transposed @ (scale * mean.double()))
        norm.bias.copy_(transposed @ norm.bias.double())
        variance.fill_(1.0)
        norm.weight.fill_((1.0 + norm.eps) ** 0.5)
    return plain
