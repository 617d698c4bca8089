"""What becomes a bundle: the networks, the bundle that they join, and the size of its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfsc_bundle.folder import Bundle
from sfsc_bundle.manifest import Adopted, Joined, Trained
from sfsc_training.adopt.foreign import Foreign
from sfsc_training.adopt.input_format import Size
from sfsc_training.config import DataSection, parse_recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.read import read_dataset
from sfsc_training.errors import AdoptionError
from sfsc_training.graph_cost import graph_macs

__all__ = ["Adoption", "check_costs", "check_unseen", "check_widths"]


@dataclass(frozen=True, slots=True)
class Adoption:
    """`networks` ascend by width; `base`: the bundle that they join, if any; `section`: how images are read."""

    networks: Sequence[Foreign]
    base: Bundle | None
    section: DataSection

    @property
    def widths(self) -> tuple[str, ...]:
        """All widths of the new bundle, ascending."""
        old = () if self.base is None else self.base.manifest.widths
        return tuple(sorted((*old, *(network.width for network in self.networks)), key=float))

    @property
    def size(self) -> Size:
        """Of the bundle's images."""
        return self.section.height, self.section.width

    @property
    def dimension(self) -> int:
        """Of the bundle's embeddings: the base's, or that of the widest network."""
        return self.networks[-1].signature.dimension if self.base is None else self.base.manifest.dimension

    def base_files(self) -> dict[str, bytes]:
        """The graphs of the base, by file name."""
        if self.base is None:
            return {}
        return {part.file: (self.base.folder / part.file).read_bytes() for part in self.base.manifest.submodels}


def check_widths(wanted: Sequence[str], base: Bundle | None) -> None:
    """Raises AdoptionError where a width is given twice, or is one of the base's."""
    for width in wanted:
        if wanted.count(width) > 1:
            raise AdoptionError(f"--as must give every network a width of its own, found {width} twice")
        if base is not None and width in base.manifest.widths:
            taken = ", ".join(base.manifest.widths)
            raise AdoptionError(f"--as must be another width than those of {base.folder} ({taken}), found {width}")


def check_unseen(base: Bundle | None, data: Path, dataset: Dataset) -> None:
    """Raises AdoptionError where a base was trained on images that its figures would now be taken from."""
    seen: set[str] = set()
    for training in () if base is None else _trainings(base):
        if training.data_sha256 == dataset.sha256:
            recipe = parse_recipe(training.recipe)
            seen |= {*read_dataset(data, recipe.data, recipe.seed).train.names} & {*dataset.test.names}
    if seen:
        raise AdoptionError(
            f"test images must not be those that the base was trained on, found {len(seen)} of them, such as "
            f"{min(seen)}; read the images as its recipe does (--recipe)"
        )


def _trainings(base: Bundle) -> Sequence[Trained]:
    match base.manifest.provenance:
        case Trained() as training:
            return (training,)
        case Joined(runs=runs):
            return [run.training for run in runs]
        case Adopted():
            return ()


def check_costs(adoption: Adoption) -> None:
    """Raises AdoptionError where a wider network costs less: a service takes the widest that a budget allows."""
    blank = np.zeros((1, *adoption.size, 3), np.uint8)
    costs = {network.width: graph_macs(network.compose(adoption.size), blank) for network in adoption.networks}
    if adoption.base is not None:
        costs |= {part.width: part.macs for part in adoption.base.manifest.submodels}
    for narrow, wide in zip(adoption.widths, adoption.widths[1:], strict=False):
        if costs[narrow] > costs[wide]:
            raise AdoptionError(
                f"a wider network must not cost less than a narrower one, found {2e-6 * costs[narrow]:.1f} MFLOP "
                f"an image at {narrow} and {2e-6 * costs[wide]:.1f} at {wide}; give other widths (--as)"
            )
