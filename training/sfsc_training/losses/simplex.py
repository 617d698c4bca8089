"""Fixed class vectors (Pernici et al. 2021, "Regular Polytope Networks"; Biondi et al. 2023, "CoReS").

Class vectors that never move are the same for every width and every run, so that all of them share one space.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["simplex"]

_SEED = 0  # fixed, so that two runs with as many classes have the same vectors


def simplex(classes: int, dimension: int) -> Tensor:
    """K unit vectors spread evenly over the sphere: float32 [K, D].

    If D ≥ K − 1 they are the corners of a regular simplex: every cosine is −1/(K − 1). With fewer dimensions they
    are the projection of those corners onto a random subspace, scaled back to unit length.
    """
    generator = torch.Generator().manual_seed(_SEED)
    kept = min(dimension, classes - 1)
    around_centre = torch.randn(classes, kept + 1, dtype=torch.float64, generator=generator)
    around_centre[:, 0] = 1
    corners = torch.linalg.qr(around_centre).Q[:, 1:]
    into = torch.linalg.qr(torch.randn(dimension, kept, dtype=torch.float64, generator=generator)).Q
    return F.normalize(corners @ into.T).float()
