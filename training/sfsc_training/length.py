"""How long a training is: its batches, and its steps where a small data set limits them."""

import math

from sfsc_training.config import Recipe
from sfsc_training.data.sampling import sampling_unit

__all__ = ["FEWEST_STEPS", "batch_size", "with_length"]

FEWEST_STEPS = 300  # that optimiser.passes leaves: fewer teach little, however few the images are


def batch_size(recipe: Recipe, images: int) -> int:
    """Images per step: those of the recipe, or fewer where the training split has fewer."""
    unit = recipe.optimiser.micro_batches * sampling_unit(recipe.sampler)
    return min(recipe.optimiser.batch, images // unit * unit)


def with_length(recipe: Recipe, images: int) -> Recipe:
    """The recipe with the steps that it takes for so many training images (optimiser.passes)."""
    section, batch = recipe.optimiser, batch_size(recipe, images)
    if section.passes is None or batch == 0:
        return recipe
    steps = min(section.steps, max(FEWEST_STEPS, math.ceil(section.passes * images / batch)))
    return recipe.model_copy(update={"optimiser": section.model_copy(update={"steps": steps})})
