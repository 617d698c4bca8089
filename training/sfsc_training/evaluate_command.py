"""The command `sfsc-train evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sfsc_training.arithmetic_file import read_arithmetic
from sfsc_training.checkpoint import write_json
from sfsc_training.cli_options import DataFolder, DeviceOption, RunFolder, SplitName
from sfsc_training.data.dataset import Dataset
from sfsc_training.datasets import is_as_trained, open_with_data
from sfsc_training.evaluation import (
    cost,
    cross_generation,
    embed_split,
    evaluate_mixed,
    evaluate_split,
    mixed_gallery,
    print_matrices,
    print_mixed,
    report,
)
from sfsc_training.full_width import exchange, reason_to_exchange
from sfsc_training.run import Run, open_run
from sfsc_training.untouched import evaluate_untouched, print_untouched, shortfall

__all__ = ["evaluate_command"]


def evaluate_command(
    run: RunFolder,
    data: DataFolder,
    split: SplitName = "test",
    assignment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="JSON object, gallery image → width: also score this gallery of mixed widths"
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="older run: also score the widths of both runs")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="leave out the alignment of the run")] = False,
    device: DeviceOption = "cpu",
) -> None:
    """Print and store mAP and rank-1 of every pair of widths, and of galleries of mixed widths.

    Of a run that began from pretrained weights, the untouched network is scored first. Where the bundle that
    export writes will have that network at width 1.0, a sentence says so.
    """
    console = Console(markup=False, emoji=False)
    opened, dataset = open_with_data(run, data, console, device, aligned=not raw)
    part = dataset.part(split)
    embedded = embed_split(opened, part, console)
    untouched = evaluate_untouched(opened.recipe, dataset, split, device, console)
    cross, mixed = evaluate_split(embedded), evaluate_mixed(embedded)
    if untouched is not None:
        print_untouched(untouched, split, console)
    print_matrices(cross, f"{opened.recipe.name}, step {opened.step}, {split}", console)
    print_mixed(mixed, cross, console)
    if untouched is not None and cross.widths[-1] == "1.0":
        sentence = shortfall(untouched, cross.mean_ap[-1][-1], opened.recipe, data)
        if sentence is not None:
            console.print(sentence, highlight=False, soft_wrap=True)
    different = _difference_of_bundle(opened, dataset, split, untouched)
    if different is not None:
        console.print(different, highlight=False, soft_wrap=True)
    if raw:
        console.print("export folds the run's alignment into the bundle, which --raw leaves out here")
    spent = read_arithmetic(run)
    result = report(cross, embedded.split, mixed) | {
        "untouched": untouched,
        "bundle_differs": different,
        "step": opened.step,
        "space": opened.space,
        "recipe_sha256": opened.recipe.sha256,
        "data_sha256": dataset.sha256,
        "cost": cost(opened),
        "arithmetic": None if spent is None else spent.model_dump(),
    }
    if against is not None:
        generations = cross_generation(opened, open_run(against, device=device, aligned=not raw), part, console)
        print_matrices(generations, f"old: {against}, new: {run}", console)
        result["generations"] = report(generations, embedded.split)
    if assignment is not None:
        scores = mixed_gallery(embedded, assignment)
        result["mixed"] = {width: {"mean_ap": s.mean_ap, "rank1": s.rank1} for width, s in scores.items()}
        for width, score in scores.items():
            console.print(f"mixed gallery, query width {width}: mAP {score.mean_ap:.2f}  rank-1 {score.rank1:.2f}")
    name = f"evaluation-{split}{'-raw' if raw else ''}"
    _write(run, name, result, console, as_trained=is_as_trained(run, dataset))


def _difference_of_bundle(
    run: Run, dataset: Dataset, split: str, untouched: Mapping[str, Any] | None
) -> str | None:
    """A sentence where the bundle that export writes has other figures than the run; else None."""
    reason = None if untouched is None else reason_to_exchange(run, dataset, Console(quiet=True))
    if untouched is None or reason is None:
        return None
    return (
        f"the bundle will differ from this run: {exchange(run, dataset, reason)}; at width 1.0 it then has "
        f"{untouched['mean_ap']:.1f} mAP and {untouched['rank1']:.1f} rank-1 on these {split} identities, and "
        "export prints its other figures"
    )


def _write(run: Path, name: str, result: Mapping[str, Any], console: Console, *, as_trained: bool) -> None:
    """Store an evaluation; one on other images than the run was trained with has a file of its own."""
    path = run / (f"{name}.json" if as_trained else f"{name}-{result['data_sha256'][:8]}.json")
    write_json(path, result)
    kept = "" if as_trained else f"; figures on the images of the training stay in {name}.json"
    console.print(f"evaluation written to {path}{kept}", highlight=False, soft_wrap=True)
