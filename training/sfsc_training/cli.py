"""The command `sfsc-train`: train, align, evaluate, export, sweep, report, tensorboard, recipes."""

import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, assert_never

import typer
from rich.console import Console

from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import Bundle, check_target
from sfsc_bundle.progress import counting
from sfsc_training.align_run import MethodName, align_joined, align_run, align_trained, make_method
from sfsc_training.checkpoint import older_space, read_recipe, write_json
from sfsc_training.config import Recipe, load_recipe, packaged_recipes
from sfsc_training.data.read import read_dataset
from sfsc_training.data.reader import Dataset
from sfsc_training.device import Device
from sfsc_training.distributed import is_first
from sfsc_training.errors import RecipeError, TrainingError
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
from sfsc_training.event_files import write_event_files
from sfsc_training.export import export_joined
from sfsc_training.joined_runs import JoinedRuns, open_joined
from sfsc_training.loop import RunOptions
from sfsc_training.loop import train as train_run
from sfsc_training.report.page import write_report
from sfsc_training.results import read_result
from sfsc_training.run import open_run
from sfsc_training.sweep import read_sweep, run_sweep

__all__ = ["main"]

app = typer.Typer(
    help="Train one network at several widths whose embeddings are all comparable, evaluate it and export it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take [teacher] and [[run]] in the help texts for markup
)
console = Console()

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

DataFolder = Annotated[
    Path,
    typer.Option("--data", help="data folder: {train,test}/IDENTITY/IMAGE, IDENTITY/IMAGE or a published set"),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="run folder that `train` wrote")]
SplitName = Annotated[
    Literal["test", "validation"],
    typer.Option(help="identities to evaluate on; use validation for choices, test once they are made"),
]
Threads = Annotated[int, typer.Option(min=1, help="processor cores to compute on; default: all")]
Workers = Annotated[int, typer.Option(min=0, help="processes that prepare batches; 0: none beside this one")]
Unlabelled = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="also fit to all images below it: from where the model will work"),
]
Replace = Annotated[bool, typer.Option("--replace", help="replace an existing bundle")]
DeviceOption = Annotated[Device, typer.Option(help="where the network runs")]


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr and exit code 2."""
    try:
        app()
    except (TrainingError, SfscError) as error:
        print(f"sfsc-train: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="TOML file, or name of a packaged recipe")],
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="run folder; an existing run is resumed")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change a key of the recipe, as in optimiser.steps=500"),
    ] = None,
    threads: Threads = _CORES,
    workers: Workers = 1,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 250,
    device: DeviceOption = "cpu",
    compiled: Annotated[
        bool, typer.Option("--compile", help="compile the network with torch.compile: slow start, faster steps")
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            "--compatible-with",
            metavar="RUN",
            help="a finished run to learn from; the section [teacher] of the recipe says how",
        ),
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="leave out the alignment after the training")
    ] = False,
) -> None:
    """Train all widths at once, then align them.

    A run that was stopped, at any moment, is resumed by the same command.
    """
    loaded = load_recipe(recipe, setting or [])
    dataset = _read(data, loaded)
    split = dataset.train
    console.print(f"{loaded.name}: {len(split.paths)} images of {len(split.identities)} identities → {out}")
    options = RunOptions(threads, workers, checkpoint_every, device, compiled)
    train_run(loaded, dataset, out, console, options, teacher)
    if not is_first():
        return
    if not no_align:
        older = None if teacher is None or older_space(out) is None else open_run(teacher, device=device)
        _print_alignment(JoinedRuns((align_trained(out, dataset, device, console, older),)))
    console.print(f"{loaded.name} is trained; next: sfsc-train evaluate {out} --data {data}")


@app.command()
def align(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="run folder, or with --to several without a common width")
    ],
    data: DataFolder,
    unlabelled: Unlabelled = None,
    method: Annotated[
        MethodName, typer.Option(help="chosen: by the mixed gallery of validation identities; none: no alignment")
    ] = "chosen",
    ridge_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of the ridge map in a blend")] = 0.7,
    strength: Annotated[float, typer.Option(min=1e-6, help="λ of ridge and least squares")] = 0.01,
    compatible_with: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="older run whose full-width embeddings are the target"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="join several runs: bundle folder to write, such as models/NAME")
    ] = None,
    replace: Replace = False,
    device: DeviceOption = "cpu",
) -> None:
    """Bring the widths of a run closer together, in closed form; `train` ends with it.

    The alignment is stored in the run folder; evaluate and export use it from then on. Several runs that were
    trained apart become one bundle, in which all widths share a space; their folders stay as they are.
    """
    if (len(runs) > 1) != (to is not None):
        raise TrainingError(
            "several runs are joined in a bundle, which needs --to; one run alone is aligned in its own folder, "
            f"without --to; found {len(runs)} {'without' if to is None else 'with'} --to"
        )
    if to is not None:
        check_target(to, replace)
    chosen = make_method(method, ridge_share, strength, unlabelled=unlabelled is not None)
    older = None if compatible_with is None else open_run(compatible_with, device=device)
    joined, dataset = open_joined(runs, lambda recipe: _read(data, recipe), device)
    if to is None:
        run = align_run(joined.widest, dataset, console, method=chosen, unlabelled=unlabelled, older=older)
        _print_alignment(JoinedRuns((run,)))
        return
    joined = align_joined(joined, dataset, console, method=chosen, unlabelled=unlabelled, older=older)
    _print_alignment(joined)
    _print_bundle(export_joined(joined, dataset, to, console, replace=replace))


@app.command()
def evaluate(
    run: RunFolder,
    data: DataFolder,
    split: SplitName = "test",
    assignment: Annotated[
        Path | None,
        typer.Option(help="JSON object, gallery image → width: also score this gallery of mixed widths"),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="older run: also score the widths of both runs")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="leave out the alignment of the run")] = False,
    device: DeviceOption = "cpu",
) -> None:
    """Print and store mAP and rank-1 of every pair of widths, and of galleries of mixed widths."""
    dataset = _read(data, read_recipe(run))
    opened = open_run(run, dataset, device, aligned=not raw)
    part = dataset.part(split)
    embedded = embed_split(opened, part, console)
    cross, mixed = evaluate_split(embedded), evaluate_mixed(embedded)
    print_matrices(cross, f"{opened.recipe.name}, step {opened.step}, {split}", console)
    print_mixed(mixed, cross, console)
    result = report(cross, embedded.split, mixed) | {
        "step": opened.step,
        "space": opened.space,
        "recipe_sha256": opened.recipe.sha256,
        "cost": cost(opened),
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
    path = run / f"evaluation-{split}{'-raw' if raw else ''}.json"
    write_json(path, result)
    console.print(f"evaluation written to {path}")


@app.command()
def export(
    run: RunFolder,
    data: DataFolder,
    to: Annotated[Path, typer.Option("--to", help="bundle folder to write, such as models/NAME")],
    unlabelled: Unlabelled = None,
    replace: Replace = False,
) -> None:
    """Write a bundle: an ONNX graph per width, checked against the network, and the quality matrix.

    With --unlabelled the bundle is aligned anew, as `align` does it; the run keeps the alignment that it has.
    """
    check_target(to, replace)
    dataset = _read(data, read_recipe(run))
    joined = JoinedRuns((open_run(run, dataset),))
    if unlabelled is not None:
        joined = align_joined(joined, dataset, console, unlabelled=unlabelled)
        _print_alignment(joined)
    _print_bundle(export_joined(joined, dataset, to, console, replace=replace))


@app.command()
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML list of [[run]] with recipe, seeds, settings, teacher")
    ],
    data: DataFolder,
    runs: Annotated[Path, typer.Option("--out", help="folder for the run folders")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="folder for the results, one JSON per run")] = Path(
        "benchmarks/results"
    ),
    only: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="only the runs with a matching name, such as *-seed0; processes can share a list"
        ),
    ] = "*",
    split: SplitName = "test",
    threads: Threads = _CORES,
    workers: Workers = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Train and evaluate a list of recipes × seeds.

    Runs that have a result are skipped; a run that was stopped is resumed.
    """
    planned = [plan for plan in read_sweep(file) if fnmatchcase(plan.folder, only)]
    if not planned:
        raise RecipeError(f"--only: no run of {file} has a name that matches {only}")
    options = RunOptions(threads, workers, device=device)
    for path in run_sweep(planned, lambda recipe: _read(data, recipe), runs, results, split, console, options):
        console.print(f"result: {path}")


