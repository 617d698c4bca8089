"""The training loop: all of a run in one screen. Everything it knows is in the checkpoint."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from sfsc_training.checkpoint import write_checkpoint
from sfsc_training.config import Recipe
from sfsc_training.data.augmentation import Augmentation
from sfsc_training.data.batches import Batches, make_loader
from sfsc_training.data.images import load_split
from sfsc_training.data.reader import Dataset
from sfsc_training.data.sampling import make_sampler
from sfsc_training.distributed import World, join_world
from sfsc_training.errors import TrainingError
from sfsc_training.gradients import Step, WidthGradients
from sfsc_training.networks.family import Family
from sfsc_training.optimisers import learning_rate
from sfsc_training.progress import bar
from sfsc_training.state import State, make_state, open_folder
from sfsc_training.teacher import Teacher, load_teacher

__all__ = ["Running", "train"]

_LOG_EVERY = 25


@dataclass(frozen=True, slots=True)
class Running:
    """How a run is carried out; nothing here changes its result on one machine."""

    threads: int = 2
    workers: int = 1
    checkpoint_every: int = 250
    device: str = "cpu"
    compiled: bool = False


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    console: Console,
    running: Running,
    teacher_folder: Path | None = None,
) -> Family:
    """Train a recipe, or go on from the folder's checkpoint; under torchrun, on all its processes.

    Raises:
        CheckpointError: the folder holds a run of another recipe, network, data or teacher.
        DataError: an image cannot be read, or a batch cannot be made.
        DivergenceError: a loss is no longer finite or has exploded; names width and step.
        NetworkError: the backbone cannot be made switchable.
        RecipeError: the recipe's teacher is missing.
        TrainingError: CUDA is asked for and not there.
    """
    if running.device not in ("cpu", "cuda"):
        raise TrainingError(f"device must be cpu or cuda, found {running.device!r}")
    if running.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device cuda is asked for, and torch finds none")
    torch.set_num_threads(running.threads)
    with join_world(running.device) as world:
        console = console if world.rank == 0 else Console(quiet=True)
        teacher = load_teacher(teacher_folder, recipe, dataset.train, console)
        torch.manual_seed(recipe.seed)
        state = make_state(recipe, len(dataset.train.identities), teacher, running.device)
        # The first process alone owns the folder, which the others need not even see.
        found = open_folder(folder, recipe, dataset, teacher) if world.rank == 0 else None
        checkpoint = world.from_first(found)
        if checkpoint is not None:
            state.load(checkpoint, folder)
        elif recipe.network.start is not None:
            state.start_from(recipe.network.start, dataset.train.identities)
        start = checkpoint.step if checkpoint else 0
        batches = _make_batches(recipe, dataset, start, world, console)
        gradients = WidthGradients(
            state.family, state.classifier, recipe, teacher, world, compiled=running.compiled
        )
        history = _History(folder if world.rank == 0 else None, recipe.width_names)
        with history, bar(console, recipe.name, recipe.optimiser.steps, done=start) as progress:
            began = time.monotonic()
            gradients.train_mode()
            for step, parts in enumerate(make_loader(batches, running.workers), start):
                rate = learning_rate(step, recipe.optimiser)
                found_step = gradients.step(parts, step)
                if recipe.optimiser.clip_norm:
                    nn.utils.clip_grad_norm_(gradients.parameters, recipe.optimiser.clip_norm)
                for group in state.optimiser.param_groups:
                    group["lr"] = rate
                state.optimiser.step()
                state.average()
                speed = (step - start + 1) * recipe.optimiser.batch / (time.monotonic() - began)
                progress.advance(
                    f"loss {max(found_step.losses.values()):.3f}  lr {rate:.1e}  {speed:.0f} images/s"
                )
                last = step + 1 == recipe.optimiser.steps
                if step % _LOG_EVERY == 0 or last:
                    history.write(step, rate, speed, found_step)
                if last or (step + 1) % running.checkpoint_every == 0:
                    history.flush()
                    _save(folder, step + 1, recipe, dataset, teacher, state, world)
    return state.family


def _make_batches(recipe: Recipe, dataset: Dataset, start: int, world: World, console: Console) -> Batches:
    split, section = dataset.train, recipe.optimiser
    parts, each = section.micro_batches, section.micro_batches // world.size
    if parts % world.size:
        raise TrainingError(f"optimiser.micro_batches = {parts} must divide among {world.size} processes")
    with bar(console, "reading images", len(split.paths)) as progress:
        split, images = load_split(split, recipe.data, progress.advance)
    unit = parts * (recipe.sampler.images if recipe.sampler.kind == "identities" else 1)
    size = min(section.batch, len(split.classes) // unit * unit)
    sampler = make_sampler(recipe.sampler, split.classes, size, recipe.seed)
    augmentation = Augmentation(recipe.augmentation, recipe.data.height, recipe.data.width)
    return Batches(
        images,
        split.classes,
        augmentation,
        sampler,
        seed=recipe.seed,
        start=start,
        stop=section.steps,
        parts=parts,
        mine=range(world.rank * each, (world.rank + 1) * each),
    )


def _save(
    folder: Path,
    step: int,
    recipe: Recipe,
    dataset: Dataset,
    teacher: Teacher | None,
    state: State,
    world: World,
) -> None:
    world.average(state.buffers())
    if world.rank == 0:
        write_checkpoint(folder, state.checkpoint(step, recipe, dataset, teacher))


class _History:
    """`history.jsonl`; without a folder it writes nothing."""

    def __init__(self, folder: Path | None, widths: Sequence[str]) -> None:
        self._file = None if folder is None else (folder / "history.jsonl").open("a")
        self._widths = widths

    def __enter__(self) -> "_History":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def write(self, step: int, rate: float, speed: float, found: Step) -> None:
        """One line."""
        by_width = {
            name: {self._widths[index]: value for index, value in values.items()}
            for name, values in (
                ("loss", found.losses),
                ("uncertainty", found.uncertainty),
                ("gradient_norm", found.norms),
            )
        }
        line = {
            "step": step,
            "lr": rate,
            "images_per_s": round(speed, 1),
            **by_width,
            "conflicts": found.conflicts,
        }
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
