"""Whether the parts of a recipe fit together: found out before any image is read."""

from pathlib import Path

from sfsc_training.checkpoint import has_checkpoint, read_recipe
from sfsc_training.config import Recipe, network_differences
from sfsc_training.data.augmentation import GrowingAugmentation
from sfsc_training.errors import CheckpointError, NetworkError
from sfsc_training.networks.build import check_widths, make_family
from sfsc_training.teacher import check_teacher

__all__ = ["check_parts"]


def check_parts(recipe: Recipe, teacher: Path | None) -> None:
    """Build the network of a recipe once, and compare it with the run that it starts from and with its teacher.

    Raises:
        CheckpointError: one of these runs cannot be used, or has another network; the message names the keys.
        NetworkError: the network cannot be built, its weights have another layout, or a width does not run.
        RecipeError: the recipe needs a teacher and there is none, or the other way round.
    """
    check_teacher(teacher, recipe)
    start = recipe.network.start
    for key, run in (("network.start", start), ("--teacher", teacher)):
        if run is not None and not has_checkpoint(run):
            raise CheckpointError(
                f"{key}: the run in {run} has no checkpoint: its training ended before the first"
            )
    if start is not None:
        differing = network_differences(read_recipe(start), recipe)
        if differing:
            raise CheckpointError(f"network.start: the run in {start} has another network: {differing}")
    family, data = make_family(recipe.network, recipe.widths), recipe.data
    check_widths(family, recipe.widths, data.height, data.width)
    stages = GrowingAugmentation(recipe.augmentation, data.height, data.width, recipe.optimiser.steps).sizes
    for height, width in sorted(set(stages[:-1])):
        try:
            check_widths(family, recipe.widths, height, width)
        except NetworkError as error:
            raise NetworkError(f"augmentation.growing: {error}") from error
