"""All state of the loop, to and from the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfsc_training.checkpoint import Checkpoint, read_checkpoint, read_labels, read_recipe, write_json
from sfsc_training.config import Recipe
from sfsc_training.data.reader import Dataset
from sfsc_training.errors import CheckpointError
from sfsc_training.losses.classifier import make_classifier
from sfsc_training.networks.build import check_widths, make_family
from sfsc_training.networks.family import Family
from sfsc_training.optimisers import make_optimiser
from sfsc_training.teacher import Teacher, freeze_full

__all__ = ["State", "make_state", "open_folder"]


@dataclass(frozen=True, slots=True)
class State:
    """What a run trains, and the averages of it (network, classifier) where optimiser.ema asks for them."""

    family: Family
    classifier: nn.Module
    optimiser: torch.optim.Optimizer
    averaged: tuple[AveragedModel, AveragedModel] | None

    def average(self) -> None:
        """Move the averaged weights towards the present ones."""
        if self.averaged is not None:
            self.averaged[0].update_parameters(self.family)
            self.averaged[1].update_parameters(self.classifier)

    def buffers(self) -> list[torch.Tensor]:
        """Running statistics, which differ between processes."""
        modules = (self.family, *(self.averaged or ()))
        return [buffer for module in modules for buffer in module.buffers() if buffer.is_floating_point()]

    def checkpoint(self, step: int, recipe: Recipe, dataset: Dataset, teacher: Teacher | None) -> Checkpoint:
        """Everything after `step` steps."""
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
        )

    def start_from(self, folder: Path, identities: Sequence[str]) -> None:
        """Take over the weights of a run; of its classifier, too, where it knows the same identities.

        Raises:
            CheckpointError: there is no such run, or it is of another network.
        """
        checkpoint = read_checkpoint(folder)
        if checkpoint is None:
            raise CheckpointError(f"network.start: {folder} has no checkpoint")
        network, classifier = checkpoint.result()
        try:
            self.family.load_state_dict(network)
            if read_labels(folder) == tuple(identities):
                self.classifier.load_state_dict(classifier)
        except RuntimeError as error:
            raise CheckpointError(f"network.start: the run in {folder} is of another network") from error

    def load(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Take over a checkpoint. Raises CheckpointError where it is of another network."""
        try:
            self.family.load_state_dict(checkpoint.network)
            self.classifier.load_state_dict(checkpoint.classifier)
            self.optimiser.load_state_dict(dict(checkpoint.optimiser))
            if self.averaged is not None and checkpoint.averaged is not None:
                for mean, name in zip(self.averaged, ("network", "classifier"), strict=True):
                    mean.load_state_dict(checkpoint.averaged[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint in {folder} is of another network") from error


def make_state(recipe: Recipe, classes: int, teacher: Teacher | None, device: str) -> State:
    """Fresh weights, drawn from torch's global generator; a teacher's frozen parts in their places.

    Raises:
        NetworkError: the recipe's network cannot be made, or does not run at one of its widths.
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


def open_folder(folder: Path, recipe: Recipe, dataset: Dataset, teacher: Teacher | None) -> Checkpoint | None:
    """Start a run folder, or find the checkpoint in it.

    Raises:
        CheckpointError: the folder holds a run of another recipe, other identities, data or teacher.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "recipe.json").exists() and read_recipe(folder).sha256 != recipe.sha256:
        raise CheckpointError(f"{folder} holds a run of another recipe; give another --out")
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
        write_json(folder / "labels.json", dataset.train.identities)
        if teacher is not None and recipe.teacher is not None:
            compatible = recipe.teacher.full or recipe.teacher.classifier or recipe.teacher.classify > 0
            write_json(folder / "teacher.json", teacher.describe() | {"compatible": compatible})
        return None
    labels, here = len(read_labels(folder)), len(dataset.train.identities)
    if labels != here:
        raise CheckpointError(
            f"the run in {folder} classifies {labels} identities, this data has {here} to train on; "
            "give another --out"
        )
    wanted = {
        "data": (checkpoint.data_sha256, dataset.sha256),
        "teacher": (checkpoint.teacher_sha256, teacher.run.weights_sha256 if teacher else None),
    }
    for name, (there, now) in wanted.items():
        if there != now:
            raise CheckpointError(f"the checkpoint in {folder} is of other {name}; give another --out")
    return checkpoint


def _averaged(module: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
