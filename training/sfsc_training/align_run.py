"""Align finished runs: embed their images, choose and fit the maps (`alignment`), store them in the run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from rich.console import Console

from sfsc_bundle.manifest import Alignment
from sfsc_training.alignment import (
    CANDIDATES,
    UNLABELLED_CANDIDATES,
    Fitter,
    Maps,
    Method,
    Sample,
    Validation,
    choose,
    require_images,
)
from sfsc_training.alignment_file import RunAlignment, write_alignment
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.data.unlabelled import read_unlabelled
from sfsc_training.device import Device
from sfsc_training.errors import AlignmentError, CheckpointError, StaleAlignmentError
from sfsc_training.evaluation import embed_joined, embed_split
from sfsc_training.joined_runs import JoinedRuns
from sfsc_training.run import Run, open_run

__all__ = [
    "CHOSEN_BY_NOTHING",
    "MethodName",
    "align_joined",
    "align_run",
    "align_trained",
    "chosen_by",
    "make_method",
]

CHOSEN_BY_NOTHING = "nothing: fewer than 2 validation identities can be searched for"

MethodName = Literal["chosen", "none", "procrustes", "least-squares", "ridge", "blend"]


def make_method(
    name: MethodName, share: float, strength: float, *, unlabelled: bool
) -> Method | Literal["chosen"] | None:
    """The method that a command names; None: no alignment.

    Args:
        share: the ridge map's share of a blend.
        unlabelled: there are unlabelled images, for which the base of a blend is least squares.
    """
    match name:
        case "chosen":
            return name
        case "none":
            return None
        case "procrustes" | "least-squares":
            return Method(name, 0.0, strength)
        case "ridge":
            return Method("procrustes", 1.0, strength)
        case "blend":
            return Method("least-squares" if unlabelled else "procrustes", share, strength)
        case _:
            assert_never(name)


def align_trained(
    folder: Path, dataset: Dataset, device: Device, console: Console, older: Run | None = None
) -> Run:
    """`align_run` with the chosen method, as the last step of a training: opens the run and returns it.

    A run with too few images for it stays as it is, and one whose weights are aligned already keeps its alignment.

    Raises:
        CheckpointError: as `open_run`, but for an alignment of other weights, which is replaced.
    """
    try:
        run = open_run(folder, dataset, device)
    except StaleAlignmentError:
        run = open_run(folder, dataset, device, aligned=False)
    if run.alignment is not None:
        return run
    try:
        return align_run(run, dataset, console, older=older)
    except AlignmentError as error:
        console.print(f"{run.recipe.name} is not aligned: {error}")
        return run


def align_run(
    run: Run,
    dataset: Dataset,
    console: Console,
    *,
    method: Method | Literal["chosen"] | None = "chosen",
    unlabelled: Path | None = None,
    older: Run | None = None,
) -> Run:
    """`align_joined` of one run, stored in its folder; returns the aligned run."""
    joined = align_joined(JoinedRuns((run,)), dataset, console, method=method, unlabelled=unlabelled, older=older)
    aligned = joined.widest
    if aligned.alignment is not None:
        write_alignment(aligned.folder, aligned.weights_sha256, aligned.alignment)
    return aligned


def align_joined(
    joined: JoinedRuns,
    dataset: Dataset,
    console: Console,
    *,
    method: Method | Literal["chosen"] | None = "chosen",
    unlabelled: Path | None = None,
    older: Run | None = None,
) -> JoinedRuns:
    """Fit maps to the training images of runs, which lead all their widths to the widest; no folder is changed.

    `chosen`: the method whose mixed gallery is best on validation identities; with fewer than two of those that
    can be searched for, Procrustes, which gains a little from few images where a ridge map can lose.

    Args:
        method: None leaves the embeddings as the networks make them.
        unlabelled: folder with images from where the model will work.
        older: the run whose full-width embeddings, as it is aligned itself, are the target.

    Raises:
        AlignmentError: fewer images than dimensions.
        CheckpointError: a run is compatible with an older one, which is not given; or the two have different
            dimensions.
        DataError: an unlabelled image is one of the test or validation split, or an image cannot be read.
    """
    images = None if unlabelled is None else read_unlabelled(unlabelled, (dataset.validation, dataset.test))
    _check(joined, [dataset.train, *([] if images is None else [images])], older, wanted=method is not None)
    joined = JoinedRuns(tuple(run.unaligned() for run in joined.runs))
    if method is None:
        return _aligned(joined, Alignment(base=None))
    labelled, split = _sample(joined, older, dataset.train, console)
    labelled = replace(labelled, identity=split.classes)
    elsewhere = None if images is None else _sample(joined, older, images, console)[0]
    fitter = Fitter(labelled, elsewhere)
    candidates = CANDIDATES if elsewhere is None else UNLABELLED_CANDIDATES
    found = _decide(method, fitter, _validation(joined, older, dataset.validation, console), candidates)
    if found.method is None:
        return _aligned(joined, Alignment(base=None, **found.described()))
    ridge, base = found.method.share > 0, found.method.share < 1
    fitted_on = len(split.paths) if ridge or images is None else 0
    description = Alignment(
        base=found.method.base,
        ridge_share=found.method.share,
        strength=found.method.strength if ridge or found.method.base == "least-squares" else 0.0,
        images=fitted_on,
        identities=len(np.unique(split.classes)) if fitted_on else 0,
        unlabelled=len(elsewhere.full) if base and elsewhere is not None else 0,
        **found.described(),
    )
    spaces = () if older is None else (older.space,)
    return _aligned(joined, description, fitter.fit(found.method), spaces)


def _check(joined: JoinedRuns, fitted_on: Sequence[Split], older: Run | None, *, wanted: bool) -> None:
    """What can be refused before any image is decoded."""
    dimension = joined.widest.recipe.network.dimension
    for split in fitted_on if wanted else ():
        require_images(len(split.paths), dimension)
    if older is not None and older.recipe.network.dimension != dimension:
        raise CheckpointError(
            f"{joined.widest.folder} has embeddings of dimension {dimension}, and the older run {older.folder} of "
            f"{older.recipe.network.dimension}; only equal ones can share a gallery"
        )
    for run in joined.runs if wanted and older is None else ():
        if run.compatible_with:
            raise CheckpointError(
                f"{run.folder} is compatible with {', '.join(run.compatible_with)}; give that run to "
                "sfsc-train align with --compatible-with"
            )


def _sample(joined: JoinedRuns, older: Run | None, split: Split, console: Console) -> tuple[Sample, Split]:
    """Embeddings of a split, with the older run's; and the split without images that cannot be read."""
    embedded = embed_joined(joined, split, console)
    target = None
    if older is not None:
        target = embed_split(older, embedded.split, console).embeddings[older.recipe.width_names[-1]]
    return Sample(embedded.embeddings, target=target), embedded.split


