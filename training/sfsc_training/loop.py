"""Training, from the recipe to the weights: read this file from the top.

`train` opens a run and loops over its steps. A step is `compute_gradients`, then `update_weights`:

    each width, widest first    forward → loss → gradient over the weights that it uses       (docs/method.md §2)
    all widths together         mean over micro-batches and processes → one update vector     (docs/method.md §3)
    optimiser                   clip → step → average of the weights

All state of the loop is in the checkpoint, and everything random is a function of (seed, step): a run that was
stopped at any moment continues to the same result.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from sfsc_bundle.progress import bar
from sfsc_training.aggregation.aggregate import Update, aggregate
from sfsc_training.checkpoint import Best, write_checkpoint
from sfsc_training.config import Recipe
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.data.batches import Batches, MicroBatch
from sfsc_training.data.dataset import Dataset, Split
from sfsc_training.data.images import Images, load_split
from sfsc_training.data.loader import deliver, explain_lost_workers
from sfsc_training.data.sampling import make_sampler
from sfsc_training.device import Device, check_device
from sfsc_training.distributed import TIMEOUT_S, World, join_world, restart
from sfsc_training.early_stopping import EarlyStopping, counted_from
from sfsc_training.errors import DivergenceError, TrainingError
from sfsc_training.history import History, StepSummary
from sfsc_training.length import batch_size, with_length
from sfsc_training.losses.objective import WidthLoss
from sfsc_training.malloc import keep_large_blocks
from sfsc_training.networks.family import Family
from sfsc_training.optimisers import learning_rate
from sfsc_training.passes import draw, width_passes
from sfsc_training.resume import only_writer, start_or_resume
from sfsc_training.running_statistics import RunningStatistics
from sfsc_training.state import State, make_state
from sfsc_training.step_setup import StepSetup, prepare_steps
from sfsc_training.teacher import load_teacher
from sfsc_training.trained_widths import trained_at

__all__ = ["RunOptions", "compute_gradients", "train", "update_weights"]

_LOG_EVERY = 25  # steps
_CHECKPOINT_EVERY_S = 60.0
"""Seconds after which a checkpoint is due though its step is not: steps may take seconds each."""
_EXPLODED = 1e6  # a loss above this has diverged


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out. None of it changes the result on one machine.

    `threads`: cores to compute on; `workers`: processes that prepare batches; `checkpoint_every`: in steps;
    one is written each minute, too; `compiled`: compile the network with torch.compile; `timeout_s`: seconds after
    which a process that does not answer is given up, where there are several.
    """

    threads: int = 2
    workers: int = 1
    checkpoint_every: int = 250
    device: Device = "cpu"
    compiled: bool = False
    timeout_s: float = TIMEOUT_S


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    console: Console,
    options: RunOptions,
    teacher_folder: Path | None = None,
    images: Images | None = None,
) -> Family:
    """Train a recipe in a run folder, or resume the run in it; under torchrun, with all its processes.

    Args:
        images: those of the training split, uint8 [n, H, W, 3]; None: they are decoded here.

    Raises:
        CheckpointError: the folder holds a run of another recipe, network, data set or teacher, another process
            trains in it, or it is another folder for each machine and the run is not in that of the first process.
        DataError: an image cannot be read, or the data is too small for a batch.
        DivergenceError: a loss is no longer finite, or above 10⁶; the message names width and step.
        FailedError: a worker process, or another one of several that train, has ended or hangs; the disk refused.
        NetworkError: the backbone cannot be made switchable.
        RecipeError: the recipe needs a teacher and there is none, or the other way round.
        TrainingError: CUDA is asked for and there is none, or the micro-batches do not divide among the processes.
    """
    check_device(options.device)
    torch.set_num_threads(options.threads)
    keep_large_blocks()
    with join_world(options.device, options.timeout_s) as world, only_writer(folder, recipe, world):
        _check_parts(recipe, world)
        console = console if world.rank == 0 else Console(quiet=True)
        teacher = load_teacher(teacher_folder, recipe, dataset.train, console)
        torch.manual_seed(recipe.seed)
        state = make_state(recipe, len(dataset.train.identities), teacher, options.device)
        start = start_or_resume(state, folder, recipe, dataset, teacher, world)
        if start:
            console.print(_resumed(folder, start), highlight=False, soft_wrap=True)
        split, images = (dataset.train, images) if images is not None else _read_images(recipe, dataset, console)
        limited = with_length(recipe, len(split.paths))
        steps, stopping = limited.optimiser.steps, _early_stopping(limited, dataset)
        if stopping is not None and stopping.is_over(state, start):
            steps = start  # the run has ended already
        batches = _plan_batches(limited, split, images, start, steps, world)
        setup = prepare_steps(state, limited, teacher, world, compiled=options.compiled)
        setup.train_mode()
        statistics = RunningStatistics(state.family, world)
        history = History(folder if world.rank == 0 else None, recipe.width_names)
        bars = bar(console, recipe.name, steps, done=start)
        with history, explain_lost_workers(), bars as progress:
            began = saved = time.monotonic()
            for step, micro_batches in enumerate(deliver(batches, options.workers), start):
                statistics.begin()
                summary = compute_gradients(setup, micro_batches, step)
                statistics.merge()
                rate = update_weights(setup, step)
                speed = (step - start + 1) * recipe.optimiser.batch / (time.monotonic() - began)
                loss = max(summary.losses.values())
                progress.advance(f"loss {loss:.3f}  lr {rate:.1e}  {speed:.0f} images/s")
                done, score = step + 1, None
                last = done == steps
                if last:
                    _check_result(recipe, state, step)
                if stopping is not None and (last or stopping.is_due(done)):
                    score = stopping.look(state, done)
                    setup.train_mode()
                    last = last or world.from_first(stopping.is_over(state, done))
                if step % _LOG_EVERY == 0 or last or score is not None:
                    history.write(step, rate, speed, summary, score)
                waited = world.from_first(time.monotonic() - saved >= _CHECKPOINT_EVERY_S)
                if last or waited or done % options.checkpoint_every == 0:
                    history.flush()
                    if world.rank == 0:
                        write_checkpoint(folder, state.checkpoint(done, recipe, dataset, teacher, finished=last))
                    saved = time.monotonic()
                if last:
                    break
        if state.best is not None:
            console.print(_best(state.best), highlight=False, soft_wrap=True)
    return state.family


