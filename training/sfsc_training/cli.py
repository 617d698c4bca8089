"""`sfsc-train`: train, evaluate, export, sweep, report."""

import os
import sys
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfsc_bundle.errors import SfscError
from sfsc_training.checkpoint import read_recipe, write_json
from sfsc_training.config import Recipe, load_recipe, packaged_recipes
from sfsc_training.data.read import read_dataset
from sfsc_training.data.reader import Dataset
from sfsc_training.errors import RecipeError, TrainingError
from sfsc_training.evaluation import (
    cost,
    cross_generation,
    embed_split,
    evaluate_split,
    mixed_gallery,
    open_run,
    print_matrices,
    report,
)
from sfsc_training.export import export as export_run
from sfsc_training.loop import Running
from sfsc_training.loop import train as train_run
from sfsc_training.progress import counting
from sfsc_training.report.page import write_report
from sfsc_training.results import read_result
from sfsc_training.sweep import read_sweep, run_sweep

__all__ = ["main"]

app = typer.Typer(
    help="Train one network at several widths whose embeddings can all be compared, and export it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

DataFolder = Annotated[
    Path, typer.Option("--data", help="DIR/{train,test}/IDENTITY/IMAGE, or DIR/IDENTITY/IMAGE, split by identity")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder that `train` wrote")]
Split = Annotated[str, typer.Option(help="test, or validation: identities of the training split kept for choices")]


class Device(StrEnum):
    """Where a run is trained."""

    CPU = "cpu"
    CUDA = "cuda"


def main() -> None:
    """Run the command; what goes wrong is one sentence on stderr and exit code 2."""
    try:
        app()
    except (TrainingError, SfscError) as error:
        print(f"sfsc-train: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="a TOML file or the name of a packaged recipe")],
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="run folder; one that exists is gone on with")],
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change the recipe: optimiser.steps=500")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="cores to compute on; default: all there are")] = _CORES,
    workers: Annotated[int, typer.Option(min=0, help="processes that prepare batches")] = 1,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 250,
    device: Annotated[Device, typer.Option(help="cpu, or cuda")] = Device.CPU,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the network")] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            "--compatible-with",
            metavar="RUN",
            help="a finished run: what it is for says the recipe's section [teacher]",
        ),
    ] = None,
) -> None:
    """Train all widths at once. Cut off at any moment, the same command goes on from the last checkpoint."""
    loaded = load_recipe(recipe, setting or [])
    dataset = _read(data, loaded)
    split = dataset.train
    console.print(f"{loaded.name}: {len(split.paths)} images of {len(split.identities)} identities → {out}")
    running = Running(threads, workers, checkpoint_every, device.value, compiled)
    train_run(loaded, dataset, out, console, running, teacher)
    console.print(f"done; next: sfsc-train evaluate {out} --data {data}")


@app.command()
def evaluate(
    run: RunFolder,
    data: DataFolder,
    split: Split = "test",
    assignment: Annotated[
        Path | None, typer.Option(help="JSON, gallery image → width: also score a gallery of mixed widths")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="an older run: also the matrix across the two")
    ] = None,
    device: Annotated[Device, typer.Option(help="cpu, or cuda")] = Device.CPU,
) -> None:
    """Print and store the query width × gallery width matrices of mAP and rank-1."""
    dataset = _read(data, read_recipe(run))
    opened = open_run(run, dataset, device.value)
    part = dataset.part(split)
    embedded = embed_split(opened, part, console)
    cross = evaluate_split(embedded)
    print_matrices(cross, f"{opened.recipe.name}, step {opened.step}, {split}", console)
    result = report(cross, embedded.split) | {
        "step": opened.step,
        "recipe_sha256": opened.recipe.sha256,
        "cost": cost(opened),
    }
    if against is not None:
        generations = cross_generation(opened, open_run(against, device=device.value), part, console)
        print_matrices(generations, f"{against} and {run}", console)
        result["generations"] = report(generations, part)
    if assignment is not None:
        scores = mixed_gallery(embedded, assignment)
        result["mixed"] = {width: {"mean_ap": s.mean_ap, "rank1": s.rank1} for width, s in scores.items()}
        for width, score in scores.items():
            console.print(f"mixed gallery, query width {width}: mAP {score.mean_ap:.2f}  rank-1 {score.rank1:.2f}")
    path = run / f"evaluation-{split}.json"
    write_json(path, result)
    console.print(f"written to {path}")


@app.command()
def export(
    run: RunFolder,
    data: DataFolder,
    to: Annotated[Path, typer.Option("--to", help="bundle folder, for example models/NAME")],
    replace: Annotated[bool, typer.Option("--replace", help="replace a bundle that is there")] = False,
) -> None:
    """Write each width as a static ONNX graph, with its parity proved and the quality matrix in the manifest."""
    dataset = _read(data, read_recipe(run))
    bundle = export_run(open_run(run, dataset), dataset, to, console, replace=replace)
    size = sum((bundle.folder / part.file).stat().st_size for part in bundle.manifest.submodels) / 1e6
    console.print(
        f"{bundle.folder}: widths {', '.join(bundle.manifest.widths)}, {size:.1f} MB; next: sfsc serve {to}"
    )


@app.command()
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML: [[run]] with recipe, seeds, settings, teacher")
    ],
    data: DataFolder,
    runs: Annotated[Path, typer.Option("--out", help="run folders go here")] = Path("runs"),
    results: Annotated[Path, typer.Option(help="one JSON for each run")] = Path("benchmarks/results"),
    only: Annotated[
        str,
        typer.Option(metavar="GLOB", help="only runs of matching names, as *-seed0: processes can share a list"),
    ] = "*",
    split: Split = "test",
    threads: Annotated[int, typer.Option(min=1, help="cores to compute on; default: all there are")] = _CORES,
    workers: Annotated[int, typer.Option(min=0, help="processes that prepare batches")] = 1,
    device: Annotated[Device, typer.Option(help="cpu, or cuda")] = Device.CPU,
) -> None:
    """Train and evaluate a list of recipes × seeds; what has a result is skipped, a run cut off goes on."""
    planned = [plan for plan in read_sweep(file) if fnmatchcase(plan.folder, only)]
    if not planned:
        raise RecipeError(f"--only: no run of {file} has a name that matches {only}")
    running = Running(threads, workers, device=device.value)
    for path in run_sweep(planned, lambda recipe: _read(data, recipe), runs, results, split, console, running):
        console.print(f"result in {path}")


@app.command(name="report")
def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="run folders, or the JSON files of a sweep")],
    to: Annotated[Path, typer.Option("--to", help="folder for index.html and the images")] = Path("report"),
    split: Split = "test",
) -> None:
    """Write one page that compares finished runs: matrices, accuracy against cost, ablation, curves."""
    console.print(f"written to {write_report([read_result(run, split) for run in runs], to)}")


@app.command()
def recipes() -> None:
    """List the packaged recipes."""
    for name, path in packaged_recipes().items():
        console.print(f"{name:28} {path}", highlight=False)


def _read(data: Path, recipe: Recipe) -> Dataset:
    if recipe.data.vehicles is None:
        return read_dataset(data, recipe.data, recipe.seed)
    with counting(console, "drawing vehicles") as progress:
        return read_dataset(data, recipe.data, recipe.seed, progress)
