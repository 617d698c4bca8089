"""The sub-models of one bundle: those of one run, or of several runs that were trained apart and are joined."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from sfsc_training.alignment import Maps
from sfsc_training.checkpoint import read_recipe
from sfsc_training.config import Recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.shared import shared_dataset
from sfsc_training.errors import CheckpointError
from sfsc_training.run import Run

__all__ = ["JoinedRuns", "open_joined"]


@dataclass(frozen=True, slots=True)
class JoinedRuns:
    """One run, or several without a common width and with equal dimension and image size; the widest is last."""

    runs: tuple[Run, ...]

    @property
    def widest(self) -> Run:
        """The run with the widest width."""
        return self.runs[-1]

    @property
    def sources(self) -> dict[str, tuple[Run, int]]:
        """Width → the run that it comes from and its position there; widths ascend."""
        found = {width: (run, index) for run in self.runs for index, width in enumerate(run.recipe.width_names)}
        return dict(sorted(found.items(), key=lambda item: float(item[0])))

    @property
    def maps(self) -> Maps:
        """The map of each width; empty where embeddings stay as the networks make them."""
        return {width: values for run in self.runs for width, values in run.maps.items()}

    @property
    def space(self) -> str:
        """Id of the embedding space: that of a run alone, or one of these runs and alignments together."""
        if len(self.runs) == 1:
            return self.widest.space
        together = hashlib.sha256("\n".join(run.space for run in self.runs).encode())
        return f"{self.widest.recipe.name}-{together.hexdigest()[:12]}"

    @property
    def compatible_with(self) -> tuple[str, ...]:
        """Ids of the older spaces that the embeddings of every run can be compared with."""
        others = [run.compatible_with for run in self.runs]
        return tuple(space for space in self.widest.compatible_with if all(space in other for other in others))


def open_joined(
    folders: Sequence[Path], open_one: Callable[[Path], tuple[Run, Dataset]]
) -> tuple[JoinedRuns, Dataset]:
    """Open runs, without their alignments, and the data set that they have in common.

    Args:
        open_one: opens a run without its alignment, and its data set.

    Raises:
        CheckpointError: as `open_one`; or two runs have the same width, or differ in dimension or image size.
        DataError: as `open_one` and `shared_dataset`.
    """
    recipes = {folder: read_recipe(folder) for folder in folders}
    for one, other in combinations(folders, 2):
        _check_joinable(one, recipes[one], other, recipes[other])
    opened = [open_one(folder) for folder in folders]
    shared = shared_dataset([dataset for _, dataset in opened])
    runs = [run for run, _ in opened]
    return JoinedRuns(tuple(sorted(runs, key=lambda run: run.recipe.widths[-1]))), shared


def _check_joinable(one: Path, first: Recipe, other: Path, second: Recipe) -> None:
    both = sorted(set(first.width_names) & set(second.width_names), key=float)
    if both:
        raise CheckpointError(
            f"runs that are joined must have no width in common; found {', '.join(both)} in {one} and {other}"
        )
    if first.network.dimension != second.network.dimension:
        raise CheckpointError(
            f"runs that are joined must have embeddings of the same dimension; found {first.network.dimension} in "
            f"{one} and {second.network.dimension} in {other}"
        )
    sizes = [f"{recipe.data.height} × {recipe.data.width}" for recipe in (first, second)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"runs that are joined must have images of the same size; found {sizes[0]} in {one} and {sizes[1]} in "
            f"{other}"
        )
