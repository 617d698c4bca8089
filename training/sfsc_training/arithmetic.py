"""The arithmetic of a training, so that recipes can be compared at an equal amount of it."""

from collections import Counter
from typing import NamedTuple

import torch

from sfsc_training.config import Recipe
from sfsc_training.cost import macs
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.length import batch_size, with_length
from sfsc_training.losses.objective import needs_soft_targets, needs_widest
from sfsc_training.networks.build import make_family
from sfsc_training.trained_widths import alone

__all__ = ["Arithmetic", "training_arithmetic"]

_BACKWARD = 2  # a backward pass computes two products for each one of the forward pass
_UNTRAINED = {"pretrained": False, "weights": None, "weights_file": None}
Costs = tuple[int, ...]
"""Of each width, ascending."""


class Arithmetic(NamedTuple):
    """Multiply-accumulates of all steps: `trained`, forward and backward; `taught`: passes that only teach.

    Classifier, losses and optimiser are left out, and so is what the training of a teacher took.
    """

    trained: int
    taught: int

    def __str__(self) -> str:
        """`172 TFLOP, 20 of them in passes that only teach`."""
        whole = f"{_tera(sum(self))} TFLOP"
        return whole + (f", {_tera(self.taught)} of them in passes that only teach" if self.taught else "")


def training_arithmetic(
    recipe: Recipe, images: int, *, steps: int | None = None, teacher: Recipe | None = None
) -> Arithmetic:
    """The arithmetic of a training with so many training images; with a sandwich, as it is expected.

    Args:
        steps: how many were made; None: all of the recipe.
        teacher: the recipe of the finished run that teaches.
    """
    section = with_length(recipe, images).optimiser
    growing = GrowingAugmentation(recipe.augmentation, recipe.data.height, recipe.data.width, section.steps)
    made = range(section.steps if steps is None else steps)
    kinds = Counter((growing.at(step).size, alone(step, section)) for step in made)
    trained, taught = 0.0, 0.0
    for (size, widest_alone), count in kinds.items():
        forward = _forward(recipe, size)
        distilling = _distilling(recipe, teacher, size)
        own, others = (costs[-1] if widest_alone else _expected(recipe, costs) for costs in (forward, distilling))
        passes = count * batch_size(recipe, images)
        trained += passes * (1 + _BACKWARD) * own
        taught += passes * (others + (0 if widest_alone else forward[-1] * _references(recipe)))
    return Arithmetic(round(trained), round(taught))


def _tera(count: int) -> str:
    found = 2e-12 * count  # two floating-point operations a multiply-accumulate
    return f"{found:,.0f}" if found >= 10 else f"{found:.2g}"


def _forward(recipe: Recipe, size: tuple[int, int]) -> Costs:
    """Multiply-accumulates of a forward pass of one image."""
    with torch.random.fork_rng(devices=[]):
        family = make_family(recipe.network.model_copy(update=_UNTRAINED), recipe.widths)
    image = torch.zeros(1, 3, *size, dtype=torch.uint8)
    return tuple(macs(family.sliced(index).eval(), image) for index in range(family.widths))


def _expected(recipe: Recipe, costs: Costs) -> float:
    """Of the widths that a step trains together."""
    trained = costs[:-1] if recipe.teacher is not None and recipe.teacher.full else costs
    middle, between = trained[1:-1], recipe.optimiser.sandwich
    if between is None or between >= len(middle):
        return sum(trained)
    return trained[0] + trained[-1] + between * sum(middle) / len(middle)


def _references(recipe: Recipe) -> int:
    """Passes of full width in a step that narrower widths learn from, and that train nothing."""
    loss, frozen = recipe.loss, recipe.teacher is not None and recipe.teacher.full
    averaged = loss.reference == "average" and len(recipe.widths) > 1
    return averaged + (frozen and (needs_widest(loss) or needs_soft_targets(loss)))


def _distilling(recipe: Recipe, teacher: Recipe | None, size: tuple[int, int]) -> Costs:
    """Of the teacher's passes for each width: those of its wider widths, or of its widest."""
    if teacher is None or recipe.teacher is None or not recipe.teacher.distil:
        return (0,) * len(recipe.widths)
    there = list(zip(teacher.widths, _forward(teacher, size), strict=True))
    wider = [[cost for width, cost in there if width > own] for own in recipe.widths]
    return tuple(sum(costs) if costs else there[-1][1] for costs in wider)
