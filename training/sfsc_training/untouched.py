"""The pretrained network as it came: what a training from its weights is measured against."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from sfsc_bundle.retrieval import evaluate
from sfsc_training.config import Recipe
from sfsc_training.data.dataset import Split
from sfsc_training.device import Device
from sfsc_training.networks.switchable import make_switchable_family

__all__ = ["evaluate_untouched", "passes"]

_BATCH = 128


def evaluate_untouched(
    recipe: Recipe, split: Split, images: npt.NDArray[np.uint8], device: Device, advance: Callable[[], None]
) -> dict[str, Any] | None:
    """mAP and rank-1 of the pooled features at full width; None for a recipe that starts from no weights.

    Args:
        images: those of the split, uint8 [n, H, W, 3].
        advance: called `passes(n)` times.
    """
    if not recipe.network.from_weights or not len(split.query):
        return None
    rows, labels = _features(recipe, images, device, advance), split.labels()
    scores = evaluate(rows[split.query], labels.take(split.query), rows[split.gallery], labels.take(split.gallery))
    return asdict(scores)


@torch.inference_mode()
def _features(
    recipe: Recipe, images: npt.NDArray[np.uint8], device: Device, advance: Callable[[], None]
) -> npt.NDArray[np.float32]:
    network = make_switchable_family(recipe.network, [1.0]).to(device).eval()
    rows = []
    for start in range(0, len(images), _BATCH):
        batch = np.ascontiguousarray(images[start : start + _BATCH].transpose(0, 3, 1, 2))
        rows.append(F.normalize(network.pooled(torch.from_numpy(batch).to(device))).cpu().numpy())
        advance()
    return np.concatenate(rows)


def passes(images: int) -> int:
    """How often `evaluate_untouched` calls `advance`."""
    return math.ceil(images / _BATCH)
