"""A finished or unfinished run, opened from its folder to be evaluated, exported or used as a teacher."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sfsc_training.alignment import Maps
from sfsc_training.alignment_file import RunAlignment, read_alignment
from sfsc_training.checkpoint import older_space, read_checkpoint, read_labels, read_recipe
from sfsc_training.config import Recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.device import Device, check_device
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.classifier import make_classifier
from sfsc_training.networks.build import make_family
from sfsc_training.networks.family import Family

__all__ = ["Run", "open_run"]


@dataclass(frozen=True, slots=True)
class Run:
    """A trained network with its recipe.

    `step`: after how many steps it had these weights; `steps_made`: how many the training made; `labels`: the
    identity of each class of `classifier`; `alignment`: None where the run was never aligned.
    """

    folder: Path
    recipe: Recipe
    family: Family
    step: int
    steps_made: int
    classifier: nn.Module
    labels: tuple[str, ...]
    weights_sha256: str
    alignment: RunAlignment | None = None

    @property
    def maps(self) -> Maps:
        """The map of each width; empty where embeddings stay as the network makes them."""
        return {} if self.alignment is None else self.alignment.maps

    @property
    def space(self) -> str:
        """Id of the embedding space; every training result has its own, and another one with every alignment."""
        space = f"{self.recipe.name}-{self.weights_sha256[:12]}"
        return f"{space}-{self.alignment.sha256[:8]}" if self.alignment is not None and self.maps else space

    @property
    def compatible_with(self) -> tuple[str, ...]:
        """Ids of the older spaces that these embeddings can be compared with."""
        if self.alignment is not None and self.maps:
            return self.alignment.compatible_with
        older = older_space(self.folder)
        return () if older is None else (older,)

    def unaligned(self) -> "Run":
        """The same run as the training left it."""
        return replace(self, alignment=None)


def open_run(folder: Path, dataset: Dataset | None = None, device: Device = "cpu", *, aligned: bool = True) -> Run:
    """Load the network of a run, in evaluation mode.

    Args:
        dataset: if given, it must be the data that the run was trained on.
        aligned: read the run's alignment, too.

    Raises:
        CheckpointError: the folder holds no usable run, the run was trained on other data, or its alignment was
            fitted to other weights.
        TrainingError: CUDA is asked for and there is none.
    """
    check_device(device)
    recipe = read_recipe(folder)
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: train first")
    if dataset is not None and checkpoint.data_sha256 != dataset.sha256:
        raise CheckpointError(f"{folder} was trained on other data than --data holds now")
    untrained = recipe.network.model_copy(update={"pretrained": False, "weights": None, "weights_file": None})
    family, labels = make_family(untrained, recipe.widths), read_labels(folder)
    classifier = make_classifier(recipe.network.dimension, len(labels), len(recipe.widths), recipe.loss)
    network, class_vectors = checkpoint.result()
    try:
        family.load_state_dict(network)
        family.normalise_as(checkpoint.normalisation_of(recipe.network))
        classifier.load_state_dict(class_vectors)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: the checkpoint does not fit the recipe's network") from error
    family = family.to(memory_format=torch.channels_last).to(device).eval()
    weights = checkpoint.weights_sha256
    alignment = read_alignment(folder, weights, recipe.width_names) if aligned else None
    return Run(
        folder, recipe, family, checkpoint.result_step, checkpoint.step, classifier, labels, weights, alignment
    )
