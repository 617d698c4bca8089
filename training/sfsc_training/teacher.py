"""A finished run that teaches a new one: its network and classifier stand still (methods BCT, Asymmetric, compact,
compatible generations)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from sfsc_training.config import Recipe
from sfsc_training.data.reader import Split
from sfsc_training.errors import CheckpointError, RecipeError
from sfsc_training.evaluation import Run, embed_split, open_run
from sfsc_training.losses.classifier import Classifier, classifier_of
from sfsc_training.losses.distillation import distance_to
from sfsc_training.networks.family import Family
from sfsc_training.networks.separate import Separate

__all__ = ["Teacher", "freeze_full", "load_teacher"]


@dataclass(frozen=True, slots=True)
class Teacher:
    """`run`: who teaches. `classifier`: frozen, with a row for each class of the new run."""

    run: Run
    classifier: Classifier

    @torch.no_grad()
    def distance(self, features: Tensor, images: Tensor, ratio: float) -> Tensor:
        """1 − cosine of features [n, D] to the mean of the teacher's embeddings at the widths above `ratio`.

        Where it has none above, its widest counts.
        """
        widths = self.run.recipe.widths
        above = [index for index, width in enumerate(widths) if width > ratio] or [len(widths) - 1]
        found = torch.stack([F.normalize(self.run.family(images, index)) for index in above]).mean(dim=0)
        with torch.enable_grad():
            return distance_to(features, found)

    def describe(self) -> dict[str, object]:
        """What the new run notes of it."""
        return {"name": self.run.recipe.name, "space": self.run.space, "sha256": self.run.weights_sha256}


def load_teacher(folder: Path | None, recipe: Recipe, split: Split, console: Console) -> Teacher | None:
    """Open the teacher that a recipe asks for.

    Classes that it does not know get the mean of its embeddings of their images as their row (the synthesised
    classifier of BCT, Shen et al. 2020).

    Raises:
        RecipeError: the recipe has a [teacher] and no run is given, or the other way round.
        CheckpointError: it has another dimension or, for the uses that need the same ones, other classes.
    """
    section = recipe.teacher
    if section is None or folder is None:
        if section is None and folder is None:
            return None
        raise RecipeError(
            f"recipe {recipe.name} needs a finished run as its teacher: give --teacher RUN"
            if folder is None
            else f"recipe {recipe.name} has no [teacher] section to say what {folder} is for"
        )
    run = open_run(folder)
    if run.recipe.network.dimension != recipe.network.dimension:
        raise CheckpointError(
            f"the teacher {folder} has embeddings of {run.recipe.network.dimension} numbers, "
            f"the recipe asks for {recipe.network.dimension}"
        )
    if section.classifier and run.labels != split.identities:
        raise CheckpointError(
            f"the teacher {folder} classifies {len(run.labels)} identities, which are not the "
            f"{len(split.identities)} of this training split"
        )
    known = classifier_of(run.classifier, len(run.recipe.widths) - 1)
    whole = Classifier(recipe.network.dimension, len(split.identities), run.recipe.loss)
    with torch.no_grad():
        whole.weight.copy_(_rows(run, known, split, console))
    for module in (run.family, whole):
        module.requires_grad_(False)
    return Teacher(run, whole)


def freeze_full(family: Family, teacher: Teacher) -> None:
    """Put the teacher's widest network in the place of this family's, frozen.

    Raises:
        CheckpointError: it is another network.
    """
    assert isinstance(family, Separate)
    source, index = teacher.run.family, len(teacher.run.recipe.widths) - 1
    plain, target = source.sliced(index), family.members[-1]
    try:
        _copy_plain(plain, target)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError("the teacher's widest network is not this recipe's width 1") from error
    target.requires_grad_(False)


def _copy_plain(plain: nn.Sequential, member: nn.Module) -> None:
    """Load a sliced network into a family of one width, whose switchable layers add a level to the names."""
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
        raise KeyError("a layer is left over")


def _rows(run: Run, known: Classifier, split: Split, console: Console) -> Tensor:
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
