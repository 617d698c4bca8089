"""How long a recipe takes on this machine, from a few steps of a network that is then forgotten."""

import time
from typing import NamedTuple

import numpy as np
import torch

from sfsc_training.config import Recipe
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.data.batches import Batches
from sfsc_training.data.sampling import Shuffle
from sfsc_training.distributed import World
from sfsc_training.early_stopping import looked_at
from sfsc_training.embed import embed
from sfsc_training.loop import RunOptions, compute_gradients, update_weights
from sfsc_training.state import make_state
from sfsc_training.step_setup import StepSetup, prepare_steps

__all__ = ["Seconds", "training_seconds"]

_MOST_STEPS = 3  # of each image size, after one that is not timed
_ENOUGH_S = 3.0
_TINY = 1e-12  # learning rate: noise as images must not make a loss explode
_SCORED = 64  # images whose embedding is timed
_UNTRAINED = {"pretrained": False, "weights": None, "weights_file": None}


class Seconds(NamedTuple):
    """Of all steps together, and of all looks of early stopping if the run takes its full length."""

    steps: float
    looks: float


def training_seconds(recipe: Recipe, identities: int, batch: int, validation: int, options: RunOptions) -> Seconds:
    """Seconds that the steps of a recipe take: those timed, times how often there is one of their image size.

    A step is timed without a teacher and without torch.compile, on random images of the right size, and with the
    time that preparing its batch takes in this process; a worker process prepares it meanwhile, so it is a little
    less then.

    Args:
        batch: images per step.
        validation: images that early stopping scores; 0: it does not.
    """
    network = recipe.network.model_copy(update=_UNTRAINED)
    optimiser = recipe.optimiser.model_copy(update={"lr": _TINY})
    alone = recipe.model_copy(update={"teacher": None, "network": network, "optimiser": optimiser})
    torch.set_num_threads(options.threads)
    with torch.random.fork_rng(devices=[]):
        setup = prepare_steps(make_state(alone, identities, None, options.device), alone, None, World())
        setup.train_mode()
        batches = _random_batches(alone, identities, batch)
        steps = recipe.optimiser.steps
        stepping = sum(count * _seconds(setup, batches, first) for first, count in _stages(recipe, steps))
        return Seconds(stepping, _looks(recipe) * _look_seconds(setup, recipe, validation) if validation else 0.0)


def _looks(recipe: Recipe) -> int:
    section = recipe.early_stopping
    return 0 if section is None else -(-recipe.optimiser.steps // section.every)


def _look_seconds(setup: StepSetup, recipe: Recipe, images: int) -> float:
    pixels = np.zeros((min(images, _SCORED), recipe.data.height, recipe.data.width, 3), np.uint8)
    family, began = setup.state.family, time.monotonic()
    for index in looked_at(family.widths):
        embed(family, pixels, index)
    return (time.monotonic() - began) * images / len(pixels)


def _stages(recipe: Recipe, steps: int) -> list[tuple[int, int]]:
    """(first step, number of steps) of each image size."""
    shares = [share for share, _ in recipe.augmentation.growing]
    ends = [round(steps * end) for end in np.cumsum(shares)] + [steps]
    firsts = [0, *ends[:-1]]
    return [(first, end - first) for first, end in zip(firsts, ends, strict=True) if end > first]


def _random_batches(recipe: Recipe, identities: int, batch: int) -> Batches:
    random, section = np.random.default_rng(0), recipe.data
    return Batches(
        random.integers(0, 256, (batch, section.height, section.width, 3), dtype=np.uint8),
        np.arange(batch, dtype=np.int64) // 2 % identities,  # triplets need two of an identity
        GrowingAugmentation(recipe.augmentation, section.height, section.width, recipe.optimiser.steps),
        Shuffle(batch, batch, recipe.seed),
        seed=recipe.seed,
        start=0,
        stop=recipe.optimiser.steps,
        micro_batches=recipe.optimiser.micro_batches,
    )


def _seconds(setup: StepSetup, batches: Batches, step: int) -> float:
    _do(setup, batches, step)  # memory is allocated, code paths are chosen
    began, timed = time.monotonic(), 0
    while timed < _MOST_STEPS and (timed == 0 or time.monotonic() - began < _ENOUGH_S):
        _do(setup, batches, step)
        timed += 1
    return (time.monotonic() - began) / timed


def _do(setup: StepSetup, batches: Batches, step: int) -> None:
    device = setup.gradients.values.device
    compute_gradients(setup, batches.batch(step), step)
    update_weights(setup, step)
    if device.type == "cuda":
        torch.cuda.synchronize()
