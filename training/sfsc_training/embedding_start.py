"""Start the embedding of a pretrained backbone at the principal directions of its own features.

A random projection of good features onto D dimensions, trained on few identities, forgets what the weights knew
about all others. The D directions of largest variance over the training images keep it: at full width the new
network is the untouched one, centred, with its smallest components left out.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sfsc_training.errors import DataError
from sfsc_training.networks.family import Family
from sfsc_training.networks.layers import SwitchableNorm
from sfsc_training.networks.separate import Separate
from sfsc_training.networks.switchable import Switchable

__all__ = ["passes", "start_embedding"]

_BATCH = 128


@torch.no_grad()
def start_embedding(family: Family, images: npt.NDArray[np.uint8], advance: Callable[[], None]) -> None:
    """Set embedding and neck from the full width's features of the training images, uint8 [n, H, W, 3].

    Args:
        advance: called `passes(n)` times for each network of the family.

    Raises:
        DataError: fewer images than dimensions.
    """
    for network in family.members if isinstance(family, Separate) else [family]:
        assert isinstance(network, Switchable)
        _start(network, images, advance)


def _start(network: Switchable, images: npt.NDArray[np.uint8], advance: Callable[[], None]) -> None:
    weight = network.embedding.get_parameter("weight")
    if len(images) <= len(weight):
        raise DataError(
            f"network.embedding = 'principal' needs more than {len(weight)} images, one for each dimension; "
            f"found {len(images)}"
        )
    training = network.training
    network.eval()
    features = _features(network, images, advance).double()
    network.train(training)
    mean, length = features.mean(dim=0), features.shape[1]
    kept = min(len(weight), length)
    centred = features - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))  # ascending
    variances, directions = variances.flip(0)[:kept].clamp(min=0), directions.flip(1)[:, :kept]
    weight[:kept, :length] = directions.T.to(weight)
    assert isinstance(network.neck, SwitchableNorm)
    for norm in network.neck.widths:
        assert isinstance(norm, nn.BatchNorm1d)
        # normalised to unit variance, then scaled back: distances are those of the features
        norm.weight[:kept] = ((variances + norm.eps) / (variances[0] + norm.eps)).sqrt().to(weight)
        norm.get_buffer("running_mean")[:kept] = (mean @ directions).to(weight)
        norm.get_buffer("running_var")[:kept] = variances.to(weight)


def _features(network: Switchable, images: npt.NDArray[np.uint8], advance: Callable[[], None]) -> Tensor:
    device, rows = next(network.parameters()).device, []
    for start in range(0, len(images), _BATCH):
        batch = np.ascontiguousarray(images[start : start + _BATCH].transpose(0, 3, 1, 2))
        rows.append(network.pooled(torch.from_numpy(batch).to(device)))
        advance()
    return torch.cat(rows)


def passes(images: int) -> int:
    """How often `start_embedding` calls `advance`."""
    return math.ceil(images / _BATCH)
