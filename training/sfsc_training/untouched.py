"""The pretrained network as it came: what a training from its weights is measured against."""

from dataclasses import asdict
from typing import Any

import torch

from sfsc_bundle.retrieval import evaluate
from sfsc_training.config import Recipe
from sfsc_training.data.dataset import Split
from sfsc_training.data.images import load_images
from sfsc_training.device import Device
from sfsc_training.embed import unit_rows
from sfsc_training.networks.switchable import make_switchable_family

__all__ = ["evaluate_untouched"]


def evaluate_untouched(recipe: Recipe, split: Split, device: Device) -> dict[str, Any] | None:
    """mAP and rank-1 of the pooled features at full width; None for a recipe that starts from no weights.

    Raises:
        DataError: an image cannot be read.
    """
    if not recipe.network.from_weights:
        return None
    network = make_switchable_family(recipe.network, [1.0]).to(device).eval()
    rows = unit_rows(network.pooled, load_images(split.paths, recipe.data), torch.device(device))
    labels = split.labels()
    scores = evaluate(rows[split.query], labels.take(split.query), rows[split.gallery], labels.take(split.gallery))
    return asdict(scores)
