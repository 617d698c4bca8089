"""Embed images with a network in memory."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from sfsc_training.data.images import Images
from sfsc_training.networks.family import Family

__all__ = ["embed", "unit_rows"]


def embed(
    family: Family,
    pixels: Images,
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
    return unit_rows(
        lambda images: family(images, index), pixels, next(family.parameters()).device, advance, batch=batch
    )


@torch.inference_mode()
def unit_rows(
    network: Callable[[Tensor], Tensor],
    pixels: Images,
    device: torch.device,
    advance: Callable[[], None] | None = None,
    *,
    batch: int = 128,
) -> npt.NDArray[np.float32]:
    """What a network makes of images uint8 [n, H, W, 3], in batches: float32 [n, D], rows of unit length.

    Args:
        network: uint8 [n, 3, H, W] on the device → [n, D].
        advance: called after each batch.
    """
    rows: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(pixels), batch):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch].transpose(0, 3, 1, 2)))
        rows.append(F.normalize(network(images.to(device)).float()).cpu().numpy())
        if advance is not None:
            advance()
    return np.concatenate(rows)
