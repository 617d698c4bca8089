"""The data set that a recipe is trained on, and the one that a finished run is evaluated on."""

from pathlib import Path

from rich.console import Console

from sfsc_bundle.progress import bar, counting
from sfsc_training.checkpoint import has_checkpoint, read_labels, read_recipe
from sfsc_training.config import Recipe
from sfsc_training.data.check_images import check_images
from sfsc_training.data.dataset import Dataset
from sfsc_training.data.division import Division
from sfsc_training.data.images import Images
from sfsc_training.data.read import read_dataset
from sfsc_training.device import Device
from sfsc_training.errors import CheckpointError
from sfsc_training.run import Run, open_run
from sfsc_training.run_data import RunData, changes_since, read_run_data

__all__ = ["decode_for_training", "is_as_trained", "open_with_data", "read_for_recipe", "read_for_training"]


def read_for_recipe(data: Path, recipe: Recipe, console: Console, earlier: Division | None = None) -> Dataset:
    """Names and roles of all images of a recipe's data set. Raises DataError."""
    if recipe.data.vehicles is None:
        return read_dataset(data, recipe.data, recipe.seed, earlier=earlier)
    with counting(console, "drawing vehicles") as progress:
        return read_dataset(data, recipe.data, recipe.seed, progress, earlier)


def read_for_training(data: Path, recipe: Recipe, folder: Path, console: Console) -> Dataset:
    """The data set of a training in a run folder.

    Identities stay in the split that the run in the folder has them in, or the run whose weights it starts from.

    Raises:
        DataError: something in the data cannot be used, and is not to be left out.
        CheckpointError: the data.json of one of these runs cannot be used.
    """
    start = recipe.network.start
    known = _trained_with(folder) or (None if start is None else _trained_with(start))
    return read_for_recipe(data, recipe, console, None if known is None else known.division(others=None))


def decode_for_training(
    dataset: Dataset, recipe: Recipe, console: Console, folder: Path | None = None
) -> tuple[Dataset, Images]:
    """Decode all images, as `check_images`, showing progress.

    Args:
        folder: of a run. If it is resumed, images that it could decode when it began are decoded for their pixels
            only: a training that is killed on many images goes on at once.
    """
    count = sum(len(split.paths) for split in dataset.splits.values())
    begun = folder is not None and has_checkpoint(folder)
    trained = read_run_data(folder) if folder is not None and begun else None
    readable = (
        None if trained is None else {k: v for part in trained.splits for k, v in trained.images(part).items()}
    )
    with bar(console, "reading images", count) as progress:
        return check_images(dataset, recipe.data, progress.advance, readable=readable)


def open_with_data(
    folder: Path, data: Path, console: Console, device: Device = "cpu", *, aligned: bool = True
) -> tuple[Run, Dataset]:
    """A run and its data set, which may have gained and lost images since: that is counted and printed.

    Identities stay where the training had them; new ones belong to the test.

    Raises:
        CheckpointError: as `open_run`; the data has no image of the training; or the run is of an earlier version,
            which stored no data.json, and the data is not what it was.
        DataError: something in the data cannot be used, and is not to be left out.
    """
    recipe, trained = read_recipe(folder), _trained_with(folder)
    if trained is None:
        dataset = read_for_recipe(data, recipe, console)
        return open_run(folder, dataset, device, aligned=aligned), dataset
    dataset = read_for_recipe(data, recipe, console, trained.division(others="test"))
    changes = changes_since(trained, dataset)
    if changes:
        console.print(
            f"since the training {data} has {changes}; identities stay in their split, new ones are tested",
            highlight=False,
        )
    return open_run(folder, device=device, aligned=aligned), dataset


def is_as_trained(folder: Path, dataset: Dataset) -> bool:
    """Whether a data set has the images that a run was trained with, no more, no fewer, and with the same content.

    Raises:
        CheckpointError: the run's data.json cannot be used.
    """
    trained = _trained_with(folder)
    return trained is None or not changes_since(trained, dataset).of_content


def _trained_with(folder: Path) -> RunData | None:
    """The data.json of a run, whose training identities must be those of its classifier."""
    found = read_run_data(folder)
    if found is not None and set(found.splits["train"]) != set(read_labels(folder)):
        raise CheckpointError(
            f"{folder}: data.json lists other training identities than labels.json; one of them was changed"
        )
    return found