def compute_gradients(setup: StepSetup, micro_batches: Sequence[MicroBatch], step: int) -> StepSummary:
    """Set `.grad` of every trained parameter from this process's micro-batches.

    Raises:
        DivergenceError: a loss is no longer finite, or above 10⁶; the message names width and step.
    """
    recipe = setup.recipe
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    chosen = trained_at(step, recipe.optimiser, setup.trained, generator)
    for parameter in setup.private(index for index in setup.trained if index not in chosen):
        parameter.grad = None

    first = setup.world.rank * len(micro_batches)
    found = [
        _width_gradients(setup, batch, step, chosen, first + n, add=n > 0) for n, batch in enumerate(micro_batches)
    ]

    gradients = setup.gradients.values
    if len(chosen) < len(gradients):
        gradients = gradients[[setup.trained.index(index) for index in chosen]]
    private = [parameter.grad for parameter in setup.private(chosen) if parameter.grad is not None]
    for gradient in (gradients, *private) if len(micro_batches) > 1 else ():
        gradient.div_(len(micro_batches))
    setup.world.average([gradients, *private])

    update = aggregate(gradients, recipe.aggregation, generator, setup.regions)
    for parameter, gradient in zip(setup.shared, setup.gradients.split(update.vector, setup.shared), strict=True):
        parameter.grad = gradient
    return StepSummary(*found[0], _norms(setup, chosen, update), update.conflicts)


def _width_gradients(
    setup: StepSetup, batch: MicroBatch, step: int, chosen: Sequence[int], number: int, *, add: bool
) -> tuple[dict[int, float], dict[int, float]]:
    """Forward, loss and gradient of each chosen width on one micro-batch; returns losses and uncertainties.

    Args:
        number: of the micro-batch, among those of all processes.
        add: add to the gradients of the micro-batches before, instead of replacing those of the last step.
    """
    drawn = draw(setup, len(batch[1]), step, chosen, number)
    inputs = tuple(
        values.to(setup.gradients.values.device, non_blocking=True)
        for values in (batch if drawn is None else (*batch, drawn))
    )

    def passes(images: Tensor, classes: Tensor, drawn: Tensor | None = None) -> dict[int, WidthLoss]:
        return width_passes(setup, images, classes, step, chosen, drawn, add=add)

    losses = passes(*inputs) if setup.graphs is None else setup.graphs.run(passes, inputs, tuple(chosen))
    return _checked(setup.recipe, losses, step)


