"""Embed images with a network in memory."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sfsc_training.networks.family import Family

__all__ = ["embed"]


@torch.inference_mode()
def embed(
    family: Family,
    pixels: npt.NDArray[np.uint8],
    index: int,
    advance: Callable[[], None] | None = None,
    *,
    batch: int = 128,
) -> npt.NDArray[np.float32]:
    """Embed images uint8 [n, H, W, 3] at one width: float32 [n, D], rows of unit length.

    Args:
        index: position of the width among those of the family.
        advance: called after each batch.
    """
    family.eval()
    device = next(family.parameters()).device
    rows: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(pixels), batch):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch].transpose(0, 3, 1, 2)))
        rows.append(F.normalize(family(images.to(device), index).float()).cpu().numpy())
        if advance is not None:
            advance()
    return np.concatenate(rows)
