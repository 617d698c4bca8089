"""A finished run that teaches a new one, with its network and classifier frozen (docs/method.md §4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import Recipe, network_differences
from sfsc_training.data.dataset import Split
from sfsc_training.errors import CheckpointError, RecipeError
from sfsc_training.evaluation import embed_split
from sfsc_training.losses.classifier import Classifier, classifier_of
from sfsc_training.losses.distillation import distance_to
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate
from sfsc_training.run import Run, open_run

__all__ = ["Teacher", "check_teacher", "check_teaching", "freeze_full", "load_teacher"]


@dataclass(frozen=True, slots=True)
class Teacher:
    """`run`: the finished run. `classifier`: frozen, with a class vector for each identity of the new run."""

    run: Run
    classifier: Classifier

    @torch.no_grad()
    def distance(self, features: Tensor, images: Tensor, ratio: float) -> Tensor:
        """Mean of 1 − cosine between features [n, D] and the teacher's mean embedding at the widths above `ratio`.

        If the teacher has no wider width, its widest one is used.
        """
        widths = self.run.recipe.widths
        above = [index for index, width in enumerate(widths) if width > ratio] or [len(widths) - 1]
        found = torch.stack([F.normalize(self.run.family(images, index)) for index in above]).mean(dim=0)
        with torch.enable_grad():
            return distance_to(features, found)

    def describe(self) -> dict[str, object]:
        """What the new run stores about its teacher in teacher.json."""
        return {"name": self.run.recipe.name, "space": self.run.space, "sha256": self.run.weights_sha256}


def check_teacher(folder: Path | None, recipe: Recipe) -> None:
    """What can be said of a teacher before its weights are read.

    Raises:
        RecipeError: the recipe has a section [teacher] and no run is given, or the other way round.
        CheckpointError: the teacher is no run, or has another dimension, or another widest network where
            teacher.full is set.
    """
    check_teaching(None if folder is None else read_recipe(folder), recipe, str(folder))


def check_teaching(there: Recipe | None, recipe: Recipe, name: str) -> None:
    """Whether a run of the recipe `there`, which may not be trained yet, can teach one of `recipe`.

    Args:
        there: None: there is no teacher.
        name: of the teacher, for messages.

    Raises:
        RecipeError, CheckpointError: as `check_teacher`.
    """
    section = recipe.teacher
    if section is None or there is None:
        if section is None and there is None:
            return
        raise RecipeError(
            f"recipe {recipe.name} needs a finished run as its teacher; give --teacher RUN, or in a sweep teacher"
            if there is None
            else f"recipe {recipe.name} has no section [teacher] that says how to use {name}"
        )
    if there.network.dimension != recipe.network.dimension:
        raise CheckpointError(
            f"the teacher {name} has embeddings of dimension {there.network.dimension}; the recipe has "
            f"network.dimension = {recipe.network.dimension}"
        )
    widest = {"widths": (there.widths[-1],), "network": there.network.model_copy(update={"separate": True})}
    differing = network_differences(
        there.model_copy(update=widest), recipe.model_copy(update={"widths": recipe.widths[-1:]})
    )
    if section.full and differing:
        raise CheckpointError(
            f"teacher.full: the teacher's widest network differs from width 1 of this recipe: {differing}"
        )


def load_teacher(folder: Path | None, recipe: Recipe, split: Split, console: Console) -> Teacher | None:
    """Open the teacher that a recipe asks for; None where it asks for none.

    An identity that the teacher does not know gets the mean of the teacher's embeddings of its images as class
    vector (the synthesised classifier of BCT, Shen et al. 2020).

    Raises:
        RecipeError: the recipe has a section [teacher] and no run is given, or the other way round.
        CheckpointError: the teacher has another dimension, or other identities where teacher.classifier is set.
    """
    check_teacher(folder, recipe)
    section = recipe.teacher
    if section is None or folder is None:
        return None
    run = open_run(folder, aligned=False)  # its class vectors are of the space that it was trained in
    if section.classifier and run.labels != split.identities:
        raise CheckpointError(
            f"the teacher {folder} classifies {len(run.labels)} identities, which are not the "
            f"{len(split.identities)} of this training split"
        )
    known = classifier_of(run.classifier, len(run.recipe.widths) - 1)
    whole = Classifier(recipe.network.dimension, len(split.identities), run.recipe.loss)
    with torch.no_grad():
        whole.weight.copy_(_class_vectors(run, known, split, console))
    for module in (run.family, whole):
        module.requires_grad_(False)
    return Teacher(run, whole)


def freeze_full(family: Family, teacher: Teacher) -> None:
    """Replace the widest network of a family by the teacher's, frozen. Raises CheckpointError if they differ."""
    assert isinstance(family, Separate)
    source, index = teacher.run.family, len(teacher.run.recipe.widths) - 1
    plain, target = source.sliced(index), family.member(len(family.members) - 1)
    try:
        _copy_plain(plain, target)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            "teacher.full: the teacher's widest network differs from width 1 of this recipe"
        ) from error
    target.normalise_as(source.normalisation)
    target.requires_grad_(False)


def _copy_plain(plain: nn.Sequential, member: nn.Module) -> None:
    """Load a sliced network into a family of one width, whose weights have longer names (`….widths.0.…`)."""
    parts = ("normalise", "backbone", "embedding", "neck")
    values = {
        f"{part}.{name}" if name else part: value
        for part, module in zip(parts, plain, strict=True)
        for name, value in module.state_dict().items()
    }
    state = member.state_dict()
    member.load_state_dict(
        {name: values[name.replace("widths.0.", "").replace("switched.", "")] for name in state}
    )
    if len(values) != len(state):
        raise KeyError("the sliced network has further layers")


def _class_vectors(run: Run, known: Classifier, split: Split, console: Console) -> Tensor:
    places = {name: number for number, name in enumerate(run.labels)}
    unknown = [number for number, name in enumerate(split.identities) if name not in places]
    rows = torch.empty(len(split.identities), known.weight.shape[1])
    for number, name in enumerate(split.identities):
        if name in places:
            rows[number] = known.weight[places[name]]
    if unknown:
        rows[unknown] = _centres(run, split, unknown, console) * known.weight.norm(dim=1).mean()
    return rows


def _centres(run: Run, split: Split, classes: Sequence[int], console: Console) -> Tensor:
    embedded = embed_split(run, split, console).embeddings[run.recipe.width_names[-1]]
    centres = np.stack([embedded[split.classes == number].mean(axis=0) for number in classes])
    return F.normalize(torch.from_numpy(centres))