def _validation(joined: JoinedRuns, older: Run | None, split: Split, console: Console) -> Validation | None:
    """What to choose by; None where the validation split cannot be scored."""
    if not split.can_be_scored():
        return None
    sample, split = _sample(joined, older, split, console)
    return Validation(sample, split.labels(), split.query, split.gallery)


@dataclass(frozen=True, slots=True)
class _Decision:
    """`before`, `after`: mAP of the mixed gallery of validation identities; None where there are none."""

    method: Method | None
    chosen_by: str
    before: float | None = None
    after: float | None = None

    def described(self) -> dict[str, Any]:
        return {"chosen_by": self.chosen_by, "before": self.before, "after": self.after}


def _decide(
    method: Method | Literal["chosen"],
    fitter: Fitter,
    validation: Validation | None,
    candidates: Sequence[Method],
) -> _Decision:
    if method != "chosen":
        scores = () if validation is None else (validation.score(), validation.score(fitter.fit(method)))
        return _Decision(method, "given", *scores)
    if validation is None:
        return _Decision(Method("procrustes"), CHOSEN_BY_NOTHING)
    choice = choose(fitter, validation, candidates)
    return _Decision(choice.method, chosen_by(validation), choice.before, choice.after)


def chosen_by(validation: Validation) -> str:
    """What a method was chosen by, for the manifest."""
    count = len(np.unique(validation.labels.identity[validation.query]))
    return f"mAP of the mixed gallery of {count} validation identities"


def _aligned(
    joined: JoinedRuns, description: Alignment, maps: Maps | None = None, spaces: tuple[str, ...] = ()
) -> JoinedRuns:
    """The runs with the maps of their own widths, each under the same description."""
    return JoinedRuns(
        tuple(
            replace(run, alignment=RunAlignment(description, _of_widths(run, maps or {}), spaces))
            for run in joined.runs
        )
    )


def _of_widths(run: Run, maps: Maps) -> Maps:
    return {width: maps[width] for width in run.recipe.width_names if width in maps}
