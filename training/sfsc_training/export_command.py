"""The command `sfsc-train export`, and what is printed of alignments and bundles."""

from pathlib import Path
from typing import Annotated, assert_never

import typer
from rich.console import Console

from sfsc_bundle.folder import Bundle, check_target
from sfsc_training.align_run import align_joined
from sfsc_training.cli_options import DataFolder, Replace, RunFolder, Unlabelled
from sfsc_training.datasets import open_with_data
from sfsc_training.evaluation import print_quality
from sfsc_training.export import export_joined
from sfsc_training.full_width import exchange, export_with_untouched, reason_to_exchange, size_of_gallery
from sfsc_training.joined_runs import JoinedRuns

__all__ = ["export_command", "print_alignment", "print_bundle"]


def export_command(
    run: RunFolder,
    data: DataFolder,
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="bundle folder to write, such as models/NAME")
    ],
    unlabelled: Unlabelled = None,
    as_trained: Annotated[
        bool,
        typer.Option(
            "--as-trained",
            help="width 1.0 is the trained network even where validation identities are too few, or show it to be "
            "worse than the pretrained one",
        ),
    ] = False,
    replace: Replace = False,
) -> None:
    """Write a bundle: an ONNX graph per width, checked against the network, and the quality matrix.

    Where a training from pretrained weights has fewer than 5 validation identities, or they show that it did
    harm, width 1.0 is the pretrained network as it came, and the narrower widths are brought to it.

    With --unlabelled the bundle is aligned anew, as `align` does it; the run keeps the alignment that it has.
    """
    console = Console(markup=False, emoji=False)
    check_target(to, replace)
    opened, dataset = open_with_data(run, data, console)
    reason = None if as_trained else reason_to_exchange(opened, dataset, console)
    if reason is not None:
        console.print(exchange(opened, dataset, reason), highlight=False, soft_wrap=True)
        bundle = export_with_untouched(opened, dataset, to, console, unlabelled=unlabelled, replace_bundle=replace)
        print_bundle(bundle, console, opened.recipe.network.dimension)
        return
    joined = JoinedRuns((opened,))
    if unlabelled is not None:
        joined = align_joined(joined, dataset, console, unlabelled=unlabelled)
        print_alignment(joined, console)
    bundle = export_joined(joined, dataset, to, console, replace=replace)
    print_bundle(bundle, console, opened.recipe.network.dimension)


def print_alignment(joined: JoinedRuns, console: Console) -> None:
    """Print what an alignment is, and what it does to the mixed gallery of validation identities."""
    if joined.widest.alignment is None:
        return
    found = joined.widest.alignment.description
    match found.base:
        case None:
            what = "the embeddings stay as they are"
        case "procrustes" | "least-squares":
            blend = f", {found.ridge_share:g} of a ridge map" if found.ridge_share else ""
            what = f"{found.base}{blend}, λ {found.strength:g}, space {joined.space}"
        case _:
            assert_never(found.base)
    names = ", ".join(dict.fromkeys(run.recipe.name for run in joined.runs))
    console.print(f"alignment of {names}: {what}")
    if found.before is not None and found.after is not None:
        console.print(f"mixed gallery of validation identities: mAP {found.before:.2f} → {found.after:.2f}")


def print_bundle(bundle: Bundle, console: Console, planned: int) -> None:
    """Print the figures of a bundle out of its manifest, where it is, and how it is served.

    Args:
        planned: the dimension of embeddings that the recipe says.
    """
    print_quality(bundle.manifest.quality, console)
    if bundle.manifest.dimension != planned:
        console.print(size_of_gallery(bundle.manifest.dimension, planned), highlight=False, soft_wrap=True)
    size = sum((bundle.folder / part.file).stat().st_size for part in bundle.manifest.submodels) / 1e6
    widths = ", ".join(bundle.manifest.widths)
    console.print(
        f"bundle written to {bundle.folder}: widths {widths}, {size:.1f} MB; "
        f"next: sfsc serve {bundle.folder} --data data/{bundle.folder.name}",
        soft_wrap=True,
    )
