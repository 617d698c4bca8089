"""Evaluation of a run (docs/method.md §5): the width × width matrices, mixed galleries, two generations."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from sfsc_bundle.manifest import Quality
from sfsc_bundle.mixed_gallery import MixedGallery, evaluate_mixed_gallery
from sfsc_bundle.progress import bar
from sfsc_bundle.retrieval import CrossWidth, Labels, Scores, cross_width, evaluate, summarise
from sfsc_bundle.widths import canonical_width
from sfsc_training.alignment import align
from sfsc_training.cost import macs, parameters
from sfsc_training.data.dataset import Split
from sfsc_training.data.images import load_split
from sfsc_training.embed import embed
from sfsc_training.errors import DataError
from sfsc_training.joined_runs import JoinedRuns
from sfsc_training.run import Run

__all__ = [
    "Embedded",
    "Floats",
    "align_embedded",
    "cost",
    "cross_generation",
    "embed_joined",
    "embed_split",
    "evaluate_mixed",
    "evaluate_split",
    "mixed_gallery",
    "print_matrices",
    "print_mixed",
    "print_quality",
    "report",
]

Floats = npt.NDArray[np.float32]
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Embedded:
    """A split and the embeddings of all its images at each width: float32 [n, D], rows of unit length."""

    split: Split
    embeddings: Mapping[str, Floats]


def embed_split(run: Run, split: Split, console: Console) -> Embedded:
    """`embed_joined` of one run."""
    return embed_joined(JoinedRuns((run,)), split, console)


def embed_joined(joined: JoinedRuns, split: Split, console: Console) -> Embedded:
    """Decode a split and embed it at every width as its run is aligned, showing progress.

    Raises:
        DataError: the split has no images, or one cannot be read.
    """
    if not split.paths:
        raise DataError("this split has no images; raise data.validation_share or choose another split")
    with bar(console, "reading images", len(split.paths)) as progress:
        split, images = load_split(split, joined.widest.recipe.data, progress.advance)
    sources = joined.sources.items()
    with bar(console, "embedding", len(sources) * math.ceil(len(images) / _BATCH)) as progress:
        rows: dict[str, list[Floats]] = {width: [] for width, _ in sources}
        for start in range(0, len(images), _BATCH):  # one batch at every width: it may have to be decoded
            batch = images[start : start + _BATCH]
            for width, (run, at) in sources:
                rows[width].append(embed(run.family, batch, at, progress.advance))
    found = {width: np.concatenate(parts) for width, parts in rows.items()}
    maps = joined.maps
    return Embedded(split, align(found, maps) if maps else found)


def align_embedded(run: Run, embedded: Embedded) -> Embedded:
    """What the alignment of a run makes of its network's embeddings."""
    return Embedded(embedded.split, align(embedded.embeddings, run.maps)) if run.maps else embedded


def evaluate_split(embedded: Embedded) -> CrossWidth:
    """The matrices of mAP and rank-1 under the protocol of the split; rows are query widths."""
    return cross_width(*_protocol(embedded))


def evaluate_mixed(embedded: Embedded) -> MixedGallery:
    """Every query width against galleries whose images have widths drawn at random."""
    return evaluate_mixed_gallery(*_protocol(embedded))


def _protocol(
    embedded: Embedded,
) -> tuple[Mapping[str, Floats], Labels, Mapping[str, Floats], Labels]:
    """Queries by width and their labels, the gallery by width and its labels."""
    split, labels = embedded.split, embedded.split.labels()
    queries = {width: rows[split.query] for width, rows in embedded.embeddings.items()}
    gallery = {width: rows[split.gallery] for width, rows in embedded.embeddings.items()}
    return queries, labels.take(split.query), gallery, labels.take(split.gallery)


