"""Start a run folder, or resume the run in it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfsc_training.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    read_labels,
    read_recipe,
    read_step,
    write_json,
)
from sfsc_training.config import Recipe, differences
from sfsc_training.data.dataset import Dataset
from sfsc_training.distributed import World
from sfsc_training.errors import CheckpointError
from sfsc_training.run_data import changes_since, read_run_data, write_run_data
from sfsc_training.run_lock import LOCK, locked
from sfsc_training.state import State
from sfsc_training.teacher import Teacher

__all__ = ["check_run_folder", "only_writer", "start_or_resume"]


def check_run_folder(folder: Path, recipe: Recipe) -> None:
    """Whether a recipe can be trained in a folder: a new or empty one, or one with a run of the same recipe.

    Raises:
        CheckpointError: it is a file, holds something else, or a run of another recipe, whose keys are named.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"--out must be a folder; {folder} is a file")
    if (folder / "recipe.json").exists():
        there = read_recipe(folder)
        # How much memory images may take may change: one that was killed for want of it goes on with less.
        cache = {"max_cache_gib": there.data.max_cache_gib}
        if there.sha256 != recipe.model_copy(update={"data": recipe.data.model_copy(update=cache)}).sha256:
            trained = has_checkpoint(folder)
            further = f"start a new run from its weights with --from {folder}" if trained else f"delete {folder}"
            what = f"{folder} holds a run of another recipe: {differences(there, recipe)}"
            raise CheckpointError(f"{what}; give another --out, or {further}")
    elif folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise CheckpointError(
            f"--out must be a new or empty folder, or one with a run; {folder} holds other files"
        )


@contextmanager
def only_writer(folder: Path, recipe: Recipe, world: World) -> Iterator[None]:
    """Keep other trainings out of a folder, as the first process of a run.

    Raises:
        CheckpointError: as `check_run_folder`, or another process trains in the folder.
    """
    if world.rank > 0:
        yield
        return
    check_run_folder(folder, recipe)
    with locked(folder):
        yield


def start_or_resume(
    state: State, folder: Path, recipe: Recipe, dataset: Dataset, teacher: Teacher | None, world: World
) -> int:
    """The step to go on from: 0 in a new folder, else that of the checkpoint, which is loaded into `state`.

    Only the first process reads and writes the folder. Which one that is can change when torchrun starts them
    again, so that machines must share the folder: it is an error if another one has gone further there.

    Raises:
        CheckpointError: the folder holds a run of another recipe, network, data set or teacher, or an earlier
            state of the run than the folder of that name on another machine.
    """
    found = _open_folder(folder, recipe, dataset, teacher) if world.rank == 0 else None
    checkpoint: Checkpoint | None = world.from_first(found)
    _check_shared(folder, checkpoint, world)
    if checkpoint is not None:
        state.load(checkpoint, folder, recipe.network)
        return checkpoint.step
    if recipe.network.start is not None:
        state.start_from(recipe.network.start, recipe.network, dataset.train.identities)
    return 0


def _check_shared(folder: Path, checkpoint: Checkpoint | None, world: World) -> None:
    if world.size == 1:
        return
    here = 0 if checkpoint is None else checkpoint.step
    states: list[tuple[int, str]] = world.from_all((read_step(folder), socket.gethostname()))
    step, machine = max(states)
    if step > here:
        raise CheckpointError(
            f"{folder} on {machine} has the run after step {step}, and that on {states[0][1]}, where the first "
            f"process is now, {f'after step {here}' if here else 'not at all'}: the run folder must be on a file "
            "system that all machines share"
        )


def _open_folder(folder: Path, recipe: Recipe, dataset: Dataset, teacher: Teacher | None) -> Checkpoint | None:
    check_run_folder(folder, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
        write_json(folder / "labels.json", dataset.train.identities)
        write_run_data(folder, dataset)
        if teacher is not None and recipe.teacher is not None:
            compatible = recipe.teacher.full or recipe.teacher.classifier or recipe.teacher.classify > 0
            write_json(folder / "teacher.json", teacher.describe() | {"compatible": compatible})
        return None
    labels, here = len(read_labels(folder)), len(dataset.train.identities)
    if labels != here:
        raise CheckpointError(
            f"the run in {folder} classifies {labels} identities, but --data has {here} to train on; "
            "give another --out"
        )
    if checkpoint.data_sha256 != dataset.sha256:
        trained = read_run_data(folder)
        changes = "" if trained is None else f" ({changes_since(trained, dataset)})"
        raise CheckpointError(
            f"the run in {folder} was trained with another data set{changes}; give another --out, or start "
            f"a new run from its weights with --from {folder}"
        )
    if checkpoint.teacher_sha256 != (teacher.run.weights_sha256 if teacher else None):
        raise CheckpointError(f"the run in {folder} was trained with another teacher; give another --out")
    return checkpoint
