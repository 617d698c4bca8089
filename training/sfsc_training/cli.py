"""The command `sfsc-train`: train, align, evaluate, export, adopt, shards, sweep, report, tensorboard, recipes."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from sfsc_bundle.errors import SfscError
from sfsc_bundle.folder import check_target
from sfsc_training.adopt.command import adopt_command
from sfsc_training.align_run import MethodName, align_joined, align_run, align_trained, make_method
from sfsc_training.arithmetic_file import write_arithmetic
from sfsc_training.check_parts import check_parts
from sfsc_training.checkpoint import has_checkpoint, older_space
from sfsc_training.cli_options import (
    CORES,
    DataFolder,
    DeviceOption,
    OneOrBothSplits,
    Replace,
    SplitName,
    Threads,
    Timeout,
    Unlabelled,
    Workers,
)
from sfsc_training.config import Recipe, load_recipe, packaged_recipes, purpose
from sfsc_training.continuation import continued_recipe
from sfsc_training.data.dataset import Dataset
from sfsc_training.datasets import decode_for_training, open_with_data, read_for_recipe, read_for_training
from sfsc_training.device import Device
from sfsc_training.distributed import TIMEOUT_S, is_alone, is_first
from sfsc_training.errors import ExportError, FailedError, RecipeError, TrainingError
from sfsc_training.evaluate_command import evaluate_command
from sfsc_training.event_files import write_event_files
from sfsc_training.export import export_joined
from sfsc_training.export_command import export_command, print_alignment, print_bundle
from sfsc_training.full_width import exchange, reason_to_exchange
from sfsc_training.joined_runs import JoinedRuns, open_joined
from sfsc_training.loop import RunOptions
from sfsc_training.loop import train as train_run
from sfsc_training.plan import print_plan, print_time
from sfsc_training.report.page import write_report
from sfsc_training.results import read_result
from sfsc_training.resume import check_run_folder
from sfsc_training.run import open_run
from sfsc_training.shards_command import shards_command
from sfsc_training.sweep import read_sweep, run_sweep

__all__ = ["main"]

app = typer.Typer(
    help="Train one network at several widths whose embeddings are all comparable, evaluate it and export it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take [teacher] and [[run]] in the help texts for markup
)
console = Console(markup=False, emoji=False)  # names of folders are no markup
INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C has ended."""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr.

    The exit code is 2 where an argument, a recipe or what they name cannot be used, 1 where the work failed.
    """
    try:
        app()
    except (FailedError, ExportError) as error:
        _fail(str(error), 1)
    except (TrainingError, SfscError) as error:
        _fail(str(error), 2)
    except OSError as error:  # a full disk, or no permission
        _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), 1)


def _fail(message: str, code: int) -> NoReturn:
    print(f"sfsc-train: {' '.join(message.splitlines())}", file=sys.stderr)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"sfsc-train {version('sfsc')}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    data: DataFolder,
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="TOML file, or name of a packaged recipe (see `recipes`); with --from not needed",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="run folder; an existing run is resumed  [default: runs/NAME, the recipe's name]",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="a new run that starts from the weights of this one, with its recipe: for more steps or another "
            "rate, see --set",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change a key of the recipe, as in optimiser.steps=500"),
    ] = None,
    threads: Threads = CORES,
    workers: Workers = 1,
    checkpoint_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="steps between checkpoints; one is written each minute, too")
    ] = 250,
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
    timeout: Timeout = TIMEOUT_S,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="leave out the alignment after the training")
    ] = False,
) -> None:
    """Train all widths at once, then align them.

    For photographs of your own, in a folder per identity: sfsc-train train photos --data FOLDER

    It says first what it will do. A run that was stopped, at any moment, is resumed by the same command.
    """
    loaded = _recipe(recipe, setting or [], start)
    folder = out or Path("runs") / loaded.name
    check_run_folder(folder, loaded)
    if not has_checkpoint(folder):
        check_parts(loaded, teacher)
    dataset = read_for_training(data, loaded, folder, console)
    dataset, images = decode_for_training(dataset, loaded, console, folder)
    options = RunOptions(threads, workers, checkpoint_every, device, compiled, timeout)
    if is_first():
        print_plan(loaded, dataset, data, folder, console, teacher)
        if not has_checkpoint(folder):
            print_time(loaded, dataset, console, options)
    with _say_how_to_resume(folder):
        train_run(loaded, dataset, folder, console, options, teacher, images)
        if not is_first():
            return
        _finish(folder, dataset, device, teacher, aligned=not no_align)
    console.print(f"{loaded.name} is trained; next: sfsc-train evaluate {folder} --data {data}")


@contextmanager
def _say_how_to_resume(folder: Path) -> Iterator[None]:
    """Answer Ctrl-C with where the checkpoint is and the command that resumes the run from it."""
    try:
        yield
    except KeyboardInterrupt:
        if not is_first():
            sys.exit(INTERRUPTED)
        path, command = folder / "checkpoint.pt", shlex.join(["sfsc-train", *sys.argv[1:]])
        if not is_alone():
            command = f"the same torchrun command, which ran {command}"
        if path.exists():
            _fail(f"interrupted; the checkpoint is {path}; resume with: {command}", INTERRUPTED)
        _fail(f"interrupted before the first checkpoint; start again with: {command}", INTERRUPTED)


def _finish(folder: Path, dataset: Dataset, device: Device, teacher: Path | None, *, aligned: bool) -> None:
    """What follows the last step of a training: alignment, its arithmetic, and the untouched network beside it."""
    if aligned:
        older = None if teacher is None or older_space(folder) is None else open_run(teacher, device=device)
        trained = align_trained(folder, dataset, device, console, older)
        print_alignment(JoinedRuns((trained,)), console)
    else:
        trained = open_run(folder, dataset, device)
    write_arithmetic(trained, len(dataset.train.paths), teacher)
    reason = reason_to_exchange(trained, dataset, console)
    if reason is not None:
        console.print(exchange(trained, dataset, reason), highlight=False, soft_wrap=True)


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
    ridge_share: Annotated[
        float, typer.Option(metavar="SHARE", min=0.0, max=1.0, help="share of the ridge map in a blend")
    ] = 0.7,
    strength: Annotated[
        float, typer.Option(metavar="NUMBER", min=1e-6, max=1e6, help="λ of ridge and least squares")
    ] = 0.01,
    compatible_with: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="older run whose full-width embeddings are the target"),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FOLDER", help="join several runs: bundle folder to write, such as models/NAME"
        ),
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
    joined, dataset = open_joined(runs, lambda run: open_with_data(run, data, console, device, aligned=False))
    if to is None:
        run = align_run(joined.widest, dataset, console, method=chosen, unlabelled=unlabelled, older=older)
        print_alignment(JoinedRuns((run,)), console)
        return
    joined = align_joined(joined, dataset, console, method=chosen, unlabelled=unlabelled, older=older)
    print_alignment(joined, console)
    bundle = export_joined(joined, dataset, to, console, replace=replace)
    print_bundle(bundle, console, joined.widest.recipe.network.dimension)


app.command(name="evaluate")(evaluate_command)
app.command(name="export")(export_command)
app.command(name="adopt")(adopt_command)
app.command(name="shards")(shards_command)


@app.command()
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML list of [[run]] with recipe, seeds, settings, teacher")
    ],
    data: DataFolder,
    runs: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="folder for the run folders")] = Path(
        "runs"
    ),
    results: Annotated[
        Path, typer.Option(metavar="FOLDER", help="folder for the results, one JSON per run")
    ] = Path("results"),
    only: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="only the runs with a matching name, such as *-seed0; processes can share a list"
        ),
    ] = "*",
    split: OneOrBothSplits = "test",
    threads: Threads = CORES,
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
    splits = ("validation", "test") if split == "both" else (split,)
    for path in run_sweep(
        planned, lambda recipe: read_for_recipe(data, recipe, console), runs, results, splits, console, options
    ):
        console.print(f"result: {path}")


@app.command(name="report")
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="evaluated run folders, or JSON files of a sweep")
    ],
    to: Annotated[
        Path, typer.Option("--to", metavar="FOLDER", help="folder for index.html and the figures")
    ] = Path("report"),
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
    """List the packaged recipes, each with what it is for."""
    packaged = packaged_recipes()
    longest = max(map(len, packaged))
    for name, path in packaged.items():
        console.print(f"{name:{longest}}  {purpose(path)}", highlight=False, soft_wrap=True)
    console.print(f"\ntheir files: {next(iter(packaged.values())).parent}", highlight=False, soft_wrap=True)


def _recipe(name: str | None, settings: list[str], start: Path | None) -> Recipe:
    if start is not None:
        return continued_recipe(start, None if name is None else load_recipe(name), settings)
    if name is None:
        raise RecipeError(
            "give a RECIPE, such as photos for photographs of your own; sfsc-train recipes lists them"
        )
    return load_recipe(name, settings)