def cost(run: Run) -> dict[str, dict[str, int]]:
    """Multiply-accumulates per image, and parameters, of each width."""
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
    """The matrix over the widths of two runs (`old/0.5`, `new/0.5`): can the new one search an old gallery?

    Raises:
        DataError: their embeddings have different dimensions.
    """
    if new.recipe.network.dimension != old.recipe.network.dimension:
        raise DataError(f"{new.folder} and {old.folder} have embeddings of different dimensions")
    embedded = embed_split(new, split, console)  # its split is without the images that cannot be read
    others = embed_split(old, embedded.split, console)
    rows = {f"old/{width}": found for width, found in others.embeddings.items()}
    rows |= {f"new/{width}": found for width, found in embedded.embeddings.items()}
    return evaluate_split(Embedded(embedded.split, rows))


def mixed_gallery(embedded: Embedded, assignment: Path) -> dict[str, Scores]:
    """Scores of every query width against a gallery whose images were embedded at different widths.

    Args:
        assignment: file with a JSON object: path of the image below the data folder → width.

    Raises:
        DataError: the file cannot be read, lacks a gallery image, or names a width that the run has not.
    """
    split, labels = embedded.split, embedded.split.labels()
    try:
        widths = {name: canonical_width(width) for name, width in json.loads(assignment.read_text()).items()}
        rows = [embedded.embeddings[widths[split.names[place]]][place] for place in split.gallery]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"assignment {assignment} cannot be read: {error}") from error
    except KeyError as error:
        raise DataError(
            f"assignment {assignment} lacks a gallery image, or names a width that the run has not: {error}"
        ) from error
    gallery = np.stack(rows)
    return {
        width: evaluate(found[split.query], labels.take(split.query), gallery, labels.take(split.gallery))
        for width, found in embedded.embeddings.items()
    }


def report(cross: CrossWidth, split: Split, mixed: MixedGallery | None = None) -> dict[str, Any]:
    """The matrices with their summary and the mixed gallery, as `evaluate` stores them in the run folder."""
    return {
        "protocol": split.protocol(),
        **asdict(cross),
        "gallery": len(split.gallery),
        "summary": asdict(summarise(cross.mean_ap)) if len(cross.widths) > 1 else None,
        "mixed_gallery": None if mixed is None else asdict(mixed) | {"gaps": mixed.gaps(cross.mean_ap)},
    }


def print_matrices(cross: CrossWidth, title: str, console: Console) -> None:
    """Print the matrices of mAP and rank-1."""
    for name, matrix in (("mAP", cross.mean_ap), ("rank-1", cross.rank1)):
        table = Table(title=f"{title}: {name} (rows: query width, columns: gallery width)")
        table.add_column("query \\ gallery")
        for width in cross.widths:
            table.add_column(width, justify="right")
        for width, row in zip(cross.widths, matrix, strict=True):
            table.add_row(width, *(f"{value:.1f}" for value in row))
        console.print(table)


def print_mixed(mixed: MixedGallery, cross: CrossWidth, console: Console) -> None:
    """Print the mixed gallery's scores, their gap to the mean of the matrix's row, and the curve."""
    table = Table(title=f"gallery of mixed widths ({mixed.draws} draws), and by share of full-width items: mAP")
    for title in ("query", "mAP", "rank-1", "gap", *(f"{100 * share:.0f} %" for share in mixed.shares)):
        table.add_column(title, justify="left" if title == "query" else "right")
    gaps = mixed.gaps(cross.mean_ap)
    for row, width in enumerate(mixed.widths):
        table.add_row(
            width,
            f"{mixed.mean_ap[row]:.1f} ± {mixed.mean_ap_spread[row]:.1f}",
            f"{mixed.rank1[row]:.1f} ± {mixed.rank1_spread[row]:.1f}",
            f"{gaps[row]:+.1f}",
            *(f"{scores[row]:.1f}" for scores in mixed.curve),
        )
    console.print(table)


def print_quality(quality: Quality, console: Console) -> None:
    """Print the figures in a bundle's manifest: a line for each query width."""
    for query, row, mixed in zip(quality.widths, quality.mean_ap, quality.mixed.mean_ap, strict=True):
        console.print(
            f"query width {query}: mAP {' '.join(f'{value:.1f}' for value in row)} by width of the gallery, "
            f"mixed {mixed:.1f} ({quality.dataset})",
            highlight=False,
            soft_wrap=True,
        )