@app.command(name="report")
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="evaluated run folders, or JSON files of a sweep")
    ],
    to: Annotated[Path, typer.Option("--to", help="folder for index.html and the figures")] = Path("report"),
    split: SplitName = "test",
) -> None:
    """Write a page that compares finished runs: matrices, accuracy against cost, ablation, curves."""
    console.print(f"report written to {write_report([read_result(run, split) for run in runs], to)}")


@app.command()
def tensorboard(runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="run folders")]) -> None:
    """Write the histories of runs as event files for TensorBoard, while they train or afterwards."""
    for run in runs:
        console.print(f"written to {write_event_files(run)}", highlight=False, soft_wrap=True)


@app.command()
def recipes() -> None:
    """List the packaged recipes."""
    for name, path in packaged_recipes().items():
        console.print(f"{name:28} {path}", highlight=False)


def _print_alignment(joined: JoinedRuns) -> None:
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


def _print_bundle(bundle: Bundle) -> None:
    size = sum((bundle.folder / part.file).stat().st_size for part in bundle.manifest.submodels) / 1e6
    widths = ", ".join(bundle.manifest.widths)
    console.print(
        f"bundle written to {bundle.folder}: widths {widths}, {size:.1f} MB; next: sfsc serve {bundle.folder}"
    )


def _read(data: Path, recipe: Recipe) -> Dataset:
    if recipe.data.vehicles is None:
        return read_dataset(data, recipe.data, recipe.seed)
    with counting(console, "drawing vehicles") as progress:
        return read_dataset(data, recipe.data, recipe.seed, progress)
