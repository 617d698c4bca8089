"""Cross-width evaluation of a run: the m×m matrices, and a gallery of mixed widths."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from sfsc_bundle.retrieval import CrossWidth, Scores, cross_width, evaluate, summarise
from sfsc_bundle.widths import canonical_width
from sfsc_training.checkpoint import read_checkpoint, read_labels, read_recipe
from sfsc_training.config import Recipe
from sfsc_training.cost import macs, parameters
from sfsc_training.data.images import load_split
from sfsc_training.data.reader import Dataset, Split
from sfsc_training.embed import embed
from sfsc_training.errors import CheckpointError, DataError
from sfsc_training.losses.classifier import make_classifier
from sfsc_training.networks.build import make_family
from sfsc_training.networks.family import Family
from sfsc_training.progress import bar

__all__ = [
    "Embedded",
    "Run",
    "cost",
    "cross_generation",
    "embed_split",
    "evaluate_split",
    "mixed_gallery",
    "open_run",
    "print_matrices",
    "report",
]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Run:
    """A trained network and where it came from."""

    folder: Path
    recipe: Recipe
    family: Family
    step: int
    classifier: nn.Module
    labels: tuple[str, ...]
    weights_sha256: str

    @property
    def space(self) -> str:
        """Id of the embedding space: another for every training result."""
        return f"{self.recipe.name}-{self.weights_sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A split and its embeddings by width, float32 [n, D] for all its images."""

    split: Split
    embeddings: Mapping[str, Floats]


def open_run(folder: Path, dataset: Dataset | None = None, device: str = "cpu") -> Run:
    """Load the network of a run. Raises CheckpointError; with a data set, also where it is not the run's."""
    recipe = read_recipe(folder)
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: train first")
    if dataset is not None and checkpoint.data_sha256 != dataset.sha256:
        raise CheckpointError(f"{folder} was trained on other data than this folder holds")
    family = make_family(
        recipe.network.model_copy(update={"pretrained": False, "weights_file": None}), recipe.widths
    )
    labels = read_labels(folder)
    classifier = make_classifier(recipe.network.dimension, len(labels), len(recipe.widths), recipe.loss)
    network, kappa = checkpoint.result()
    try:
        family.load_state_dict(network)
        classifier.load_state_dict(kappa)
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint in {folder} is of another network than its recipe") from error
    family = family.to(memory_format=torch.channels_last).to(device).eval()
    return Run(folder, recipe, family, checkpoint.step, classifier, labels, checkpoint.weights_sha256)


def embed_split(run: Run, split: Split, console: Console) -> Embedded:
    """Decode a split and embed it at every width, with progress."""
    if not split.paths:
        raise DataError("this split has no images: raise data.validation_share or choose another split")
    with bar(console, "reading images", len(split.paths)) as progress:
        split, images = load_split(split, run.recipe.data, progress.advance)
    names = run.recipe.width_names
    with bar(console, "embedding", len(names) * math.ceil(len(images) / 128)) as progress:
        found = {name: embed(run.family, images, index, progress.advance) for index, name in enumerate(names)}
    return Embedded(split, found)


def evaluate_split(embedded: Embedded) -> CrossWidth:
    """The matrices of a split under its protocol."""
    split, labels = embedded.split, embedded.split.labels()
    return cross_width(
        {width: rows[split.query] for width, rows in embedded.embeddings.items()},
        labels.take(split.query),
        {width: rows[split.gallery] for width, rows in embedded.embeddings.items()},
        labels.take(split.gallery),
    )


def cost(run: Run) -> dict[str, dict[str, int]]:
    """Multiply-accumulates and parameters of one image at each width."""
    section = run.recipe.data
    device = next(run.family.parameters()).device
    example = torch.zeros(1, 3, section.height, section.width, dtype=torch.uint8, device=device)
    sliced = {
        name: run.family.sliced(index).eval().to(device) for index, name in enumerate(run.recipe.width_names)
    }
    return {
        "macs": {name: macs(module, example) for name, module in sliced.items()},
        "parameters": {name: parameters(module) for name, module in sliced.items()},
    }


def cross_generation(new: Run, old: Run, split: Split, console: Console) -> CrossWidth:
    """The matrix over the widths of two runs, `old/0.5` before `new/0.5`: may an old gallery stay as it is?

    Raises:
        DataError: the two embed into different dimensions.
    """
    if new.recipe.network.dimension != old.recipe.network.dimension:
        raise DataError(f"{new.folder} and {old.folder} have embeddings of different dimensions")
    rows = {
        f"{generation}/{width}": found
        for generation, run in (("old", old), ("new", new))
        for width, found in embed_split(run, split, console).embeddings.items()
    }
    return evaluate_split(Embedded(split, rows))


def mixed_gallery(embedded: Embedded, assignment: Path) -> dict[str, Scores]:
    """Scores of every query width against a gallery in which each image has the width that a file gives it.

    Args:
        assignment: JSON object, image's path below the data folder → width.

    Raises:
        DataError: the file cannot be read, or lacks a gallery image or names a width that is not there.
    """
    split, labels = embedded.split, embedded.split.labels()
    try:
        widths = {name: canonical_width(width) for name, width in json.loads(assignment.read_text()).items()}
        rows = [embedded.embeddings[widths[split.names[place]]][place] for place in split.gallery]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"assignment {assignment} cannot be read: {error}") from error
    except KeyError as error:
        raise DataError(
            f"assignment {assignment} lacks {error} (a gallery image, or a width of the run)"
        ) from error
    gallery = np.stack(rows)
    return {
        width: evaluate(found[split.query], labels.take(split.query), gallery, labels.take(split.gallery))
        for width, found in embedded.embeddings.items()
    }


def report(cross: CrossWidth, split: Split) -> dict[str, object]:
    """The matrices with their summary, as stored in a run."""
    return {
        "protocol": split.protocol(),
        **asdict(cross),
        "gallery": len(split.gallery),
        "summary": asdict(summarise(cross.mean_ap)) if len(cross.widths) > 1 else None,
    }


def print_matrices(cross: CrossWidth, title: str, console: Console) -> None:
    """Print mAP and rank-1, rows = query width, columns = gallery width."""
    for name, matrix in (("mAP", cross.mean_ap), ("rank-1", cross.rank1)):
        table = Table(title=f"{title}: {name} (rows: query width, columns: gallery width)")
        table.add_column("query \\ gallery")
        for width in cross.widths:
            table.add_column(width, justify="right")
        for width, row in zip(cross.widths, matrix, strict=True):
            table.add_row(width, *(f"{value:.1f}" for value in row))
        console.print(table)
