"""The passes of a step: forward, loss and gradient of each width on one micro-batch (docs/method.md §2)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sfsc_training.losses.classifier import classifier_of, single_precision
from sfsc_training.losses.contrastive import draw_widths, mixed_gradients
from sfsc_training.losses.objective import (
    SoftTargets,
    WidthLoss,
    needs_soft_targets,
    needs_widest,
    soft_targets_of,
    width_loss,
)
from sfsc_training.step_setup import StepSetup

__all__ = ["draw", "width_passes"]


def draw(setup: StepSetup, images: int, step: int, chosen: Sequence[int], number: int) -> Tensor | None:
    """The width of each image in the contrastive term, a function of (seed, step, number); None without that term.

    Args:
        number: of the micro-batch.
    """
    if not setup.recipe.loss.contrastive:
        return None
    seed = int(np.random.default_rng([setup.recipe.seed, 3, step, number]).integers(2**62))
    return draw_widths(images, chosen, torch.Generator().manual_seed(seed))


def width_passes(
    setup: StepSetup,
    images: Tensor,
    classes: Tensor,
    step: int,
    chosen: Sequence[int],
    drawn: Tensor | None,
    *,
    add: bool,
) -> dict[int, WidthLoss]:
    """Set or add to the gradients of the chosen widths; returns their losses.

    Args:
        images: uint8 [n, 3, H, W].
        classes: int64 [n].
        drawn: what `draw` returns.
        add: add to the gradients of the micro-batches before, instead of replacing those of the last step.
    """
    full, section = len(setup.widths) - 1, setup.recipe.loss
    wider, widest = None, None
    if full not in setup.trained and (needs_widest(section) or needs_soft_targets(section)):
        with torch.no_grad():
            wider = widest = _forward(setup, images, full)
    averaged = _averaged(setup, images) if min(chosen) < full else None
    # The contrastive term needs the features of all widths at once; without it one width is in memory at a time.
    together = {} if drawn is None else {index: _forward(setup, images, index) for index in chosen}
    mixed = None if drawn is None else mixed_gradients(together, drawn, classes, section.contrastive_temperature)
    losses: dict[int, WidthLoss] = {}
    for index in reversed(chosen):  # widest first: the losses of narrower widths refer to wider ones
        width = setup.widths[index]
        features = together.pop(index) if together else _forward(setup, images, index)
        soft = averaged
        if section.reference == "next-wider" and wider is not None and index < full:
            soft = soft_targets_of(wider, width.classifier)
        loss, uncertainty = _loss(setup, features, images, classes, index, widest, step, soft)
        if mixed is not None:
            loss = loss + section.contrastive * _towards(features, mixed[1][index], mixed[0])
        used = [*width.leading.values(), *setup.uncropped]
        found = torch.autograd.grad(loss, [*used, *width.private], materialize_grads=True)
        setup.gradients.put(setup.trained.index(index), list(found[: len(used)]), add=add)
        for parameter, gradient in zip(width.private, found[len(used) :], strict=True):
            parameter.grad = parameter.grad + gradient if add and parameter.grad is not None else gradient
        losses[index] = WidthLoss(loss.detach(), uncertainty)
        wider = features.detach()
        widest = wider if index == full else widest
    return losses


def _forward(setup: StepSetup, images: Tensor, index: int) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=setup.recipe.optimiser.bf16):
        features: Tensor = setup.forward(setup.state.family, setup.widths[index].leading, (images, index))
    return features


def _averaged(setup: StepSetup, images: Tensor) -> SoftTargets | None:
    """The soft targets of the widest width in the averaged weights; None where the recipe wants others."""
    if setup.recipe.loss.reference != "average":
        return None
    family, classifier = setup.state.result()
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=setup.recipe.optimiser.bf16):
        features = family(images, len(setup.widths) - 1)
    return soft_targets_of(features, classifier_of(classifier, len(setup.widths) - 1))


def _towards(features: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
    """A scalar of this value and of this gradient by the features."""
    slope = (single_precision(features) * gradient).sum()
    return value + slope - slope.detach()


def _loss(
    setup: StepSetup,
    features: Tensor,
    images: Tensor,
    classes: Tensor,
    index: int,
    widest: Tensor | None,
    step: int,
    soft: SoftTargets | None,
) -> WidthLoss:
    recipe, teacher = setup.recipe, setup.teacher
    kappa, full = setup.widths[index].classifier, index == len(setup.widths) - 1
    loss, uncertainty = width_loss(
        features, classes, kappa, full=full, widest=widest, step=step, section=recipe.loss, soft=soft
    )
    if recipe.teacher is not None and teacher is not None:
        if recipe.teacher.classify:
            loss = loss + recipe.teacher.classify * nn.functional.cross_entropy(
                teacher.classifier(features), classes
            )
        if recipe.teacher.distil:
            loss = loss + recipe.teacher.distil * teacher.distance(features, images, recipe.widths[index])
    return WidthLoss(loss, uncertainty)
