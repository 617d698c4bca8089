"""What training changes: network, classifier, optimiser and averaged weights; to and from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfsc_training.checkpoint import Best, Checkpoint, read_checkpoint, read_labels
from sfsc_training.config import NetworkSection, Recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.classifier import make_classifier
from sfsc_training.networks.build import check_widths, make_family
from sfsc_training.networks.family import Family
from sfsc_training.optimisers import make_optimiser
from sfsc_training.teacher import Teacher, freeze_full

__all__ = ["State", "make_state"]


@dataclass(slots=True)
class State:
    """`averaged`: exponential averages of network and classifier, where the recipe sets optimiser.ema.

    `best`: the weights that early stopping has kept so far.
    """

    family: Family
    classifier: nn.Module
    optimiser: torch.optim.Optimizer
    averaged: tuple[AveragedModel, AveragedModel] | None
    best: Best | None = None

    def result(self) -> tuple[Family, nn.Module]:
        """Network and classifier as they would be the result now: the averaged ones where there are any."""
        if self.averaged is None:
            return self.family, self.classifier
        family, classifier = (mean.module for mean in self.averaged)
        assert isinstance(family, Family)
        return family, classifier

    def average(self) -> None:
        """Move the averaged weights towards the current ones."""
        if self.averaged is not None:
            self.averaged[0].update_parameters(self.family)
            self.averaged[1].update_parameters(self.classifier)

    def checkpoint(
        self, step: int, recipe: Recipe, dataset: Dataset, teacher: Teacher | None, *, finished: bool
    ) -> Checkpoint:
        """The state after `step` steps, on its way to disk."""
        averaged = None
        if self.averaged is not None:
            averaged = {"network": self.averaged[0].state_dict(), "classifier": self.averaged[1].state_dict()}
        return Checkpoint(
            step,
            recipe.sha256,
            dataset.sha256,
            self.family.state_dict(),
            self.classifier.state_dict(),
            self.optimiser.state_dict(),
            averaged,
            teacher.run.weights_sha256 if teacher else None,
            self.family.normalisation.model_dump(),
            None if self.best is None else {name: getattr(self.best, name) for name in Best.__slots__},
            finished,
        )

    def start_from(self, folder: Path, section: NetworkSection, identities: Sequence[str]) -> None:
        """Load the weights of a finished run, and those of its classifier where it has the same identities.

        Its normalisation comes with them, unless the recipe's section sets another.

        Raises:
            CheckpointError: there is no such run, or it has another network.
        """
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            raise CheckpointError(f"network.start: {folder} has no checkpoint")
        network, classifier = checkpoint.result()
        try:
            self.family.load_state_dict(network)
            if section.normalisation is None:
                self.family.normalise_as(checkpoint.normalisation_of(section))
            if read_labels(folder) == tuple(identities):
                self.classifier.load_state_dict(classifier)
        except RuntimeError as error:
            raise CheckpointError(f"network.start: the run in {folder} has another network") from error

    def load(self, checkpoint: Checkpoint, folder: Path, section: NetworkSection) -> None:
        """Load a checkpoint. Raises CheckpointError where it has another network."""
        try:
            self.family.load_state_dict(checkpoint.network)
            self.family.normalise_as(checkpoint.normalisation_of(section))
            self.classifier.load_state_dict(checkpoint.classifier)
            self.optimiser.load_state_dict(dict(checkpoint.optimiser))
            if self.averaged is not None and checkpoint.averaged is not None:
                for mean, name in zip(self.averaged, ("network", "classifier"), strict=True):
                    mean.load_state_dict(checkpoint.averaged[name])
            self.best = checkpoint.best_weights
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint in {folder} has another network") from error


def make_state(recipe: Recipe, classes: int, teacher: Teacher | None, device: str) -> State:
    """New weights from torch's global generator, with the teacher's frozen parts where the recipe wants them.

    Raises:
        CheckpointError: the teacher's network is not the recipe's.
        NetworkError: the recipe's network cannot be built, or does not run at one of its widths.
    """
    family = make_family(recipe.network, recipe.widths).to(memory_format=torch.channels_last)
    check_widths(family, recipe.widths, recipe.data.height, recipe.data.width)
    classifier = make_classifier(recipe.network.dimension, classes, len(recipe.widths), recipe.loss)
    if teacher is not None and recipe.teacher is not None:
        if recipe.teacher.full:
            freeze_full(family, teacher)
        if recipe.teacher.classifier:
            classifier.load_state_dict(teacher.classifier.state_dict())
            classifier.requires_grad_(False)
    modules = [family, classifier]
    if teacher is not None:
        modules += [teacher.run.family, teacher.classifier]
    for module in modules:
        module.to(device, torch.float64 if recipe.optimiser.float64 else torch.float32)
    optimiser = make_optimiser([*family.parameters(), *classifier.parameters()], recipe.optimiser)
    averaged = None
    if recipe.optimiser.ema:
        averaged = (_averaged(family, recipe.optimiser.ema), _averaged(classifier, recipe.optimiser.ema))
    return State(family, classifier, optimiser, averaged)


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