def _checked(recipe: Recipe, losses: dict[int, WidthLoss], step: int) -> tuple[dict[int, float], dict[int, float]]:
    """The losses as numbers, by position ascending, and the uncertainties of the widths that have one."""
    unsure = {index: found.uncertainty for index, found in losses.items() if found.uncertainty is not None}
    values = torch.stack([*(found.loss for found in losses.values()), *unsure.values()]).tolist()  # one wait
    for index, value in zip(losses, values, strict=False):
        if not math.isfinite(value) or abs(value) > _EXPLODED:
            raise DivergenceError(
                f"training diverged: the loss of width {recipe.width_names[index]} is {value} at step {step}; "
                f"{_remedy(recipe, step)}"
            )
    count = len(losses)
    return dict(sorted(zip(losses, values[:count], strict=True))), dict(
        sorted(zip(unsure, values[count:], strict=True))
    )


def _remedy(recipe: Recipe, step: int) -> str:
    if step == 0:  # nothing was learnt yet
        return "before the first update this comes of the settings of the loss, or of the weights it begins from"
    lower = f"try optimiser.lr={recipe.optimiser.lr / 2:g} or set optimiser.clip_norm"
    return f"{lower}, in another folder (--out)"


def _check_result(recipe: Recipe, state: State, step: int) -> None:
    """The last update is followed by no loss that would show what it did."""
    if not all(bool(parameter.isfinite().all()) for parameter in state.family.parameters()):
        raise DivergenceError(
            f"training diverged: weights are not finite after step {step}; {_remedy(recipe, step + 1)}"
        )


def update_weights(setup: StepSetup, step: int) -> float:
    """Move the weights along their `.grad`, and their average after them; returns the learning rate."""
    section, state = setup.recipe.optimiser, setup.state
    rate = learning_rate(step, section)
    if section.clip_norm:
        nn.utils.clip_grad_norm_([*setup.shared, *setup.private(setup.trained)], section.clip_norm)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    state.average()
    return rate


def _norms(setup: StepSetup, chosen: Sequence[int], update: Update) -> dict[int, float]:
    """‖g_i‖ of each chosen width."""
    norms = dict(zip(chosen, update.norms.tolist(), strict=True))
    if not setup.shared:  # separate networks: the norm of a width's own gradient
        own = {i: [p.grad.reshape(-1) for p in setup.private([i]) if p.grad is not None] for i in norms}
        norms = {i: float(torch.linalg.vector_norm(torch.cat(gradients))) for i, gradients in own.items()}
    return norms


def _read_images(recipe: Recipe, dataset: Dataset, console: Console) -> tuple[Split, Images]:
    """Decode the training images."""
    with bar(console, "reading images", len(dataset.train.paths)) as progress:
        return load_split(dataset.train, recipe.data, progress.advance)


def _check_parts(recipe: Recipe, world: World) -> None:
    count = recipe.optimiser.micro_batches
    if count % world.size:
        raise TrainingError(
            f"optimiser.micro_batches = {count} must divide among {world.size} processes; it decides the result, "
            "so choose it before the training"
        )


def _resumed(folder: Path, start: int) -> str:
    count, most = restart()
    again = f"torchrun has started the processes again ({count} of at most {most} times); " if count else ""
    return f"{again}the run in {folder} goes on after step {start}"


def _best(best: Best) -> str:
    return (
        f"the weights after step {best.step} are the result: on validation identities the narrowest and the "
        f"widest width had {best.score:.1f} mAP then"
    )


def _early_stopping(recipe: Recipe, dataset: Dataset) -> EarlyStopping | None:
    """None where the recipe has none, or the data too few validation identities."""
    if recipe.early_stopping is None or not dataset.validation.can_be_scored():
        return None
    images = load_split(dataset.validation, recipe.data)
    return EarlyStopping(recipe.early_stopping, *images, counted_from(recipe))


def _plan_batches(recipe: Recipe, split: Split, images: Images, start: int, stop: int, world: World) -> Batches:
    """The batches of the steps start … stop − 1."""
    section = recipe.optimiser
    count, each = section.micro_batches, section.micro_batches // world.size
    size = batch_size(recipe, len(split.classes))
    return Batches(
        images,
        split.classes,
        GrowingAugmentation(recipe.augmentation, recipe.data.height, recipe.data.width, section.steps),
        make_sampler(recipe.sampler, split.classes, size, recipe.seed),
        seed=recipe.seed,
        start=start,
        stop=stop,
        micro_batches=count,
        mine=range(world.rank * each, (world.rank + 1) * each),
    )
